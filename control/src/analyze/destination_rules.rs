//! What DestinationRules are for.

use super::context::{Context, Endpoints, Labels};
use crate::{
    diag::{Code, Diagnostic},
    istio::{FieldPath, Report, destination_rule::DestinationRule, metadata::selects},
};

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (object, rule) in context.objects.of::<DestinationRule>() {
        let mut report = Report::new(object);
        check_host(context, rule, &mut report);
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
