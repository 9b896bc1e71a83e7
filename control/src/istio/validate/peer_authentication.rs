//! Reference section 9.7, last paragraph.

use crate::istio::{path::FieldPath, peer_authentication::PeerAuthentication, report::Report};

pub(super) fn validate(policy: &PeerAuthentication, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    super::selector(policy.selector.as_ref(), &spec.field("selector"), report);
    let selects = policy
        .selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty());
    if !policy.port_level_mtls.is_empty() && !selects {
        let message = "modes for single ports need a selector: a namespace or mesh has no ports";
        report.invalid(&spec.field("portLevelMtls"), message, "add selector.matchLabels");
    }
}
