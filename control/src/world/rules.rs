//! The DestinationRules of one host, as one.

use super::of::Of;
use crate::istio::destination_rule::{ClientTls, ConnectionPool, DestinationRule, LoadBalancer, Subset, TrafficPolicy};

/// The DestinationRules that apply to a host, oldest first. Istio merges them: the first traffic policy counts, and the first
/// subset of each name.
#[derive(Debug, Default)]
pub struct Rules<'w> {
    rules: Vec<&'w Of<DestinationRule>>,
}

/// The settings of connections to one port and subset; each from the most specific place that says something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'w> {
    /// How an endpoint is chosen.
    pub load_balancer: Option<&'w LoadBalancer>,
    /// Limits.
    pub connection_pool: Option<&'w ConnectionPool>,
    /// TLS.
    pub tls: Option<&'w ClientTls>,
}

/// A subset and the rule that defines it.
#[derive(Debug, Clone, Copy)]
pub struct Defined<'w> {
    /// The rule.
    pub rule: &'w Of<DestinationRule>,
    /// The subset.
    pub subset: &'w Subset,
    /// Its number in the rule.
    pub index: usize,
}

impl<'w> Rules<'w> {
    pub(super) fn new(rules: Vec<&'w Of<DestinationRule>>) -> Self {
        Self { rules }
    }

    /// Whose they are: rules that apply together are of one namespace.
    pub fn namespace(&self) -> Option<&'w str> {
        self.rules.first().map(|rule| rule.object().namespace())
    }

    /// The rule whose traffic policy counts for the whole host.
    pub fn first(&self) -> Option<&'w Of<DestinationRule>> {
        self.rules.iter().copied().find(|rule| rule.traffic_policy.is_some())
    }

    /// Every subset, once.
    pub fn subsets(&self) -> Vec<Defined<'w>> {
        let mut all: Vec<Defined<'w>> = Vec::new();
        for rule in &self.rules {
            for (index, subset) in rule.subsets.iter().enumerate() {
                if all.iter().all(|known| known.subset.name != subset.name) {
                    all.push(Defined { rule, subset, index });
                }
            }
        }
        all
    }

    /// The settings for a port, of the host or of one of its subsets.
    ///
    /// Settings of a port replace those of the host or subset altogether: what they leave out has its default.
    pub fn settings(&self, port: u16, subset: Option<&'w Subset>) -> Settings<'w> {
        let host = self.first().and_then(|rule| rule.traffic_policy.as_ref());
        let host = host.map_or_else(Settings::default, |policy| Settings::of_policy(policy, port).0);
        match subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            None => host,
            Some(policy) => match Settings::of_policy(policy, port) {
                (own, true) => own,
                (own, false) => Settings {
                    load_balancer: own.load_balancer.or(host.load_balancer),
                    connection_pool: own.connection_pool.or(host.connection_pool),
                    tls: own.tls.or(host.tls),
                },
            },
        }
    }
}

impl<'w> Settings<'w> {
    /// What a policy says for a port, and whether it says it for this port alone.
    fn of_policy(policy: &'w TrafficPolicy, port: u16) -> (Self, bool) {
        let own = policy
            .port_level_settings
            .iter()
            .find(|own| own.port.number.get() == port);
        let settings = own.map_or(
            Self {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                tls: policy.tls.as_ref(),
            },
            |own| Self {
                load_balancer: own.load_balancer.as_ref(),
                connection_pool: own.connection_pool.as_ref(),
                tls: own.tls.as_ref(),
            },
        );
        (settings, own.is_some())
    }
}
