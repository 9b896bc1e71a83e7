//! Decides whether a request or connection may pass.
//!
//! The meaning of a policy is [`mesh::authz`]'s. What is here makes the cost of a decision independent of the number of
//! policies: an index on two facts that every request has, the caller's namespace and the destination host, finds the few
//! policies that could match at all, and only those are evaluated.
//!
//! Invariant: for every set of facts the decision equals that of [`mesh::authz::Rbac::decide`]; a property test holds us to it.

mod index;
mod keys;

use mesh::{
    PolicyName,
    authz::{Facts, RbacFilter},
};

use index::Index;

/// The authorization filters of one filter chain, in order, compiled.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    filters: Vec<Filter>,
}

#[derive(Debug)]
struct Filter {
    rules: Option<Index>,
    shadow_rules: Option<Index>,
    shadow_prefix: String,
}

/// Whether the request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// It may.
    Allow,
    /// It may not, because of this policy, or because no policy allowed it.
    Deny(Option<&'a PolicyName>),
}

impl Engine {
    /// Compiles filters. Off the data path.
    pub(crate) fn build(filters: &[RbacFilter]) -> Self {
        let filters = filters.iter().map(|filter| Filter {
            rules: filter.rules.as_deref().map(Index::build),
            shadow_rules: filter.shadow_rules.as_deref().map(Index::build),
            shadow_prefix: filter.shadow_prefix.clone(),
        });
        Self {
            filters: filters.collect(),
        }
    }

    /// Asks each filter in turn; the first that refuses decides.
    pub(crate) fn check<F: Facts + ?Sized>(&self, facts: &F) -> Verdict<'_> {
        for rules in self.filters.iter().filter_map(|filter| filter.rules.as_ref()) {
            let (allowed, policy) = rules.decide(facts);
            if !allowed {
                return Verdict::Deny(policy);
            }
        }
        Verdict::Allow
    }

    /// Whether there are dry-run rules, so that the caller may skip [`Self::dry_run`].
    pub(crate) fn has_dry_run(&self) -> bool {
        self.filters.iter().any(|filter| filter.shadow_rules.is_some())
    }

    /// What dry-run rules would have decided, as the dynamic metadata that Envoy's filter writes.
    pub(crate) fn dry_run<F: Facts + ?Sized>(&self, facts: &F) -> Vec<(String, String)> {
        let mut metadata = Vec::new();
        for filter in &self.filters {
            let Some(rules) = &filter.shadow_rules else { continue };
            let (allowed, policy) = rules.decide(facts);
            let prefix = &filter.shadow_prefix;
            if let Some(policy) = policy {
                metadata.push((format!("{prefix}shadow_effective_policy_id"), policy.to_string()));
            }
            let result = if allowed { "allowed" } else { "denied" };
            metadata.push((format!("{prefix}shadow_engine_result"), result.to_owned()));
        }
        metadata
    }
}

#[cfg(test)]
mod tests;
