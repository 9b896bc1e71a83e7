//! `sallyport demo`.

use std::{io, process::ExitCode};

use crate::{
    demo::{self, Options},
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

Needs no root, no network and no free port in particular: everything runs in this process, on loopback.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Leave everything running afterwards and print curl commands to play with
    #[arg(long)]
    keep: bool,
    /// Wait for enter before each step
    #[arg(long)]
    pause: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        keep: args.keep,
        pause: args.pause,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let holds = runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let stdout = io::stdout();
        demo::run(options, stdout.lock(), Style::of(&stdout), &mut shutdown).await
    });
    // Somebody may still be waiting for enter.
    runtime.shutdown_background();
    Ok(if holds? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
