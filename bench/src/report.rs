//! Medians, ratios, and whether they are what they are to be.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    bout::Found,
    metric::Metric,
    rival::{Kind, Rival},
    scenario::{self, Scenario, Target, Yardstick},
};

mod plot;
mod table;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) scenario: &'static Scenario,
    pub(crate) rival: Kind,
    pub(crate) found: Found,
}

/// A run's results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    /// Of this tree, with `-dirty` if it has changes.
    revision: String,
    kernel: String,
    processor: String,
    cores: usize,
    memory: String,
    rounds: usize,
    seconds: f64,
    versions: BTreeMap<&'static str, String>,
    rows: Vec<Row>,
}

/// A scenario's results.
#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    about: &'static str,
    proxies: BTreeMap<Kind, Figures>,
    targets: Vec<Judged>,
}

/// What was measured of one proxy, over the rounds.
type Figures = BTreeMap<Metric, Spread>;

/// A target, and what came of it.
#[derive(Debug, Clone, Serialize)]
struct Judged {
    target: String,
    metric: Metric,
    #[serde(skip)]
    of: Yardstick,
    at_most: f64,
    /// None if what it compares with was not measured.
    #[serde(flatten)]
    ratio: Option<Ratio>,
    verdict: Verdict,
}

/// Ours to what it is compared with; with a fixed target, ours as it is.
#[derive(Debug, Clone, Copy, Serialize)]
struct Ratio {
    by_medians: f64,
    by_minima: f64,
}

/// Whether a target is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// By the minima, which are of the quiet machine.
    Met,
    /// By the medians, and the minima are within 1.3 times of it.
    MetByMedians,
    Missed,
    /// What it compares with did not run.
    NotMeasured,
}

/// Median, least and most over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(rivals: &[Rival], rounds: usize, length: Duration, measured: &[Measured]) -> Self {
        let processor = first_line("/proc/cpuinfo", "model name");
        let versions = rivals.iter().map(|rival| (rival.kind.name(), rival.version.clone()));
        Self {
            command: command(),
            revision: revision().unwrap_or_else(|| "unknown".to_owned()),
            kernel: first_line("/proc/version", ""),
            processor: processor.split_once(": ").map_or("", |(_, name)| name).to_owned(),
            cores: fs::read_to_string("/proc/cpuinfo").map_or(0, |text| text.matches("model name").count()),
            memory: first_line("/proc/meminfo", "MemTotal")
                .replace("MemTotal:", "")
                .trim()
                .to_owned(),
            rounds,
            seconds: length.as_secs_f64(),
            versions: versions.collect(),
            rows: scenario::all()
                .filter_map(|scenario| Row::new(scenario, measured))
                .collect(),
        }
    }

    /// Writes the table, the figures as JSON and the plots.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let file = |name: &str, text: String| {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| file.display().to_string())
        };
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        file("report.txt", self.to_string())?;
        file("report.json", serde_json::to_string_pretty(self)? + "\n")?;
        plot::write(self, directory)
    }
}

/// What to type for the same again.
fn command() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo run --release -p bench -- {}", arguments.join(" "))
}

fn revision() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first line of a file that begins so.
fn first_line(file: &str, beginning: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(beginning));
    line.unwrap_or_default().to_owned()
}

impl Row {
    /// None if the scenario did not run.
    fn new(scenario: &'static Scenario, measured: &[Measured]) -> Option<Self> {
        let proxies: BTreeMap<_, _> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, figures(scenario, kind, measured)))
            .filter(|(_, figures)| !figures.is_empty())
            .collect();
        (!proxies.is_empty()).then(|| Self {
            scenario: scenario.name,
            about: scenario.about,
            proxies,
            targets: scenario
                .targets
                .iter()
                .map(|target| Judged::new(scenario, target, measured))
                .collect(),
        })
    }
}

/// What was measured of a proxy in a scenario; empty if nothing was.
fn figures(scenario: &Scenario, kind: Kind, measured: &[Measured]) -> Figures {
    let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    let mine = measured
        .iter()
        .filter(|one| one.scenario.name == scenario.name && one.rival == kind);
    for (metric, value) in mine.flat_map(|one| &one.found) {
        values.entry(*metric).or_default().push(*value);
    }
    values
        .into_iter()
        .map(|(metric, values)| (metric, Spread::new(values)))
        .collect()
}

impl Judged {
    fn new(scenario: &'static Scenario, target: &Target, measured: &[Measured]) -> Self {
        let figure = |scenario: &Scenario, kind| figures(scenario, kind, measured).get(&target.metric).copied();
        let ours = figure(scenario, Kind::Sallyport);
        let yardstick = match target.of {
            Yardstick::Rival(kind) => figure(scenario, kind),
            Yardstick::Own(name) => scenario::named(name).and_then(|other| figure(other, Kind::Sallyport)),
        };
        let ratio = ours.zip(yardstick).map(|(ours, yardstick)| Ratio::new(ours, yardstick));
        Self {
            target: target.to_string(),
            metric: target.metric,
            of: target.of,
            at_most: target.at_most,
            ratio,
            verdict: ratio.map_or(Verdict::NotMeasured, |ratio| verdict(ratio, target.at_most)),
        }
    }
}

impl Ratio {
    fn new(ours: Spread, yardstick: Spread) -> Self {
        Self {
            by_medians: ours.median / yardstick.median,
            by_minima: ours.min / yardstick.min,
        }
    }
}

/// The machine's noise slows, never speeds: minima are nearest to the truth, and medians count if minima do not contradict them.
fn verdict(ratio: Ratio, target: f64) -> Verdict {
    if ratio.by_minima <= target {
        Verdict::Met
    } else if ratio.by_medians <= target && ratio.by_minima <= target * 1.3 {
        Verdict::MetByMedians
    } else {
        Verdict::Missed
    }
}

impl Spread {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => at(middle),
            _ => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        };
        Self {
            median,
            min: at(0),
            max: at(values.len().saturating_sub(1)),
        }
    }
}

/// A count as a divisor or a figure.
#[allow(clippy::cast_precision_loss)] // counts of a run are far below 2^52
pub(crate) fn count(units: u64) -> f64 {
    units as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn judged(by_medians: f64, by_minima: f64, expected: Verdict) {
        assert_eq!(verdict(Ratio { by_medians, by_minima }, 0.5), expected);
    }

    #[test]
    fn minima_decide_and_medians_may_help() {
        judged(0.9, 0.5, Verdict::Met);
        judged(0.5, 0.65, Verdict::MetByMedians);
        judged(0.5, 0.66, Verdict::Missed);
        judged(0.51, 0.51, Verdict::Missed);
        judged(f64::NAN, f64::NAN, Verdict::Missed);
    }

    #[test]
    fn a_spread_is_of_odd_and_even_numbers_of_rounds() {
        let spread = |values: &[f64]| {
            let spread = Spread::new(values.to_vec());
            [spread.median, spread.min, spread.max]
        };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [2.0, 1.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), [2.5, 1.0, 4.0]);
    }
}
