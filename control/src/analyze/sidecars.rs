//! Which Sidecar is a workload's.

use std::collections::BTreeMap;

use super::context::Context;
use crate::{
    diag::{Code, Diagnostic},
    istio::{FieldPath, Object, Report, sidecar::Sidecar},
};

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_selector: BTreeMap<_, Vec<&Object>> = BTreeMap::new();
    for (object, sidecar) in context.objects.of::<Sidecar>() {
        let mut report = Report::new(object);
        check_hosts(context, sidecar, &mut report);
        diagnostics.extend(report.into_diagnostics());
        let selector = sidecar.workload_selector.clone().unwrap_or_default().labels;
        by_selector
            .entry((object.namespace(), selector))
            .or_default()
            .push(object);
    }
    for ((_, selector), mut rivals) in by_selector.into_iter().filter(|(_, rivals)| rivals.len() > 1) {
        rivals.sort_by(|a, b| context.precedence(a, b));
        for later in rivals.iter().skip(1) {
            diagnostics.extend(conflict(later, rivals[0], selector.is_empty()));
        }
    }
}

fn check_hosts(context: &Context<'_>, sidecar: &Sidecar, report: &mut Report<'_>) {
    let (spec, egress);
    spec = FieldPath::ROOT.field("spec");
    egress = spec.field("egress");
    for (at, listener) in sidecar.egress.iter().enumerate() {
        let (entry, hosts);
        entry = egress.index(at);
        hosts = entry.field("hosts");
        for (index, scoped) in listener.hosts.iter().enumerate() {
            context.check_namespace(&scoped.namespace, &hosts.index(index), report);
        }
    }
}

/// Only one Sidecar applies to a workload; they are never merged.
fn conflict(later: &Object, first: &Object, default: bool) -> Vec<Diagnostic> {
    let mut report = Report::new(later);
    let spec = FieldPath::ROOT.field("spec");
    let (code, message) = if default {
        let message = format!("{} is for all workloads of the namespace too", first.id);
        (Code::MultipleDefaultSidecars, message)
    } else {
        (
            Code::ConflictingSidecarSelectors,
            format!("{} selects the same workloads", first.id),
        )
    };
    report.error(
        code,
        &spec.field("workloadSelector"),
        message,
        "merge the two, or select other workloads",
    );
    report.into_diagnostics()
}
