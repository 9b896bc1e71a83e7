//! The report as text.

use std::fmt;

use super::{Figures, Judged, Report, Row, Verdict};
use crate::{metric::Metric, rival::Kind};

/// Columns of a table's first figure, with its least and most, and of each other figure.
const FIRST: usize = 28;
const OTHERS: usize = 14;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        writeln!(f, "revision {}", self.revision)?;
        writeln!(
            f,
            "{}, {} cores, {} · {}",
            self.processor, self.cores, self.memory, self.kernel
        )?;
        for (name, version) in &self.versions {
            writeln!(f, "{name}: {version}")?;
        }
        writeln!(
            f,
            "{} rounds of {} s: medians (least … most)\n",
            self.rounds, self.seconds
        )?;
        self.rows.iter().try_for_each(|row| row.fmt(f))?;
        self.summary(f)
    }
}

impl Report {
    /// Every target in a line.
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "targets")?;
        for row in &self.rows {
            for judged in &row.targets {
                writeln!(f, "  {:18} {judged}", row.scenario)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.scenario, self.about)?;
        let metrics: Vec<Metric> = self.proxies.values().flat_map(Figures::keys).copied().collect();
        let metrics: Vec<_> = std::collections::BTreeSet::from_iter(metrics).into_iter().collect();
        write!(f, "  {:10}", "")?;
        for (index, metric) in metrics.iter().enumerate() {
            let width = if index == 0 { FIRST } else { OTHERS };
            write!(f, "{:>width$}", format!("{} {}", metric.label(), metric.unit()))?;
        }
        writeln!(f)?;
        self.proxies
            .iter()
            .try_for_each(|(kind, figures)| line(f, *kind, &metrics, figures))?;
        writeln!(f)
    }
}

/// A proxy's figures.
fn line(f: &mut fmt::Formatter<'_>, kind: Kind, metrics: &[Metric], figures: &Figures) -> fmt::Result {
    write!(f, "  {:10}", kind.name())?;
    for (index, metric) in metrics.iter().enumerate() {
        let text = match (index, figures.get(metric)) {
            (_, None) => "-".to_owned(),
            (0, Some(figure)) => format!("{:.1} ({:.1} … {:.1})", figure.median, figure.min, figure.max),
            (_, Some(figure)) => format!("{:.0}", figure.median),
        };
        let width = if index == 0 { FIRST } else { OTHERS };
        write!(f, "{text:>width$}")?;
    }
    writeln!(f)
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:40} {}", self.target, self.verdict.said())?;
        match self.ratio {
            None => Ok(()),
            Some(ratio) => write!(
                f,
                ": {:.2} by medians, {:.2} by minima",
                ratio.by_medians, ratio.by_minima
            ),
        }
    }
}

impl Verdict {
    fn said(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::MetByMedians => "met by medians, minima within 1.3 times",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}
