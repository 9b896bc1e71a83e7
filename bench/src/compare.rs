//! `bench compare`: rounds of every scenario for every proxy in turn.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    load::{PATIENCE, Running},
    process::{self, Process},
    report::{self, Measured},
    rival::{Kind, Rival},
    scenario::{self, Scenario},
    stage::Stage,
    upstream::Upstream,
};

/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(2);

/// Compares Sallyport and its rivals
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scenarios to run [default: all; `bench list` is below]
    #[arg(value_name = "SCENARIO", value_parser = scenario_name)]
    scenarios: Vec<String>,
    /// One short round: shows that everything works, figures mean little
    #[arg(long)]
    quick: bool,
    /// Rounds; medians are over these
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    seconds: u64,
    /// Write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn scenario_name(text: &str) -> Result<String, String> {
    match scenario::ALL.iter().any(|scenario| scenario.name == text) {
        true => Ok(text.to_owned()),
        false => {
            let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
            Err(format!("no scenario {text:?}; there are {}", names.join(", ")))
        }
    }
}

impl Args {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    fn length(&self) -> Duration {
        if self.quick {
            Duration::from_millis(1500)
        } else {
            Duration::from_secs(self.seconds.max(1))
        }
    }

    fn wanted(&self) -> impl Iterator<Item = &'static Scenario> {
        let wanted =
            |scenario: &&Scenario| self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name);
        scenario::ALL.iter().filter(wanted)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let rivals: Vec<Rival> = Kind::ALL.into_iter().map(Rival::find).collect::<anyhow::Result<_>>()?;
    process::pin_load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measured = Vec::new();
    let pairs = || {
        args.wanted().flat_map(|scenario| {
            rivals
                .iter()
                .filter(|rival| takes_part(scenario, rival))
                .map(move |rival| (scenario, rival))
        })
    };
    let progress = progress(pairs().count() * args.rounds());
    for round in 0..args.rounds() {
        for (scenario, rival) in pairs() {
            progress.set_message(format!(
                "round {}: {} through {}",
                round + 1,
                scenario.name,
                rival.kind.name()
            ));
            let one = runtime.block_on(measure(scenario, rival, args.length()));
            measured.push(one.with_context(|| format!("{} through {}", scenario.name, rival.kind.name()))?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let report = report::Report::new(&rivals, args.rounds(), args.length(), &measured);
    print!("{report}");
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?).with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn takes_part(scenario: &Scenario, rival: &Rival) -> bool {
    matches!(rival.kind, Kind::Sallyport | Kind::Envoy) || scenario.others.contains(&rival.kind.name())
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One proxy, one scenario, once.
async fn measure(scenario: &'static Scenario, rival: &Rival, length: Duration) -> anyhow::Result<Measured> {
    let upstream = Upstream::bind().await?;
    let (plain, secure) = upstream.ports()?;
    let stage = Stage::new(scenario, plain, secure)?;
    let _upstream = upstream.serve(std::sync::Arc::clone(&stage.site))?;
    let log = stage.path("proxy.log");
    let began = Instant::now();
    let mut proxy = Process::start(rival.command(&stage)?, &log)?;
    listening(&mut proxy, &stage, &log).await?;
    let ready = began.elapsed();
    let mut load = Running::start(scenario.load, &stage)?;
    going(&mut load, &mut proxy, &log).await?;
    // Connections are made, pools are filled, branch predictors know the way.
    sleep(length / 4).await;
    load.measure()?;
    let (units, cpu, began) = (load.units(), proxy.cpu()?, Instant::now());
    sleep(length).await;
    let (units, cpu, took) = (load.units() - units, proxy.cpu()? - cpu, began.elapsed());
    load.check()?;
    let memory = proxy.memory();
    let latencies = load.stop().await?;
    Ok(Measured {
        scenario,
        rival: rival.kind,
        units,
        cpu,
        took,
        memory,
        ready,
        p50: Duration::from_micros(latencies.value_at_quantile(0.5)),
        p99: Duration::from_micros(latencies.value_at_quantile(0.99)),
    })
}

async fn listening(proxy: &mut Process, stage: &Stage, log: &std::path::Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(stage.mutual()).await.is_err() {
        proxy.alive(log)?;
        if Instant::now() > deadline {
            bail!("it does not listen in time");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

async fn going(load: &mut Running, proxy: &mut Process, log: &std::path::Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while load.units() == 0 {
        load.check()?;
        proxy.alive(log)?;
        if Instant::now() > deadline {
            bail!("nothing gets through in time");
        }
        sleep(LOOK).await;
    }
    Ok(())
}
