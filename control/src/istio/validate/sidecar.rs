//! Reference section 9.6.

use crate::istio::{
    path::FieldPath,
    report::Report,
    sidecar::{EgressListener, Sidecar},
};

pub(super) fn validate(sidecar: &Sidecar, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    if sidecar.egress.is_empty() && sidecar.outbound_traffic_policy.is_none() {
        report.invalid(
            spec,
            "sidecar: empty configuration provided",
            "set egress or outboundTrafficPolicy",
        );
    }
    if let Some(selector) = &sidecar.workload_selector {
        let path = spec.field("workloadSelector");
        super::labels(&selector.labels, &path.field("labels"), report);
        if selector.labels.is_empty() {
            report.questionable(
                &path,
                "a selector without labels selects every workload",
                "remove it, or list labels",
            );
        }
    }
    let egress = spec.field("egress");
    for (index, listener) in sidecar.egress.iter().enumerate() {
        if index > 0 {
            report.invalid(
                &egress.index(index),
                "only one egress entry can be without a port",
                "merge the hosts into one entry",
            );
        }
        check_listener(listener, &egress.index(index).field("hosts"), report);
    }
}

fn check_listener(listener: &EgressListener, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if listener.hosts.is_empty() {
        report.invalid(
            path,
            "an egress entry must have at least one host",
            "list hosts as namespace/name",
        );
    }
    for (index, scoped) in listener.hosts.iter().enumerate() {
        if !scoped.explicit {
            let message = format!("{} has no namespace", scoped.host);
            report.invalid(
                &path.index(index),
                message,
                "write namespace/host; './host' is the Sidecar's own namespace",
            );
        }
    }
    if let Some((first, index)) = super::repeated(&listener.hosts) {
        report.questionable(&path.index(index), format!("is also hosts[{first}]"), "remove one");
    }
}
