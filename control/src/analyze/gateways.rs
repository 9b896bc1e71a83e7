//! Which ports Gateways want, and whether they get them.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::context::Context;
use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Object, Report,
        gateway::{Gateway, Server, ServerTlsMode},
        kubernetes::Service,
        metadata::selects,
        scalar::Port,
        scope::GatewayRef,
        virtual_service::VirtualService,
    },
};

/// One server of one Gateway.
struct Claim<'a> {
    object: &'a Object,
    gateway: &'a Gateway,
    /// The known workloads that the Gateway selects.
    workloads: Rc<BTreeSet<usize>>,
    index: usize,
    server: &'a Server,
}

pub(super) fn check(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (object, gateway) in context.objects.of::<Gateway>() {
        let mut report = Report::new(object);
        check_service(context, gateway, &mut report);
        check_passthrough(context, gateway, &mut report);
        diagnostics.extend(report.into_diagnostics());
    }
    check_conflicts(context, diagnostics);
}

/// The Service in front of a gateway says where its ports really are.
fn check_service(context: &Context<'_>, gateway: &Gateway, report: &mut Report<'_>) {
    let spec = FieldPath::ROOT.field("spec");
    let selected = |labels: &BTreeMap<String, String>| selects(&gateway.selector, labels);
    let services: Vec<&Service> = context
        .workloads(None)
        .filter(|(_, labels)| selected(labels))
        .map(|(service, _)| *service)
        .collect();
    if services.is_empty() {
        if context.workloads(None).next().is_some() {
            let message = "no Service is known whose workloads have these labels";
            report.warning(
                Code::ReferenceNotFound,
                &spec.field("selector"),
                message,
                "correct the labels, or add the gateway's Service",
            );
        }
        return;
    }
    let servers = spec.field("servers");
    for (index, server) in gateway.servers.iter().enumerate() {
        let number = server.port.number;
        if !services.iter().any(|service| has_port(service, number)) {
            let message = format!("no Service of the gateway has port {number}; the proxy listens on {number} itself");
            let (place, advice) = (
                servers.index(index),
                "add the port to the Service, or use one that it has",
            );
            report.warning(
                Code::GatewayPortNotOnService,
                &place.field("port").field("number"),
                message,
                advice,
            );
        }
    }
}

fn has_port(service: &Service, number: Port) -> bool {
    service
        .ports
        .iter()
        .any(|port| port.port == number || port.target_number() == Some(number))
}

/// A server that passes TLS through opens only once a route says where to.
fn check_passthrough(context: &Context<'_>, gateway: &Gateway, report: &mut Report<'_>) {
    let object = report.object();
    let (spec, servers);
    spec = FieldPath::ROOT.field("spec");
    servers = spec.field("servers");
    for (index, server) in gateway.servers.iter().enumerate() {
        let passes = server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode == ServerTlsMode::Passthrough)
            && server.port.protocol.is_tls();
        if passes && !has_tls_route(context, object, server) {
            let message = "no VirtualService has a tls route for this server, so the port is not opened";
            let place = servers.index(index);
            report.warning(
                Code::NothingToPassThrough,
                &place.field("tls").field("mode"),
                message,
                "add a tls route bound to this Gateway",
            );
        }
    }
}

fn has_tls_route(context: &Context<'_>, object: &Object, server: &Server) -> bool {
    context.objects.of::<VirtualService>().any(|(service_object, service)| {
        let own = service_object.namespace();
        let is_this = |gateway: &GatewayRef| gateway.resolve(own) == Some((object.namespace(), object.name()));
        let applies = |gateways: &[GatewayRef]| gateways.is_empty() || gateways.iter().any(is_this);
        service.gateways.iter().any(is_this)
            && service.tls.iter().flat_map(|route| &route.matches).any(|condition| {
                applies(&condition.gateways) && condition.port.is_none_or(|port| port == server.port.number)
            })
    })
}

/// Servers that cannot both have a port: the later of two is refused.
fn check_conflicts(context: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_port: BTreeMap<Port, Vec<Claim<'_>>> = BTreeMap::new();
    let mut gateways: Vec<_> = context.objects.of::<Gateway>().collect();
    gateways.sort_by(|a, b| context.precedence(a.0, b.0));
    for (object, gateway) in gateways {
        let workloads = Rc::new(context.chosen_by(&gateway.selector));
        for (index, server) in gateway.servers.iter().enumerate() {
            by_port.entry(server.port.number).or_default().push(Claim {
                object,
                gateway,
                workloads: Rc::clone(&workloads),
                index,
                server,
            });
        }
    }
    for claims in by_port.into_values() {
        for (at, claim) in claims.iter().enumerate() {
            let rival = claims
                .iter()
                .take(at)
                .find_map(|first| quarrel(first, claim).map(|reason| (first, reason)));
            if let Some((first, reason)) = rival {
                diagnostics.extend(refusal(claim, first, &reason));
            }
        }
    }
}

/// Why two servers for one port exclude each other, if they do.
fn quarrel(first: &Claim<'_>, second: &Claim<'_>) -> Option<String> {
    if !meet(first, second) {
        return None;
    }
    let tls = [first, second].map(|claim| claim.server.port.protocol.is_tls());
    match tls {
        [false, false] => None,
        [true, true] => {
            let theirs = &first.server.hosts;
            let shared = second
                .server
                .hosts
                .iter()
                .find(|ours| theirs.iter().any(|theirs| theirs.host == ours.host));
            shared.map(|scoped| format!("serves {} on that port already", scoped.host))
        }
        [true, false] | [false, true] => Some("serves another protocol on that port already".to_owned()),
    }
}

/// Whether both may be for the same proxy, as far as proxies are known.
fn meet(first: &Claim<'_>, second: &Claim<'_>) -> bool {
    let (a, b) = (&first.gateway.selector, &second.gateway.selector);
    selects(a, b) || selects(b, a) || !first.workloads.is_disjoint(&second.workloads)
}

fn refusal(claim: &Claim<'_>, first: &Claim<'_>, reason: &str) -> Vec<Diagnostic> {
    let mut report = Report::new(claim.object);
    let (spec, servers, server);
    spec = FieldPath::ROOT.field("spec");
    servers = spec.field("servers");
    server = servers.index(claim.index);
    let number = claim.server.port.number;
    let message = format!(
        "port {number} is taken: servers[{}] of {} {reason}",
        first.index, first.object.id
    );
    report.error(
        Code::ConflictingGateways,
        &server,
        message,
        "use other hosts, another port, or one Gateway for both",
    );
    report.into_diagnostics()
}
