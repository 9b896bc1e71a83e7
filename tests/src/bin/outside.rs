//! The web sites and the name server of the lab on real addresses, for tests in network namespaces.
//!
//! `outside names ADDRESS` answers for the names of the sites.
//!
//! `outside sites FILE` runs them: it writes their CA's root to FILE, and a line to standard output for each request that arrives,
//! the host that was asked. A line `impostor HOST` or `genuine HOST` on its standard input changes who runs a site.
//!
//! Both write `ready` to standard error when they serve; changes of scene come back there when they are done.

use std::{env, fs, future::pending, io::Write, net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use gateway::network::Kernel;
use sallyport::lab::{
    cluster,
    dns::NameServer,
    outside::{Outside, Site},
    pki::PublicCa,
};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sites", roots] => sites(roots).await,
        ["names", address] => names(address.parse()?).await,
        _ => bail!("usage: outside sites FILE | outside names ADDRESS"),
    }
}

async fn names(address: SocketAddr) -> anyhow::Result<()> {
    let server = NameServer::start_at(address)
        .await
        .with_context(|| address.to_string())?;
    cluster::publish(server.zone());
    confirm("ready");
    pending().await
}

async fn sites(roots: &str) -> anyhow::Result<()> {
    let (ca, nobody) = (PublicCa::new("Outside Root")?, PublicCa::new("Nobody")?);
    let sites = cluster::sites(&ca)?.into_iter().map(reporting);
    let outside = Outside::start(|_| Arc::new(Kernel), sites)?;
    fs::write(roots, ca.authority().root_pem()).with_context(|| roots.to_owned())?;
    confirm("ready");
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
