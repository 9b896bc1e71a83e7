//! What a request costs against the number of policies.

use std::path::Path;

use super::lines;
use crate::{
    metric::Metric,
    report::{Report, count},
    rival::Kind,
    scenario::{GROUPS, Scenario, Shape},
};

/// Draws nothing unless at least two numbers of policies were measured.
pub(super) fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let lines = Kind::ALL.into_iter().map(|kind| (kind, points(report, kind)));
    let title = "processor time of a request, µs, by policies in force";
    lines::draw(file, title, lines.collect(), |policies| format!("{policies:.0}"))
}

/// Least over the rounds, of the policies' scenarios in which team i may reach host i.
fn points(report: &Report, kind: Kind) -> Vec<(f64, f64)> {
    let group = GROUPS.iter().find(|group| group.name == "policies");
    let scenarios = group.into_iter().flat_map(|group| group.scenarios);
    let scenarios = scenarios.filter(|scenario| scenario.setup.shape == Shape::Hosts);
    let point = |scenario: &Scenario| {
        let row = report.rows.iter().find(|row| row.scenario == scenario.name)?;
        let cost = row.proxies.get(&kind)?.get(&Metric::Cpu)?.min.max(0.1);
        Some((count(u64::try_from(scenario.setup.policies).ok()?), cost))
    };
    scenarios.filter_map(point).collect()
}
