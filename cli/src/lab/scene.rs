//! The web sites and the name server of the lab as programs of their own, on the addresses of the network they are started in.
//!
//! Both write `ready` to standard error when they serve; changes of scene come back there when they are done. For each request
//! that arrives the sites write a line to standard output: the host that was asked.

use std::{
    fs,
    future::pending,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use certs::{Identity, files};
use gateway::network::Kernel;
use mesh::host::Host;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{
    cluster,
    dns::{Answer, NameServer},
    outside::{Outside, Site},
    pki::PublicCa,
};

/// What is written when a program serves.
pub(super) const READY: &str = "ready";

/// Answers for ever: for these names, or if there are none for those of the sites.
///
/// # Errors
/// The address cannot be had.
pub(crate) async fn names(address: SocketAddr, names: &[(Host, Ipv4Addr)]) -> anyhow::Result<()> {
    let server = NameServer::start_at(address)
        .await
        .with_context(|| address.to_string())?;
    if names.is_empty() {
        cluster::publish(server.zone());
    }
    for (name, address) in names {
        server.zone().set(name.as_str(), Answer::Addresses(vec![*address]));
    }
    confirm(READY);
    pending().await
}

/// Runs one site, for ever, on every address of this host, with the credentials of a directory.
///
/// # Errors
/// There is no such site, an address cannot be had, or the directory holds no credentials.
pub(crate) async fn site(host: &str, credentials: &Path) -> anyhow::Result<()> {
    let identity = Identity::load(&credentials.join(files::CERT_CHAIN), &credentials.join(files::KEY))?;
    let site = cluster::site_at(host, Ipv4Addr::UNSPECIFIED.into(), identity).with_context(|| {
        format!(
            "{host}: no such site, only {}",
            cluster::hosts().collect::<Vec<_>>().join(", ")
        )
    })?;
    let _running = Outside::start(|_| Arc::new(Kernel), [reporting(site)])?;
    confirm(READY);
    pending().await
}

/// Runs the sites until the end of standard input, and writes their CA's root to the file `roots`.
///
/// A line `impostor HOST` or `genuine HOST` on standard input changes who runs a site.
///
/// # Errors
/// An address cannot be had, the file cannot be written, or a line is none of these.
pub(crate) async fn sites(roots: &Path) -> anyhow::Result<()> {
    let (ca, nobody) = (PublicCa::new("Outside Root")?, PublicCa::new("Nobody")?);
    let sites = cluster::sites(&ca)?.into_iter().map(reporting);
    let outside = Outside::start(|_| Arc::new(Kernel), sites)?;
    fs::write(roots, ca.authority().root_pem()).with_context(|| roots.display().to_string())?;
    confirm(READY);
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        match command.split_once(' ') {
            Some(("impostor", host)) => outside.show(host, nobody.certify(host)?),
            Some(("genuine", host)) => outside.show(host, ca.certify(host)?),
            _ => bail!("{command:?} is not impostor HOST or genuine HOST"),
        }
        confirm(&command);
    }
    Ok(())
}

/// The same site, saying when it is asked something.
fn reporting(site: Site) -> Site {
    let (host, page) = (site.host, site.page);
    Site {
        page: Arc::new(move |peer, request| {
            say(std::io::stdout().lock(), host);
            page(peer, request)
        }),
        ..site
    }
}

fn confirm(line: &str) {
    say(std::io::stderr().lock(), line);
}

/// Writes a line. Whoever started us and no longer listens is not missed.
fn say(mut out: impl Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
