//! Rules that Istio's admission applies to one object by itself, as far as its fields are implemented.

mod authorization_policy;
mod destination_rule;
mod gateway;
mod kubernetes;
mod peer_authentication;
mod service_entry;
mod sidecar;
mod virtual_service;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use super::{
    authorization_policy::DRY_RUN_ANNOTATION as DRY_RUN,
    metadata::WorkloadSelector,
    object::{Object, Spec},
    path::FieldPath,
    report::Report,
    scope::{Export, NamespaceScope},
};
use crate::diag::Diagnostic;

/// Checks an object by itself.
pub(super) fn object(object: &Object) -> Vec<Diagnostic> {
    let mut report = Report::new(object);
    let spec = FieldPath::ROOT.field("spec");
    match &object.spec {
        Spec::AuthorizationPolicy(policy) => authorization_policy::validate(policy, &spec, &mut report),
        Spec::DestinationRule(rule) => destination_rule::validate(rule, &spec, &mut report),
        Spec::EndpointSlice(slice) => kubernetes::validate_slice(slice, &mut report),
        Spec::Gateway(gateway) => gateway::validate(gateway, &spec, &mut report),
        Spec::Namespace(_) => {}
        Spec::PeerAuthentication(policy) => peer_authentication::validate(policy, &spec, &mut report),
        Spec::Service(service) => kubernetes::validate_service(service, &spec, &mut report),
        Spec::ServiceEntry(entry) => service_entry::validate(entry, &spec, &mut report),
        Spec::Sidecar(sidecar) => sidecar::validate(sidecar, &spec, &mut report),
        Spec::VirtualService(service) => virtual_service::validate(service, &spec, &mut report),
    }
    dry_run(&mut report);
    report.into_diagnostics()
}

/// Only a policy that allows or denies can be tried without effect.
fn dry_run(report: &mut Report<'_>) {
    let object = report.object();
    let Some(value) = object.metadata.annotations.get(DRY_RUN) else {
        return;
    };
    let (metadata, annotations);
    metadata = FieldPath::ROOT.field("metadata");
    annotations = metadata.field("annotations");
    let path = annotations.key(DRY_RUN);
    let can_be = matches!(&object.spec, Spec::AuthorizationPolicy(policy) if policy.can_be_dry_run());
    if !can_be {
        report.invalid(
            &path,
            "a dry run is possible for ALLOW and DENY policies only",
            "remove the annotation",
        );
    } else if value.parse::<bool>().is_err() {
        report.invalid(
            &path,
            format!("{value:?} is neither \"true\" nor \"false\""),
            "use \"true\" or \"false\"",
        );
    }
}

/// `exportTo` of every kind but ServiceEntry may not be `~`; none may say the same twice or mix `*` with others.
fn exports(exports: &[Export], path: &FieldPath<'_>, may_be_hidden: bool, report: &mut Report<'_>) {
    let own = report.object().namespace();
    let mut seen = BTreeSet::new();
    for (index, Export(scope)) in exports.iter().enumerate() {
        let place = path.index(index);
        let canonical = match scope {
            NamespaceScope::Own => NamespaceScope::Named(own.to_owned()),
            other => other.clone(),
        };
        match scope {
            NamespaceScope::Nowhere if !may_be_hidden => {
                report.invalid(
                    &place,
                    "~ is for ServiceEntry only",
                    "use '.' to keep it in its own namespace",
                );
            }
            NamespaceScope::Nowhere | NamespaceScope::Any if exports.len() > 1 => {
                report.invalid(
                    &place,
                    format!("{scope} cannot be combined with other entries"),
                    "keep one of them",
                );
            }
            NamespaceScope::Any | NamespaceScope::Own | NamespaceScope::Nowhere | NamespaceScope::Named(_) => {}
        }
        if !seen.insert(canonical) {
            report.invalid(&place, format!("{scope} is there twice"), "remove one");
        }
    }
}

/// The selector of a policy.
fn selector(selector: Option<&WorkloadSelector>, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if let Some(selector) = selector {
        labels(&selector.match_labels, &path.field("matchLabels"), report);
        if selector.match_labels.is_empty() {
            report.questionable(
                path,
                "a selector without labels selects every workload",
                "remove it, or list labels",
            );
        }
    }
}

/// Labels that select something.
fn labels(labels: &BTreeMap<String, String>, path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (key, value) in labels {
        if key.is_empty() {
            report.invalid(path, "a label has no name", "name the label");
        } else if key.contains('*') || value.contains('*') {
            report.invalid(&path.key(key), "'*' is not a wildcard in labels", "write the label out");
        }
    }
}

/// Weights of destinations: with several, at least one must be above zero.
fn weights(weights: &[u32], path: &FieldPath<'_>, report: &mut Report<'_>) {
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    if weights.len() > 1 && total == 0 {
        report.invalid(
            path,
            "the weights of the destinations sum to 0",
            "give at least one a weight above 0",
        );
    } else if total > u64::from(u32::MAX) {
        report.invalid(
            path,
            format!("the weights sum to {total}, more than {}", u32::MAX),
            "use smaller weights",
        );
    }
}

/// Whether all values differ; the index of the first that does not, with the one it repeats.
fn repeated<T: Eq + Hash>(values: impl IntoIterator<Item = T>) -> Option<(usize, usize)> {
    let mut seen = std::collections::HashMap::new();
    values
        .into_iter()
        .enumerate()
        .find_map(|(index, value)| seen.insert(value, index).map(|first| (first, index)))
}

/// The name of a subset: letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or digit.
fn is_subset_name(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && ends(name.bytes().next())
        && ends(name.bytes().next_back())
}
