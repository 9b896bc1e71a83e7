//! What is in order and still worth knowing: where a rule means more here than in Istio, and where it lets others in.
//!
//! Only [`analyze`](super::analyze) says these things; nothing is withheld for them.

use std::collections::BTreeSet;

use super::context::Context;
use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Object, Report,
        destination_rule::{ClientTls, ClientTlsMode, DestinationRule, TrafficPolicy},
        gateway::{Gateway, Server, ServerTlsMode},
        scalar::Protocol,
        scope::NamespaceScope,
    },
    mesh_config::MeshConfig,
};

pub(super) fn give(context: &Context<'_>, mesh: &MeshConfig, diagnostics: &mut Vec<Diagnostic>) {
    for (object, gateway) in context.objects.of::<Gateway>() {
        let mut report = Report::new(object);
        for (index, server) in gateway.servers.iter().enumerate() {
            open_to_any_namespace(server, index, &mut report);
            members_only(mesh, server, index, &mut report);
        }
        diagnostics.extend(report.into_diagnostics());
    }
    let gateways = gateway_namespaces(context);
    for (object, rule) in context.objects.of::<DestinationRule>() {
        let mut report = Report::new(object);
        each_tls(rule, &mut |tls, place| {
            names_checked(context, mesh, rule, tls, place, &mut report);
            foreign_files(mesh, &gateways, object, tls, place, &mut report);
        });
        diagnostics.extend(report.into_diagnostics());
    }
}

/// A host without a namespace lets every namespace route it.
fn open_to_any_namespace(server: &Server, index: usize, report: &mut Report<'_>) {
    let own = report.object().namespace();
    let (spec, servers, place, hosts);
    spec = FieldPath::ROOT.field("spec");
    servers = spec.field("servers");
    place = servers.index(index);
    hosts = place.field("hosts");
    for (number, host) in server.hosts.iter().enumerate() {
        if host.namespace == NamespaceScope::Any && !host.explicit {
            report.note(
                Code::OpenToAnyNamespace,
                &hosts.index(number),
                format!(
                    "a VirtualService of any namespace may route {0} here; {own}/{0} would keep it to this one",
                    host.host.pattern()
                ),
                "write the namespace, or */ to say that any is meant",
            );
        }
    }
}

/// What saferDefaults make of a server without names.
fn members_only(mesh: &MeshConfig, server: &Server, index: usize, report: &mut Report<'_>) {
    let Some(tls) = &server.tls else { return };
    let terminates = tls.mode == ServerTlsMode::IstioMutual && server.port.protocol != Protocol::Http;
    if !terminates || !tls.subject_alt_names.is_empty() || !mesh.safer_defaults.verify_client_trust_domain {
        return;
    }
    let (spec, servers, place);
    spec = FieldPath::ROOT.field("spec");
    servers = spec.field("servers");
    place = servers.index(index);
    let domains: Vec<_> = mesh.trust_domains().map(ToString::to_string).collect();
    report.note(
        Code::SaferThanIstio,
        &place.field("tls"),
        format!(
            "only identities of {} are let in; Istio lets in whoever has a certificate of the mesh's roots",
            domains.join(", ")
        ),
        "saferDefaults.verifyClientTrustDomain: false in --mesh-config does as Istio does",
    );
}

/// Calls for every TLS setting of a rule, with its place.
fn each_tls(rule: &DestinationRule, call: &mut dyn FnMut(&ClientTls, &FieldPath<'_>)) {
    let spec = FieldPath::ROOT.field("spec");
    if let Some(policy) = &rule.traffic_policy {
        of_policy(policy, &spec.field("trafficPolicy"), call);
    }
    let subsets = spec.field("subsets");
    for (index, subset) in rule.subsets.iter().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            of_policy(policy, &subsets.index(index).field("trafficPolicy"), call);
        }
    }
}

fn of_policy(policy: &TrafficPolicy, place: &FieldPath<'_>, call: &mut dyn FnMut(&ClientTls, &FieldPath<'_>)) {
    if let Some(tls) = &policy.tls {
        call(tls, &place.field("tls"));
    }
    let ports = place.field("portLevelSettings");
    for (index, settings) in policy.port_level_settings.iter().enumerate() {
        if let Some(tls) = &settings.tls {
            call(tls, &ports.index(index).field("tls"));
        }
    }
}

/// What saferDefaults make of a server name without a list of names.
fn names_checked(
    context: &Context<'_>,
    mesh: &MeshConfig,
    rule: &DestinationRule,
    tls: &ClientTls,
    place: &FieldPath<'_>,
    report: &mut Report<'_>,
) {
    let originates = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let host = rule.host.in_namespace(report.object().namespace());
    let listed = !tls.subject_alt_names.is_empty() || context.hosts(&host).iter().any(|known| known.lists_names);
    if !originates
        || tls.sni.is_empty()
        || listed
        || tls.insecure_skip_verify
        || !mesh.safer_defaults.verify_upstream_names
    {
        return;
    }
    report.note(
        Code::SaferThanIstio,
        &place.field("sni"),
        format!("the server's certificate must be for {}; Istio checks only who issued it", tls.sni),
        "list other names in subjectAltNames; saferDefaults.verifyUpstreamNames: false in --mesh-config does as Istio does",
    );
}

/// Namespaces with workloads that a Gateway selects.
fn gateway_namespaces<'a>(context: &'a Context<'_>) -> BTreeSet<&'a str> {
    let gateways = context.objects.of::<Gateway>();
    gateways
        .flat_map(|(_, gateway)| context.namespaces_of(&gateway.selector))
        .collect()
}

/// Files are those of whoever connects: a rule that somebody else wrote would spend the gateway's certificate.
fn foreign_files(
    mesh: &MeshConfig,
    gateways: &BTreeSet<&str>,
    object: &Object,
    tls: &ClientTls,
    place: &FieldPath<'_>,
    report: &mut Report<'_>,
) {
    let namespace = object.namespace();
    let at_home = gateways.is_empty() || gateways.contains(namespace) || namespace == mesh.root_namespace;
    if tls.mode != ClientTlsMode::Mutual || tls.client_certificate.is_empty() || at_home {
        return;
    }
    let consequence = if mesh.safer_defaults.own_credentials_only {
        "so that nothing reaches this destination through one"
    } else {
        "which saferDefaults.ownCredentialsOnly: false makes it do all the same"
    };
    report.warning(
        Code::ForeignCredentials,
        &place.field("clientCertificate"),
        format!("a gateway's own files are not for a rule of namespace {namespace}, {consequence}"),
        "move the rule to the gateway's namespace",
    );
}
