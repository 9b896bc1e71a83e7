//! Where VirtualServices lead, and which of them compete.

use std::collections::{BTreeMap, BTreeSet};

use mesh::host::HostPattern;

use super::{
    context::{Context, KnownHost},
    destination_rules::originates_tls,
};
use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Object, Report,
        gateway::Gateway,
        scalar::Port,
        scope::{Export, NamespaceScope},
        virtual_service::{Destination, Place, VirtualService},
    },
};

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (object, service) in context.objects.of::<VirtualService>() {
        let mut report = Report::new(object);
        check_gateways(context, service, &mut report);
        check_destinations(context, service, &mut report);
        context.check_exports(&service.export_to, &mut report);
        diagnostics.extend(report.into_diagnostics());
    }
    check_mesh_hosts(context, diagnostics);
}

fn check_gateways(context: &Context<'_>, service: &VirtualService, report: &mut Report<'_>) {
    let own = report.object().namespace();
    let spec = FieldPath::ROOT.field("spec");
    let list = spec.field("gateways");
    let mut bound = Vec::new();
    for (index, gateway) in service.gateways.iter().enumerate() {
        let Some((namespace, name)) = gateway.resolve(own) else {
            continue;
        };
        match context.objects.get::<Gateway>(namespace, name) {
            Some((object, gateway)) => bound.push((object, gateway)),
            None => {
                let message = format!("Gateway {namespace}/{name} does not exist");
                report.error(
                    Code::ReferenceNotFound,
                    &list.index(index),
                    message,
                    "create it, or correct the name",
                );
            }
        }
    }
    let hosts = spec.field("hosts");
    for (object, gateway) in bound {
        for (index, host) in service.hosts.iter().enumerate() {
            if !serves(gateway, object.namespace(), host.pattern(), own) {
                let message = format!("{} does not serve {host} for namespace {own}", object.id);
                report.warning(
                    Code::HostNotInGateway,
                    &hosts.index(index),
                    message,
                    "add the host to one of its servers",
                );
            }
        }
    }
}

/// Whether a server of the Gateway takes this host from VirtualServices of a namespace.
pub(super) fn serves(gateway: &Gateway, gateway_namespace: &str, host: &HostPattern, namespace: &str) -> bool {
    gateway.servers.iter().flat_map(|server| &server.hosts).any(|scoped| {
        let pattern = scoped.host.pattern();
        scoped.namespace.contains(namespace, gateway_namespace) && (pattern.covers(host) || host.covers(pattern))
    })
}

fn check_destinations(context: &Context<'_>, service: &VirtualService, report: &mut Report<'_>) {
    let spec = FieldPath::ROOT.field("spec");
    for (at, destination) in service.destinations() {
        let list = spec.field(at.list);
        let entry = list.index(at.route);
        let (within, to);
        let path = match at.place {
            Place::Mirror => entry.field("mirror"),
            Place::Route(index) => {
                within = entry.field("route");
                to = within.index(index);
                to.field("destination")
            }
            Place::Mirrors(index) => {
                within = entry.field("mirrors");
                to = within.index(index);
                to.field("destination")
            }
        };
        check_destination(context, destination, at.list == "tls", &path, report);
    }
}

fn check_destination(
    context: &Context<'_>,
    destination: &Destination,
    is_tls: bool,
    path: &FieldPath<'_>,
    report: &mut Report<'_>,
) {
    let own = report.object().namespace();
    let host = destination.host_in(own);
    let known = context.hosts(&host);
    let visible: Vec<_> = known.iter().copied().filter(|known| known.visible_in(own)).collect();
    if visible.is_empty() {
        let message = match known.first() {
            None => format!("host {host} is in no Service and no ServiceEntry"),
            Some(hidden) => format!("host {host} of namespace {} is not exported to {own}", hidden.namespace),
        };
        report.error(
            Code::ReferenceNotFound,
            &path.field("host"),
            message,
            "correct the name, or add a ServiceEntry for it",
        );
        return;
    }
    let port = check_port(destination, &host, &visible, path, report);
    check_subset(context, destination, &host, path, report);
    if let Some(port) = port.filter(|_| is_tls) {
        check_double_tls(context, destination, &host, port, path, report);
    }
}

