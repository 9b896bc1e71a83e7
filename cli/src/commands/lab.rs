//! `sallyport lab`: the parts of the demo's surroundings that run as programs of their own, in a network namespace or a container.
//! Not for people.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use mesh::host::Host;

use super::serving;
use crate::{
    lab::{handout, scene},
    shutdown::Shutdown,
};

const EXAMPLES: &str = "\
Examples:
  sallyport lab names 127.0.0.1:5300
  sallyport lab names 127.0.0.1:5300 example.com=203.0.113.34
  sallyport lab sites root.pem
  sallyport lab credentials pki
  sallyport lab site example.com --credentials pki/sites/example.com";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Answer for the names of the web sites
    Names {
        /// Where, UDP and TCP
        address: SocketAddr,
        /// Answer for these names instead
        #[arg(value_name = "HOST=ADDRESS", value_parser = name)]
        names: Vec<(Host, Ipv4Addr)>,
    },
    /// Run the web sites on their addresses, ports 80 and 443
    Sites {
        /// Where to write the root of their certificates
        roots: PathBuf,
    },
    /// Run one web site on every address, ports 80 and 443
    Site {
        /// Its name
        host: String,
        /// Directory with its cert-chain.pem and key.pem
        #[arg(long, value_name = "DIR")]
        credentials: PathBuf,
    },
    /// Write everybody's credentials, each below a directory of its own; those that are complete stay
    Credentials {
        /// The directory
        directory: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.part {
        Part::Credentials { directory } => handout::write(directory)?,
        Part::Sites { roots } => serving::block_on(scene::sites(roots))?,
        Part::Names { address, names } => until_stopped(scene::names(*address, names))?,
        Part::Site { host, credentials } => until_stopped(scene::site(host, credentials))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// As the first process of a container nobody is stopped by a signal that it does not handle.
fn until_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    serving::block_on(async {
        let mut shutdown = Shutdown::listen()?;
        tokio::select! {
            _ = shutdown.requested() => Ok(()),
            done = work => done,
        }
    })
}

fn name(text: &str) -> anyhow::Result<(Host, Ipv4Addr)> {
    let (host, address) = text
        .split_once('=')
        .with_context(|| format!("{text:?} is not HOST=ADDRESS"))?;
    let address = address
        .parse()
        .with_context(|| format!("{address:?} is no IPv4 address"))?;
    Ok((Host::parse(host)?, address))
}
