//! AuthorizationPolicies to RBAC filters.
//!
//! One filter per action, in the order audit, deny, allow. A policy that selects the workload counts even if none of its rules
//! can be judged on a chain: an ALLOW filter without a policy refuses everything, which is Istio's implicit deny. What cannot
//! be judged never widens what is let through: of an ALLOW policy the rule goes, of the others only the condition.

use std::{collections::BTreeMap, sync::Arc};

use mesh::{
    PolicyName,
    authz::{Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    id::TrustDomain,
};

use super::notes::Notes;
use crate::{
    diag::Code,
    istio::{
        FieldPath,
        authorization_policy::{Action, AuthorizationPolicy},
    },
    world::Of,
};

mod expression;
mod rule;
mod text;

use rule::{RuleContext, compile};

/// What a connection is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Each request of it.
    Http,
    /// The connection itself.
    Tcp,
}

/// What all rules of a proxy have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// The mesh's trust domains, its own first.
    pub(super) trust_domains: &'a [&'a TrustDomain],
    /// What is judged.
    pub(super) layer: Layer,
}

/// On a policy: evaluate and report, do not enforce.
const DRY_RUN: &str = "istio.io/dry-run";
/// Prefix of a network filter's counters, as Istio names it.
const TCP_STAT_PREFIX: &str = "tcp.";

/// The filters for the policies that select a workload.
pub(super) fn filters(
    policies: &[&Of<AuthorizationPolicy>],
    setting: Setting<'_>,
    notes: &mut Notes,
) -> Vec<RbacFilter> {
    let mut filters = Vec::new();
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        let same: Vec<_> = policies
            .iter()
            .copied()
            .filter(|policy| policy.action == action)
            .collect();
        if !same.is_empty() {
            filters.push(filter(action, &same, setting, notes));
        }
    }
    filters
}

fn filter(
    action: Action,
    policies: &[&Of<AuthorizationPolicy>],
    setting: Setting<'_>,
    notes: &mut Notes,
) -> RbacFilter {
    let (shadow, enforced): (Vec<_>, Vec<_>) = policies.iter().copied().partition(|policy| is_dry_run(policy));
    RbacFilter {
        rules: rbac(action, &enforced, setting, notes),
        shadow_rules: rbac(action, &shadow, setting, notes),
        shadow_prefix: match (shadow.is_empty(), action) {
            (true, _) | (_, Action::Audit) => String::new(),
            (false, Action::Allow) => "istio_dry_run_allow_".into(),
            (false, Action::Deny) => "istio_dry_run_deny_".into(),
        },
        stat_prefix: match setting.layer {
            Layer::Http => String::new(),
            Layer::Tcp => TCP_STAT_PREFIX.into(),
        },
    }
}

/// `None` without a policy: then nothing is enforced, not even implicitly.
fn rbac(
    action: Action,
    policies: &[&Of<AuthorizationPolicy>],
    setting: Setting<'_>,
    notes: &mut Notes,
) -> Option<Arc<Rbac>> {
    let mut compiled = BTreeMap::new();
    for policy in policies {
        add_rules(policy, setting, notes, &mut compiled);
    }
    let rbac = Rbac {
        action: match action {
            Action::Allow => RbacAction::Allow,
            Action::Deny => RbacAction::Deny,
            Action::Audit => RbacAction::Log,
        },
        policies: compiled,
    };
    (!policies.is_empty()).then(|| Arc::new(rbac))
}

fn add_rules(
    policy: &Of<AuthorizationPolicy>,
    setting: Setting<'_>,
    notes: &mut Notes,
    compiled: &mut BTreeMap<PolicyName, Arc<Policy>>,
) {
    if policy.rules.is_empty() {
        compiled.extend(name(policy, 0).map(|name| (name, Arc::new(never()))));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        let mut malformed = Vec::new();
        let context = RuleContext {
            namespace: policy.namespace(),
            setting,
            // An ALLOW rule that cannot be judged as a whole must not let anything through.
            all_or_nothing: policy.action == Action::Allow,
        };
        let rule = compile(rule, context, &mut malformed);
        for message in malformed {
            let (spec, index) = (FieldPath::ROOT.field("spec"), index);
            let rules = spec.field("rules");
            notes.error(
                policy.object(),
                &rules.index(index),
                Code::Invalid,
                message,
                "see the values Istio accepts",
            );
        }
        compiled.extend(rule.zip(name(policy, index)).map(|(rule, name)| (name, Arc::new(rule))));
    }
}

fn is_dry_run(policy: &Of<AuthorizationPolicy>) -> bool {
    let written = policy.object().metadata.annotations.get(DRY_RUN);
    written.is_some_and(|value| value == "true")
}

fn name(policy: &Of<AuthorizationPolicy>, rule: usize) -> Option<PolicyName> {
    // Namespaces and names of objects are far below the limit; one beyond it has been refused before.
    PolicyName::parse(&format!(
        "ns[{}]-policy[{}]-rule[{rule}]",
        policy.namespace(),
        policy.name()
    ))
    .ok()
}

/// What Istio generates for a policy without rules.
fn never() -> Policy {
    Policy {
        permissions: vec![Permission::Not(Box::new(Permission::Any))],
        principals: vec![Principal::Not(Box::new(Principal::Any))],
    }
}
