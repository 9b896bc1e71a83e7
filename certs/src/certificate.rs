//! What an X.509 certificate says, in the words that logs, headers and policies use.
//!
//! Reading is not trusting: nothing here checks a signature. Parsing is strict about structure (trailing bytes, a
//! duplicated extension, a name that is not text are errors), since a certificate read in two ways is two certificates.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    time::ASN1Time,
    x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name},
};

use crate::{crypto, pem::certificate_pem};

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    /// Distinguished name of the holder in the text form of RFC 2253, most specific part first. SVIDs leave it empty.
    pub subject: String,
    /// Distinguished name of the signer, in the same form.
    pub issuer: String,
    /// Serial number: lower-case hexadecimal, no separators.
    pub serial: String,
    /// Start of validity, inclusive.
    pub not_before: SystemTime,
    /// End of validity, inclusive.
    pub not_after: SystemTime,
    /// URI subject alternative names, in order.
    pub uri_sans: Vec<String>,
    /// DNS subject alternative names, in order, as written.
    pub dns_sans: Vec<String>,
    /// IP address subject alternative names, in order.
    pub ip_sans: Vec<IpAddr>,
    /// Basic constraints say that it may sign certificates.
    pub is_ca: bool,
    /// What the key may be used for; `None` when the certificate does not say.
    pub key_usage: Option<KeyUsage>,
    /// The subject's public key: DER of its `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

/// The bits of the key usage extension (RFC 5280, 4.2.1.3) that matter to an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// Signing handshakes.
    pub digital_signature: bool,
    /// Signing certificates.
    pub cert_sign: bool,
    /// Signing revocation lists.
    pub crl_sign: bool,
}

/// A certificate could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not an X.509 certificate, or one with a malformed part.
    #[error("not a readable X.509 certificate: {0}")]
    Malformed(String),
    /// Bytes follow the certificate.
    #[error("{0} bytes follow the end of the certificate")]
    TrailingBytes(usize),
    /// A subject alternative name is not printable text or not an address.
    #[error("a subject alternative name of the certificate is malformed")]
    MalformedName,
    /// The validity is outside what the system clock can express.
    #[error("the certificate's validity is not a representable time")]
    Time,
}

impl Certificate {
    /// Reads a certificate.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(der).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::TrailingBytes(rest.len()));
        }
        let mut certificate = Self {
            der: der.clone().into_owned(),
            subject: distinguished_name(parsed.subject()),
            issuer: distinguished_name(parsed.issuer()),
            serial: hex(parsed.raw_serial()),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            uri_sans: Vec::new(),
            dns_sans: Vec::new(),
            ip_sans: Vec::new(),
            is_ca: parsed
                .basic_constraints()
                .map_err(malformed)?
                .is_some_and(|extension| extension.value.ca),
            key_usage: key_usage(&parsed)?,
            public_key: parsed.public_key().raw.to_vec(),
        };
        if let Some(names) = parsed.subject_alternative_name().map_err(malformed)? {
            names
                .value
                .general_names
                .iter()
                .try_for_each(|name| certificate.add_name(name))?;
        }
        Ok(certificate)
    }

    /// Lower-case hexadecimal SHA-256 of the DER form, as `x-forwarded-client-cert` and access logs carry it.
    pub fn fingerprint(&self) -> String {
        hex(&crypto::sha256(&self.der))
    }

    /// PEM form, ending in a line feed.
    pub fn pem(&self) -> String {
        certificate_pem(&self.der)
    }

    /// Whether the validity includes `now`.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) -> Result<(), CertificateError> {
        match name {
            GeneralName::URI(uri) => self.uri_sans.push(printable(uri)?),
            GeneralName::DNSName(name) => self.dns_sans.push(printable(name)?),
            GeneralName::IPAddress(octets) => self.ip_sans.push(ip(octets)?),
            GeneralName::Invalid(..) => return Err(CertificateError::MalformedName),
            // Names of people, of directories and of other things identify nobody here.
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
        Ok(())
    }
}

/// No name of a host or workload has line ends or other control characters; one that has is meant to be taken for something
/// else by whoever reads it in a log or header.
fn printable(name: &str) -> Result<String, CertificateError> {
    let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    printable
        .then(|| name.to_owned())
        .ok_or(CertificateError::MalformedName)
}

fn malformed(error: impl std::fmt::Display) -> CertificateError {
    CertificateError::Malformed(error.to_string())
}