/// The port that is meant, if that can be told.
fn check_port(
    destination: &Destination,
    host: &HostPattern,
    known: &[&KnownHost<'_>],
    path: &FieldPath<'_>,
    report: &mut Report<'_>,
) -> Option<Port> {
    let ports: BTreeSet<Port> = known.iter().flat_map(|known| &known.ports).copied().collect();
    let listed = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match destination.port {
        Some(port) if ports.contains(&port.number) => Some(port.number),
        Some(port) => {
            let message = format!("host {host} has no port {}, only {listed}", port.number);
            report.error(
                Code::ReferenceNotFound,
                &path.field("port").field("number"),
                message,
                "use one of its ports",
            );
            None
        }
        None if ports.len() > 1 => {
            let message = format!("host {host} has several ports: {listed}");
            report.error(
                Code::PortRequired,
                &path.field("port"),
                message,
                "say which with port.number",
            );
            None
        }
        None => ports.first().copied(),
    }
}

fn check_subset(
    context: &Context<'_>,
    destination: &Destination,
    host: &HostPattern,
    path: &FieldPath<'_>,
    report: &mut Report<'_>,
) {
    if destination.subset.is_empty() {
        return;
    }
    let own = report.object().namespace();
    let rules: Vec<_> = context.rules(host, own).collect();
    let subsets = rules
        .iter()
        .flat_map(|rule| &rule.rule.subsets)
        .map(|subset| subset.name.as_str());
    let subsets: BTreeSet<&str> = subsets.collect();
    if !subsets.contains(destination.subset.as_str()) {
        let message = format!("no DestinationRule for {host} has a subset {}", destination.subset);
        let advice = match subsets.into_iter().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "add the subset to a DestinationRule for that host".to_owned(),
            some => format!("add it, or use one of: {some}"),
        };
        report.error(Code::ReferenceNotFound, &path.field("subset"), message, &advice);
    }
}

/// TLS that is passed through must not be wrapped in TLS once more.
fn check_double_tls(
    context: &Context<'_>,
    destination: &Destination,
    host: &HostPattern,
    port: Port,
    path: &FieldPath<'_>,
    report: &mut Report<'_>,
) {
    let own = report.object().namespace();
    let originates = context
        .rules(host, own)
        .find(|rule| originates_tls(rule.rule, &destination.subset, port));
    if let Some(rule) = originates {
        let message = format!("{} wraps the client's own TLS in TLS once more", rule.object.id);
        report.warning(
            Code::DoubleTls,
            path,
            message,
            "originate TLS in a subset, and pass through without it",
        );
    }
}

/// Sidecars take one VirtualService per host.
fn check_mesh_hosts(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_host: BTreeMap<HostPattern, Vec<(&Object, &VirtualService, usize)>> = BTreeMap::new();
    for (object, service) in context
        .objects
        .of::<VirtualService>()
        .filter(|(_, service)| service.is_for_mesh())
    {
        for (index, host) in service.hosts.iter().enumerate() {
            by_host
                .entry(host.in_namespace(object.namespace()))
                .or_default()
                .push((object, service, index));
        }
    }
    for (host, mut claims) in by_host.into_iter().filter(|(_, claims)| claims.len() > 1) {
        claims.sort_by(|a, b| context.precedence(a.0, b.0));
        for (at, (object, service, index)) in claims.iter().enumerate() {
            let rival = claims.iter().take(at).find(|(first, theirs, _)| {
                meet(
                    &theirs.export_to,
                    first.namespace(),
                    &service.export_to,
                    object.namespace(),
                )
            });
            if let Some((first, ..)) = rival {
                diagnostics.extend(conflict(object, *index, &host, first));
            }
        }
    }
}

fn conflict(object: &Object, index: usize, host: &HostPattern, first: &Object) -> Vec<Diagnostic> {
    let mut report = Report::new(object);
    let (spec, hosts);
    spec = FieldPath::ROOT.field("spec");
    hosts = spec.field("hosts");
    let message = format!(
        "{} routes {host} for sidecars already ({})",
        first.id,
        first.locate(&FieldPath::ROOT)
    );
    report.error(
        Code::ConflictingMeshHosts,
        &hosts.index(index),
        message,
        "merge the two, or export them to different namespaces",
    );
    report.into_diagnostics()
}

/// Whether some namespace sees both.
fn meet(a: &[Export], a_namespace: &str, b: &[Export], b_namespace: &str) -> bool {
    let seen = |exports: &[Export], own: &str| -> Option<BTreeSet<String>> {
        if exports.is_empty() {
            return None;
        }
        exports.iter().try_fold(BTreeSet::new(), |mut names, Export(scope)| {
            match scope {
                NamespaceScope::Any => return None,
                NamespaceScope::Own => names.insert(own.to_owned()),
                NamespaceScope::Nowhere => true,
                NamespaceScope::Named(name) => names.insert(name.clone()),
            };
            Some(names)
        })
    };
    match (seen(a, a_namespace), seen(b, b_namespace)) {
        (None, None) => true,
        (None, Some(some)) | (Some(some), None) => !some.is_empty(),
        (Some(a), Some(b)) => !a.is_disjoint(&b),
    }
}
