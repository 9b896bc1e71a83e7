//! What is compared: a kind of run, and what it is to cost. A group of scenarios is a file; a scenario is an entry in it.

use crate::{load::Load, metric::Metric, rival::Kind};

mod bulk;
mod connections;
mod latency;
mod policies;
mod requests;

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// What is done and measured.
    pub(crate) run: Run,
    /// What the proxies are configured with.
    pub(crate) setup: Setup,
    /// Rivals that can do the job.
    pub(crate) rivals: &'static [Kind],
    /// What ours is to reach.
    pub(crate) targets: &'static [Target],
}

/// What is done and measured. Each has a function that makes one measurement of one proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// A load goes on for a while: cost and latency of a unit of it.
    Load(Load),
    /// One tenant asks a hundred times a second while another floods: how long the first one waits.
    Flood(Load),
}

/// What control compiles for a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Authorization policies in force.
    pub(crate) policies: usize,
    /// Whether a second tenant may reach the plain host.
    pub(crate) flooder: bool,
    /// What they say.
    pub(crate) shape: Shape,
}

/// What policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Team i may reach host i.
    Hosts,
    /// Team i may reach the one host: the namespace decides.
    OneHost,
    /// One policy, with a rule for each team.
    Rules,
}

/// What ours is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Of which figure.
    pub(crate) metric: Metric,
    /// Compared with what.
    pub(crate) of: Yardstick,
    /// The highest ratio to it.
    pub(crate) at_most: f64,
}

/// What a target compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yardstick {
    /// A rival in the same scenario.
    Rival(Kind),
    /// Ours in another scenario of the run.
    Own(&'static str),
}

/// Scenarios that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its scenarios, in the order in which they run.
    pub(crate) scenarios: &'static [Scenario],
}

/// Every scenario, in the order in which they run.
pub(crate) const GROUPS: &[Group] = &[
    requests::GROUP,
    latency::GROUP,
    connections::GROUP,
    bulk::GROUP,
    policies::GROUP,
];

/// Rivals that can do everything that HTTP and passthrough ask for.
const ALL_RIVALS: &[Kind] = &[Kind::Envoy, Kind::Haproxy, Kind::Nginx];
/// Where the others cannot do the job.
const ENVOY: &[Kind] = &[Kind::Envoy];

impl Setup {
    /// The tutorial's gateway.
    pub(crate) const BASIC: Self = Self {
        policies: 1,
        flooder: false,
        shape: Shape::Hosts,
    };
    /// Most of anything in a smoke run.
    const QUICK: usize = 100;

    /// The same shape, small enough for a smoke run.
    pub(crate) fn quick(self) -> Self {
        Self {
            policies: self.policies.min(Self::QUICK),
            ..self
        }
    }
}

impl Target {
    /// A rival's figure in the same scenario, times `at_most`.
    pub(crate) const fn of(metric: Metric, rival: Kind, at_most: f64) -> Self {
        let of = Yardstick::Rival(rival);
        Self { metric, of, at_most }
    }

    /// A rival's processor time per unit, times `at_most`.
    pub(crate) const fn cpu(rival: Kind, at_most: f64) -> Self {
        Self::of(Metric::Cpu, rival, at_most)
    }

    /// Our own figure in another scenario, times `at_most`.
    pub(crate) const fn own(metric: Metric, scenario: &'static str, at_most: f64) -> Self {
        let of = Yardstick::Own(scenario);
        Self { metric, of, at_most }
    }
}

/// The scenario of that name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// Every scenario.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    GROUPS.iter().flat_map(|group| group.scenarios)
}

/// The scenarios that a word picks: the one of that name, or those of that group, or those whose names begin with it.
pub(crate) fn picked(word: &str) -> Vec<&'static Scenario> {
    if let Some(scenario) = named(word) {
        return vec![scenario];
    }
    match GROUPS.iter().find(|group| group.name == word) {
        Some(group) => group.scenarios.iter().collect(),
        None => all().filter(|scenario| scenario.name.starts_with(word)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_targets_name_what_is_there() {
        for (index, scenario) in all().enumerate() {
            assert!(
                all().skip(index + 1).all(|other| other.name != scenario.name),
                "{}",
                scenario.name
            );
            for target in scenario.targets {
                match target.of {
                    Yardstick::Rival(rival) => assert!(scenario.rivals.contains(&rival), "{}", scenario.name),
                    Yardstick::Own(other) => assert!(named(other).is_some(), "{other}"),
                }
            }
        }
    }

    #[test]
    fn a_word_picks_a_scenario_a_group_or_a_beginning() {
        let names = |word| picked(word).iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        assert_eq!(names("h2"), ["h2"]);
        assert_eq!(
            names("requests"),
            requests::GROUP.scenarios.iter().map(|one| one.name).collect::<Vec<_>>()
        );
        assert!(names("deni").contains(&"denied"));
        assert!(names("nothing of that name").is_empty());
    }
}
