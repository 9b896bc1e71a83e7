//! `sallyport certs show`.

use std::{fs, io::Write, path::Path, time::SystemTime};

use ::certs::{Certificate, files};
use anyhow::{Context as _, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

/// Shows what `path` holds.
pub(super) fn run(path: &Path, as_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let file = if path.is_dir() {
        path.join(files::CERT_CHAIN)
    } else {
        path.to_owned()
    };
    let certificates = read(&file).with_context(|| file.display().to_string())?;
    let now = SystemTime::now();
    if as_json {
        let all: Vec<_> = certificates.iter().map(|certificate| facts(certificate, now)).collect();
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)?;
    } else {
        for certificate in &certificates {
            text(certificate, now, out)?;
        }
    }
    Ok(())
}

/// A time as RFC 3339 has it.
pub(super) fn time(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "a time beyond the year 9999".to_owned(),
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let pem = fs::read(file)?;
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        certificates.push(Certificate::parse(&der.context("damaged PEM text")?)?);
    }
    ensure!(
        !certificates.is_empty(),
        "there is no certificate in it, expected PEM text"
    );
    Ok(certificates)
}

fn names(certificate: &Certificate) -> Vec<String> {
    let addresses = certificate.ip_sans.iter().map(ToString::to_string);
    let texts = certificate.uri_sans.iter().chain(&certificate.dns_sans).cloned();
    texts.chain(addresses).collect()
}

fn state(certificate: &Certificate, now: SystemTime) -> &'static str {
    if certificate.is_valid_at(now) {
        "valid"
    } else if now < certificate.not_before {
        "not yet valid"
    } else {
        "expired"
    }
}

fn facts(certificate: &Certificate, now: SystemTime) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": names(certificate),
        "ca": certificate.is_ca,
        "serial": certificate.serial,
        "sha256": certificate.fingerprint(),
        "not_before": time(certificate.not_before),
        "not_after": time(certificate.not_after),
        "state": state(certificate, now),
    })
}

fn text(certificate: &Certificate, now: SystemTime, out: &mut dyn Write) -> std::io::Result<()> {
    let kind = if certificate.is_ca {
        "CA certificate"
    } else {
        "certificate"
    };
    let names = names(certificate);
    let name = names.first().unwrap_or(&certificate.subject);
    writeln!(out, "{kind} of {name}")?;
    for more in names.iter().skip(1) {
        writeln!(out, "  also     {more}")?;
    }
    writeln!(out, "  issuer   {}", certificate.issuer)?;
    let (from, until) = (time(certificate.not_before), time(certificate.not_after));
    writeln!(out, "  validity {from} to {until}, {}", state(certificate, now))?;
    writeln!(out, "  serial   {}", certificate.serial)?;
    writeln!(out, "  sha256   {}", certificate.fingerprint())
}