fn key_usage(parsed: &X509Certificate<'_>) -> Result<Option<KeyUsage>, CertificateError> {
    let extension = parsed.key_usage().map_err(malformed)?;
    Ok(extension.map(|extension| KeyUsage {
        digital_signature: extension.value.digital_signature(),
        cert_sign: extension.value.key_cert_sign(),
        crl_sign: extension.value.crl_sign(),
    }))
}

fn ip(octets: &[u8]) -> Result<IpAddr, CertificateError> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(octets).map_err(|_| CertificateError::MalformedName)?;
    Ok(Ipv6Addr::from(octets).into())
}

fn time(time: ASN1Time) -> Result<SystemTime, CertificateError> {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or(CertificateError::Time)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2253 writes a name from its last part to its first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter_rdn().map(relative_name).collect();
    parts.reverse();
    parts.join(",")
}

fn relative_name(name: &RelativeDistinguishedName<'_>) -> String {
    name.iter().map(attribute).collect::<Vec<_>>().join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    match (oid2abbrev(kind, oid_registry()), attribute.as_str()) {
        (Ok(short), Ok(text)) => format!("{short}={}", escaped(text)),
        // RFC 2253, 2.4: what has no short name or is not text is written in numbers.
        _ => format!("{}=#{}", kind.to_id_string(), hex(attribute.as_slice())),
    }
}

/// RFC 2253, 2.4. Control characters and what is not ASCII are written as bytes in hexadecimal, as OpenSSL does.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (character == ' ' && (at == 0 || at == last))
            || (character == '#' && at == 0);
        match character {
            ' '..='~' => escaped.extend(special.then_some('\\').into_iter().chain([character])),
            _ => escaped.extend(character.to_string().bytes().map(|byte| format!("\\{byte:02X}"))),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn parse(edit: impl FnOnce(&mut CertificateParams)) -> Result<Certificate, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        edit(&mut params);
        Certificate::parse(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn names_are_sorted_by_kind_and_keep_their_order() {
        let certificate = parse(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("B.example".try_into().unwrap()),
                SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()),
                SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
                SanType::Rfc822Name("a@example.com".try_into().unwrap()),
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            ];
        })
        .unwrap();
        assert_eq!(certificate.uri_sans, ["spiffe://td/ns/a/sa/b"]);
        assert_eq!(certificate.dns_sans, ["B.example", "a.example"]);
        assert_eq!(
            certificate.ip_sans,
            [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()]
        );
    }

    #[test]
    fn the_subject_is_written_as_rfc_2253_has_it() {
        let certificate = parse(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "A, B+C");
            params.distinguished_name.push(DnType::CommonName, "#1 ");
        })
        .unwrap();
        assert_eq!(certificate.subject, "CN=\\#1\\ ,O=A\\, B\\+C");
        assert_eq!(parse(|_| {}).unwrap().subject, "");
    }

    #[test]
    fn nothing_in_a_certificate_can_begin_a_line_or_move_a_cursor() {
        let subject = |name: &str| parse(|params| params.distinguished_name.push(DnType::CommonName, name));
        assert_eq!(subject("a\nb\u{1b}[2J").unwrap().subject, "CN=a\\0Ab\\1B[2J");
        assert_eq!(subject("Zürich").unwrap().subject, "CN=Z\\C3\\BCrich");
        let named = |san| parse(|params| params.subject_alt_names = vec![san]);
        for name in ["a.test\nb", "a.test\0.b", "a\u{7f}"] {
            let dns = SanType::DnsName(name.try_into().unwrap());
            let uri = SanType::URI(name.try_into().unwrap());
            assert_eq!(named(dns), Err(CertificateError::MalformedName), "{name:?}");
            assert_eq!(named(uri), Err(CertificateError::MalformedName), "{name:?}");
        }
    }

    #[test]
    fn structure_is_strict() {
        let good = parse(|_| {}).unwrap();
        let mut longer = good.der.to_vec();
        longer.push(0);
        assert_eq!(
            Certificate::parse(&longer.into()),
            Err(CertificateError::TrailingBytes(1))
        );
        for cut in 0..good.der.len() {
            assert!(Certificate::parse(&good.der[..cut].into()).is_err(), "{cut}");
        }
    }

    #[test]
    fn pem_form_reads_back() {
        use rustls::pki_types::pem::PemObject;
        let certificate = parse(|_| {}).unwrap();
        assert!(certificate.pem().ends_with("-----END CERTIFICATE-----\n"));
        assert_eq!(
            CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap(),
            certificate.der
        );
    }
}
