//! Medians, ratios, and whether they are what they are to be.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::{
    rival::{Kind, Rival},
    scenario::{self, Scenario},
};

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) scenario: &'static Scenario,
    pub(crate) rival: Kind,
    pub(crate) units: u64,
    /// Processor time for them.
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
    /// Private memory under load, in bytes.
    pub(crate) memory: u64,
    /// From start to listening.
    pub(crate) ready: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// A run's results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    kernel: String,
    processor: String,
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
    target: f64,
    proxies: BTreeMap<&'static str, Figures>,
    /// Processor time per unit, ours to the rival's.
    ratios: BTreeMap<&'static str, Ratio>,
    /// Against Envoy.
    verdict: Verdict,
}

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
}

/// Median, least and most over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    cpu_us_per_unit: Spread,
    units_per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    memory_kib: Spread,
    ready_ms: Spread,
}

impl Report {
    pub(crate) fn new(rivals: &[Rival], rounds: usize, length: Duration, measured: &[Measured]) -> Self {
        let first = |file: &str, key: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.lines()
                .find(|line| line.starts_with(key))
                .unwrap_or_default()
                .to_owned()
        };
        let processor = first("/proc/cpuinfo", "model name");
        Self {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            kernel: first("/proc/version", ""),
            processor: processor.split_once(": ").map_or("", |(_, name)| name).to_owned(),
            rounds,
            seconds: length.as_secs_f64(),
            versions: rivals
                .iter()
                .map(|rival| (rival.kind.name(), rival.version.clone()))
                .collect(),
            rows: scenario::ALL
                .iter()
                .filter_map(|scenario| Row::new(scenario, measured))
                .collect(),
        }
    }
}

impl Row {
    fn new(scenario: &'static Scenario, measured: &[Measured]) -> Option<Self> {
        let of = |rival: Kind| {
            let mine = measured
                .iter()
                .filter(|one| one.scenario.name == scenario.name && one.rival == rival);
            let mine: Vec<_> = mine.collect();
            (!mine.is_empty()).then(|| (rival.name(), Figures::new(&mine)))
        };
        let proxies: BTreeMap<_, _> = Kind::ALL.into_iter().filter_map(of).collect();
        let ours = proxies.get(Kind::Sallyport.name())?.cpu_us_per_unit;
        let ratio = |figures: &Figures| Ratio {
            by_medians: ours.median / figures.cpu_us_per_unit.median,
            by_minima: ours.min / figures.cpu_us_per_unit.min,
        };
        let rivals = proxies.iter().filter(|(name, _)| **name != Kind::Sallyport.name());
        let ratios: BTreeMap<_, _> = rivals.map(|(name, figures)| (*name, ratio(figures))).collect();
        let verdict = verdict(*ratios.get(Kind::Envoy.name())?, scenario.target);
        Some(Self {
            scenario: scenario.name,
            about: scenario.about,
            target: scenario.target,
            proxies,
            ratios,
            verdict,
        })
    }
}

fn verdict(ratio: Ratio, target: f64) -> Verdict {
    if ratio.by_minima <= target {
        Verdict::Met
    } else if ratio.by_medians <= target && ratio.by_minima <= target * 1.3 {
        Verdict::MetByMedians
    } else {
        Verdict::Missed
    }
}

impl Figures {
    fn new(measured: &[&Measured]) -> Self {
        let over = |figure: fn(&Measured) -> f64| Spread::new(measured.iter().map(|one| figure(one)).collect());
        Self {
            cpu_us_per_unit: over(|one| one.cpu.as_secs_f64() * 1e6 / count(one.units)),
            units_per_second: over(|one| count(one.units) / one.took.as_secs_f64()),
            p50_us: over(|one| one.p50.as_secs_f64() * 1e6),
            p99_us: over(|one| one.p99.as_secs_f64() * 1e6),
            memory_kib: over(|one| count(one.memory / 1024)),
            ready_ms: over(|one| one.ready.as_secs_f64() * 1e3),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // counts of a run are far below 2^52
fn count(units: u64) -> f64 {
    units.max(1) as f64
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {}", self.processor, self.kernel)?;
        for (name, version) in &self.versions {
            writeln!(f, "{name}: {version}")?;
        }
        writeln!(
            f,
            "{} rounds of {} s; processor time per unit: median (least … most), µs\n",
            self.rounds, self.seconds
        )?;
        self.rows.iter().try_for_each(|row| row.fmt(f))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.scenario, self.about)?;
        for (name, figures) in &self.proxies {
            let cpu = figures.cpu_us_per_unit;
            write!(f, "  {name:10} {:9.1} ({:.1} … {:.1})", cpu.median, cpu.min, cpu.max)?;
            write!(f, "  {:9.0}/s", figures.units_per_second.median)?;
            write!(
                f,
                "  p50 {:6.0}  p99 {:6.0}",
                figures.p50_us.median, figures.p99_us.median
            )?;
            write!(f, "  {:7.0} KiB", figures.memory_kib.median)?;
            match self.ratios.get(name) {
                None => writeln!(f)?,
                Some(ratio) => writeln!(
                    f,
                    "  ours is {:.2} of it (minima {:.2})",
                    ratio.by_medians, ratio.by_minima
                )?,
            }
        }
        let verdict = match self.verdict {
            Verdict::Met => "met",
            Verdict::MetByMedians => "met by medians, minima within 1.3 times",
            Verdict::Missed => "missed",
        };
        writeln!(f, "  target: at most {:.2} of envoy: {verdict}\n", self.target)
    }
}
