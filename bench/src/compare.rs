//! `bench compare`: rounds over the rivals of each scenario in turn.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    bout::Bout,
    process,
    report::{Measured, Report},
    rival::{Kind, Rival},
    scenario::{self, Scenario},
    stage::Stage,
    upstream::Upstream,
};

/// Length of a measurement in a smoke run.
const QUICK: Duration = Duration::from_millis(500);

/// Compares Sallyport and its rivals
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scenarios to run, by name, group or beginning of a name [default: all; `bench list` tells them]
    #[arg(value_name = "SCENARIO", value_parser = known)]
    scenarios: Vec<String>,
    /// One short round of every scenario made small: shows that everything works, figures mean little
    #[arg(long)]
    quick: bool,
    /// Rounds; medians are over these
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    seconds: u64,
    /// Leave a rival out, for instance because it is not installed
    #[arg(long, value_name = "NAME", value_enum)]
    without: Vec<Kind>,
    /// Write the results into this directory: report.txt, report.json and plots
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

fn known(word: &str) -> Result<String, String> {
    match scenario::picked(word).is_empty() {
        false => Ok(word.to_owned()),
        true => {
            let names: Vec<_> = scenario::all().map(|scenario| scenario.name).collect();
            Err(format!("no scenario {word:?}; there are {}", names.join(", ")))
        }
    }
}

impl Args {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    fn length(&self) -> Duration {
        if self.quick {
            QUICK
        } else {
            Duration::from_secs(self.seconds.max(1))
        }
    }

    /// The scenarios that are picked, each once, in their order.
    fn wanted(&self) -> Vec<&'static Scenario> {
        let picked: Vec<_> = self.scenarios.iter().flat_map(|word| scenario::picked(word)).collect();
        let wanted = |scenario: &&Scenario| picked.is_empty() || picked.iter().any(|one| one.name == scenario.name);
        scenario::all().filter(wanted).collect()
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = args.wanted();
    let needed = |kind: &Kind| match kind {
        Kind::Sallyport => true,
        _ => !args.without.contains(kind) && wanted.iter().any(|scenario| scenario.rivals.contains(kind)),
    };
    let rivals = Kind::ALL.into_iter().filter(needed).map(Rival::find);
    let rivals: Vec<_> = rivals.collect::<anyhow::Result<_>>()?;
    process::pin_load()?;
    let measured = Runner::new(args, &wanted, &rivals)?.all()?;
    let report = Report::new(&rivals, args.rounds(), args.length(), &measured);
    print!("{report}");
    if let Some(directory) = &args.results {
        report.write(directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs what is wanted.
struct Runner<'a> {
    args: &'a Args,
    wanted: &'a [&'static Scenario],
    rivals: &'a [Rival],
    runtime: tokio::runtime::Runtime,
    progress: ProgressBar,
}

impl<'a> Runner<'a> {
    fn new(args: &'a Args, wanted: &'a [&'static Scenario], rivals: &'a [Rival]) -> anyhow::Result<Self> {
        let bouts: usize = wanted
            .iter()
            .map(|scenario| taking_part(scenario, rivals).count())
            .sum();
        Ok(Self {
            args,
            wanted,
            rivals,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            progress: progress(bouts * args.rounds()),
        })
    }

    fn all(&self) -> anyhow::Result<Vec<Measured>> {
        let mut measured = Vec::new();
        for scenario in self.wanted {
            let rounds = self.runtime.block_on(self.scenario(scenario));
            measured.extend(rounds.with_context(|| format!("scenario {}", scenario.name))?);
        }
        self.progress.finish_and_clear();
        Ok(measured)
    }

    /// Rounds over the rivals: what changes on the machine meets them all.
    async fn scenario(&self, scenario: &'static Scenario) -> anyhow::Result<Vec<Measured>> {
        let setup = if self.args.quick {
            scenario.setup.quick()
        } else {
            scenario.setup
        };
        let upstream = Upstream::bind().await?;
        let stage = Stage::new(setup, upstream.ports()?)?;
        let _upstream = upstream.serve(Arc::clone(&stage.site))?;
        let mut measured = Vec::new();
        for round in 1..=self.args.rounds() {
            for rival in taking_part(scenario, self.rivals) {
                let name = rival.kind.name();
                self.say(format!("{} through {name}, round {round}", scenario.name));
                let length = self.args.length();
                let bout = Bout {
                    scenario,
                    rival,
                    stage: &stage,
                    length,
                };
                let found = bout.measure().await.with_context(|| format!("through {name}"))?;
                measured.push(Measured {
                    scenario,
                    rival: rival.kind,
                    found,
                });
                self.progress.inc(1);
            }
        }
        Ok(measured)
    }

    /// Where there is no terminal, a line each.
    #[allow(clippy::print_stderr)] // progress, apart from the table on standard output
    fn say(&self, what: String) {
        if self.progress.is_hidden() {
            eprintln!("{what}");
        }
        self.progress.set_message(what);
    }
}

fn taking_part<'a>(scenario: &'static Scenario, rivals: &'a [Rival]) -> impl Iterator<Item = &'a Rival> {
    let takes_part = |rival: &&Rival| rival.kind == Kind::Sallyport || scenario.rivals.contains(&rival.kind);
    rivals.iter().filter(takes_part)
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
