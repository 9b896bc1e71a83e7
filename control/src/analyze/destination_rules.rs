//! What DestinationRules are for.

use super::context::{Context, Endpoints, Labels};
use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Report,
        destination_rule::{ClientTlsMode, DestinationRule, TrafficPolicy},
        metadata::selects,
        scalar::Port,
    },
};

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (object, rule) in context.objects.of::<DestinationRule>() {
        let mut report = Report::new(object);
        check_host(context, rule, &mut report);
        check_passthrough(context, rule, &mut report);
        context.check_exports(&rule.export_to, &mut report);
        diagnostics.extend(report.into_diagnostics());
    }
}

fn check_host(context: &Context<'_>, rule: &DestinationRule, report: &mut Report<'_>) {
    let spec = FieldPath::ROOT.field("spec");
    let host = rule.host.in_namespace(report.object().namespace());
    if !context.any_host(&host) {
        let message = format!("host {host} is in no Service and no ServiceEntry, so the rule has no effect");
        return report.warning(
            Code::UnknownDestinationRuleHost,
            &spec.field("host"),
            message,
            "correct the name",
        );
    }
    let known = context.hosts(&host);
    let subsets = spec.field("subsets");
    for (index, subset) in rule.subsets.iter().enumerate() {
        let nothing = !subset.labels.is_empty()
            && !known.is_empty()
            && !known.iter().any(|known| has(&known.endpoints, &subset.labels));
        if nothing {
            let message = format!(
                "no endpoint of {host} is known to have the labels of subset {}",
                subset.name
            );
            let place = subsets.index(index);
            report.warning(
                Code::SubsetSelectsNothing,
                &place.field("labels"),
                message,
                "correct the labels, or leave them out",
            );
        }
    }
}

/// Whether some endpoint is known to have the labels.
fn has(endpoints: &Endpoints<'_>, labels: &Labels) -> bool {
    match endpoints {
        Endpoints::Selected(selector) => selects(labels, selector),
        Endpoints::Listed(entries) => entries.iter().any(|entry| selects(labels, &entry.labels)),
        Endpoints::Found => false,
    }
}

/// Connections that clients encrypt themselves go to a host without a subset, and TLS that the rule originates for the whole
/// host wraps them once more.
fn check_passthrough(context: &Context<'_>, rule: &DestinationRule, report: &mut Report<'_>) {
    let host = rule.host.in_namespace(report.object().namespace());
    let known = context.hosts(&host);
    let mut ports = known.iter().flat_map(|known| &known.tls_ports);
    let Some(port) = ports.find(|port| originates_tls(rule, "", **port)) else {
        return;
    };
    let message = format!(
        "TLS is originated for all of {host}, also on port {port} whose protocol says that clients speak TLS: theirs is wrapped in \
         TLS once more"
    );
    report.warning(
        Code::DoubleTls,
        &FieldPath::ROOT.field("spec").field("trafficPolicy"),
        message,
        "originate TLS in a subset, and route to that subset what is not yet encrypted",
    );
}

/// Whether TLS to a site outside begins at the proxy: the port's setting replaces the subset's, which replaces the host's.
pub(super) fn originates_tls(rule: &DestinationRule, subset: &str, port: Port) -> bool {
    let of = |policy: &TrafficPolicy| {
        let for_port = policy
            .port_level_settings
            .iter()
            .find(|settings| settings.port.number == port);
        for_port
            .map_or(policy.tls.as_ref(), |settings| settings.tls.as_ref())
            .map(|tls| tls.mode)
    };
    let subset = rule.subsets.iter().find(|candidate| candidate.name == subset);
    let subset_mode = subset.and_then(|subset| subset.traffic_policy.as_ref()).and_then(of);
    let mode = subset_mode.or_else(|| rule.traffic_policy.as_ref().and_then(of));
    matches!(mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual))
}
