//! `bench list`: the scenarios, what each shows, and what ours is to reach.

use std::fmt;

use crate::scenario::{self, Scenario, Target, Yardstick};

/// Every scenario by group.
pub(crate) struct List;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in scenario::GROUPS {
            writeln!(f, "{}", group.name)?;
            group.scenarios.iter().try_for_each(|scenario| one(f, scenario))?;
        }
        Ok(())
    }
}

fn one(f: &mut fmt::Formatter<'_>, scenario: &Scenario) -> fmt::Result {
    writeln!(f, "  {:20} {}", scenario.name, scenario.about)?;
    let rivals: Vec<_> = scenario.rivals.iter().map(|rival| rival.name()).collect();
    writeln!(f, "  {:20}   against {}", "", rivals.join(", "))?;
    scenario
        .targets
        .iter()
        .try_for_each(|target| writeln!(f, "  {:20}   target: {target}", ""))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at most {}", self.metric.label(), self.at_most)?;
        match self.of {
            Yardstick::Rival(rival) => write!(f, " of {}'s", rival.name()),
            Yardstick::Own(scenario) => write!(f, " of ours in {scenario}"),
        }
    }
}
