//! Latency at a fixed rate by quantile.

use std::path::Path;

use super::lines;
use crate::{
    metric::Metric,
    report::{Report, Row},
    rival::Kind,
};

/// The scenario that is drawn.
const SCENARIO: &str = "open-loop";
/// Of how many requests one is slower than the quantile.
const QUANTILES: [(Metric, f64); 4] = [
    (Metric::P50, 2.0),
    (Metric::P90, 10.0),
    (Metric::P99, 100.0),
    (Metric::P999, 1000.0),
];

/// Draws nothing if the scenario did not run.
pub(super) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let Some(row) = report.rows.iter().find(|row| row.scenario == SCENARIO) else {
        return Ok(());
    };
    let lines = row.proxies.keys().map(|kind| (*kind, points(row, *kind)));
    let title = format!("{}: from the median on, µs", row.about);
    lines::draw(file, &title, lines.collect(), quantile)
}

/// The axis's label: one in ten is slower than p90.
fn quantile(one_in: &f64) -> String {
    match one_in.round() {
        ..10.0 => String::new(),
        one_in => format!("p{}", 100.0 - 100.0 / one_in),
    }
}

/// Medians over the rounds.
fn points(row: &Row, kind: Kind) -> Vec<(f64, f64)> {
    let figures = row.proxies.get(&kind);
    let value = |metric| Some(figures?.get(&metric)?.median.max(1.0));
    let quantiles = QUANTILES.into_iter();
    quantiles
        .filter_map(|(metric, one_in)| Some((one_in, value(metric)?)))
        .collect()
}
