//! `sallyport lab`: the parts of the demo's surroundings that run as processes of their own, in a network namespace. Not for people.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::serving;
use crate::lab::scene;

const EXAMPLES: &str = "\
Examples:
  sallyport lab names 127.0.0.1:5300
  sallyport lab sites root.pem";

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
    },
    /// Run the web sites on their addresses, ports 80 and 443
    Sites {
        /// Where to write the root of their certificates
        roots: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    serving::block_on(async {
        match &args.part {
            Part::Names { address } => scene::names(*address).await,
            Part::Sites { roots } => scene::sites(roots).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
