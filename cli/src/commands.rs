//! The subcommands: one module each, with its arguments and what it does.
//!
//! Exit codes: 0 all is well, 1 what was asked for failed or does not hold, 2 the command line makes no sense.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::terminal::Style;

mod analyze;
mod bootstrap;
mod certs;
mod control;
mod demo;
mod duration;
mod gateway;
mod lab;
mod mesh;
mod proxy;
mod serving;
mod sidecar;

/// An egress gateway for service meshes: who may leave, where to, and what did.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Walk through the egress gateway tutorial and check every claim of it
    Demo(demo::Args),
    /// Serve a directory of Istio resources to gateways and sidecars
    Control(control::Args),
    /// The data plane as egress gateway
    Gateway(Box<gateway::Args>),
    /// The data plane beside an application, and what leads connections to it
    Sidecar(sidecar::Args),
    /// Check Istio resources: what is wrong, where, and what to do about it
    Analyze(analyze::Args),
    /// Write the file that an Envoy, or our gateway, starts from
    Bootstrap(bootstrap::Args),
    /// Create a mesh CA, issue and show identities
    Certs(certs::Args),
    /// Parts of the demo's surroundings
    #[command(hide = true)]
    Lab(lab::Args),
}

const EXAMPLES: &str = "\
Examples:
  sallyport demo
  sallyport analyze examples/tutorial
  sallyport certs init-ca ca --trust-domain cluster.local
  sallyport certs issue spiffe://cluster.local/ns/team-x/sa/test --ca ca --out team-x

Every subcommand explains itself: sallyport certs --help";

/// A command line that makes no sense, in a way that its grammar does not tell.
#[derive(Debug)]
struct Usage(&'static str);

impl std::error::Error for Usage {}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let stdout = io::stdout();
    let style = Style::of(&stdout);
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Control(args) => control::run(&args),
        // Not locked for as long as it runs: its access log goes there too.
        Command::Gateway(args) => gateway::run(&args, &mut io::stdout()),
        Command::Sidecar(args) => sidecar::run(&args),
        Command::Analyze(args) => analyze::run(&args, &mut stdout.lock(), style),
        Command::Bootstrap(args) => bootstrap::run(&args, &mut stdout.lock()),
        Command::Certs(args) => certs::run(&args, &mut stdout.lock()),
        Command::Lab(args) => lab::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            match error.is::<Usage>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Says what went wrong on one line. That standard error is gone is nothing we could report.
fn report(error: &anyhow::Error) {
    let style = Style::of(&io::stderr());
    let mut stderr = io::stderr().lock();
    let _ = io::Write::write_fmt(
        &mut stderr,
        format_args!("{} {}\n", style.bad("error:"), explain(error)),
    );
}

/// An error with everything that led to it. Many errors quote their cause already; what has been said is not said again.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_says_everything_once() {
        let error = anyhow::anyhow!("no such file")
            .context("a.pem: no such file")
            .context("no CA in x");
        assert_eq!(explain(&error), "no CA in x: a.pem: no such file");
    }

    /// The command lines that a help text shows, each as its words.
    fn shown(help: &str) -> Vec<Vec<String>> {
        let whole = help.replace("\\\n", " ");
        let lines = whole.lines().filter_map(|line| line.trim().strip_prefix("sallyport "));
        let words = |line: &str| {
            line.split(" | ")
                .next()
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        };
        lines.map(words).collect()
    }

    #[test]
    fn every_subcommand_shows_examples_that_work() {
        let mut cli = Cli::command();
        cli.build();
        let below = cli.get_subcommands().flat_map(clap::Command::get_subcommands);
        let explained = below.filter(|command| command.get_after_help().is_some());
        let helps = cli
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .chain(explained)
            .map(|command| {
                let help = command.get_after_help().map(ToString::to_string);
                (command.get_name().to_owned(), help.unwrap_or_default())
            });
        for (name, help) in helps.chain([("sallyport".to_owned(), EXAMPLES.to_owned())]) {
            let lines = shown(&help);
            assert!(!lines.is_empty(), "{name} has no example");
            for line in lines {
                // $POD_IP is the shell's to know.
                let words = line.iter().map(|word| word.replace("$POD_IP", "10.1.4.12"));
                let parsed = Cli::try_parse_from(["sallyport".to_owned()].into_iter().chain(words));
                let is_help = |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayHelp;
                assert!(
                    parsed.is_ok() || parsed.as_ref().is_err_and(is_help),
                    "{line:?}: {parsed:?}"
                );
            }
        }
    }
}
