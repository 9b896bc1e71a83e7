//! Whom security policies are about.

use super::context::{Context, Labels};
use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Report,
        authorization_policy::{AuthorizationPolicy, Key},
        metadata::WorkloadSelector,
        peer_authentication::PeerAuthentication,
    },
};

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (object, policy) in context.objects.of::<AuthorizationPolicy>() {
        let mut report = Report::new(object);
        check_selector(context, policy.selector.as_ref(), &mut report);
        check_namespaces(context, policy, &mut report);
        diagnostics.extend(report.into_diagnostics());
    }
    for (object, policy) in context.objects.of::<PeerAuthentication>() {
        let mut report = Report::new(object);
        check_selector(context, policy.selector.as_ref(), &mut report);
        diagnostics.extend(report.into_diagnostics());
    }
}

fn check_selector(context: &Context<'_>, selector: Option<&WorkloadSelector>, report: &mut Report<'_>) {
    let own = report.object().namespace();
    let namespace = (own != context.root_namespace).then_some(own);
    let Some(selector) = selector.filter(|selector| !selector.match_labels.is_empty()) else {
        return;
    };
    let mut workloads = context.workloads(namespace).peekable();
    if workloads.peek().is_some() && !workloads.any(|(_, labels)| may_be(&selector.match_labels, labels)) {
        let message = "no workload is known that could have these labels, so the policy has no effect";
        let spec = FieldPath::ROOT.field("spec");
        report.warning(
            Code::NoMatchingWorkload,
            &spec.field("selector"),
            message,
            "correct the labels",
        );
    }
}

/// Whether a workload of which some labels are known may have those of a selector.
fn may_be(selector: &Labels, known: &Labels) -> bool {
    let mut shared = selector
        .iter()
        .filter_map(|(key, value)| known.get(key).map(|known| known == value))
        .peekable();
    shared.peek().is_some() && shared.all(|same| same)
}

fn check_namespaces(context: &Context<'_>, policy: &AuthorizationPolicy, report: &mut Report<'_>) {
    let (spec, rules);
    spec = FieldPath::ROOT.field("spec");
    rules = spec.field("rules");
    for (at, rule) in policy.rules.iter().enumerate() {
        let (place, from, when);
        place = rules.index(at);
        from = place.field("from");
        when = place.field("when");
        for (index, entry) in rule.from.iter().flatten().enumerate() {
            let (item, source);
            item = from.index(index);
            source = item.field("source");
            check_names(context, &entry.source.namespaces, &source.field("namespaces"), report);
            check_names(
                context,
                &entry.source.not_namespaces,
                &source.field("notNamespaces"),
                report,
            );
        }
        for (index, condition) in rule
            .when
            .iter()
            .enumerate()
            .filter(|(_, condition)| condition.key == Key::SourceNamespace)
        {
            let item = when.index(index);
            check_names(context, &condition.values, &item.field("values"), report);
            check_names(context, &condition.not_values, &item.field("notValues"), report);
        }
    }
}

fn check_names(context: &Context<'_>, names: &[String], path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, name) in names.iter().enumerate() {
        if !name.contains('*') && !context.namespace_exists(name) {
            let message = format!("namespace {name} does not exist, so no caller is in it");
            report.warning(Code::ReferenceNotFound, &path.index(index), message, "correct the name");
        }
    }
}
