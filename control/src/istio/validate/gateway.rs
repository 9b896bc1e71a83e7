//! Reference section 9.2.

use crate::{
    diag::Code,
    istio::{
        gateway::{Gateway, Server, ServerTls, ServerTlsMode},
        path::FieldPath,
        report::Report,
        scalar::Protocol,
        scope::{NamespaceScope, is_dns_label},
    },
};

pub(super) fn validate(gateway: &Gateway, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    if !is_dns_label(report.object().name()) {
        let metadata = FieldPath::ROOT.field("metadata");
        report.invalid(
            &metadata.field("name"),
            "invalid gateway name",
            "use a-z, 0-9 and '-', at most 63 characters",
        );
    }
    super::labels(&gateway.selector, &spec.field("selector"), report);
    let servers = spec.field("servers");
    if gateway.servers.is_empty() {
        report.invalid(
            &servers,
            "a gateway must have at least one server",
            "add a server with port and hosts",
        );
    }
    for (index, server) in gateway.servers.iter().enumerate() {
        check_server(server, &servers.index(index), report);
    }
    if let Some((first, index)) = super::repeated(gateway.servers.iter().map(|server| &server.port.name)) {
        let name = &gateway.servers[index].port.name;
        let (server, message) = (
            servers.index(index),
            format!("port name {name:?} is that of servers[{first}] too"),
        );
        report.invalid(
            &server.field("port").field("name"),
            message,
            "give every port a name of its own",
        );
    }
}

/// Longest name of a port, in bytes. It becomes part of a route configuration's name, which is bounded too.
const MAX_PORT_NAME: usize = 253;

fn check_server(server: &Server, path: &FieldPath<'_>, report: &mut Report<'_>) {
    match server.port.name.len() {
        0 => report.invalid(&path.field("port"), "the port must have a name", "set port.name"),
        1..=MAX_PORT_NAME => {}
        length => report.invalid(
            &path.field("port").field("name"),
            format!("the port's name has {length} bytes"),
            "use at most 253",
        ),
    }
    let hosts = path.field("hosts");
    if server.hosts.is_empty() {
        report.invalid(
            &hosts,
            "a server must have at least one host",
            "list hosts, or '*' for all",
        );
    }
    for (index, scoped) in server.hosts.iter().enumerate() {
        if scoped.namespace == NamespaceScope::Nowhere {
            report.invalid(
                &hosts.index(index),
                "~ is not a namespace a server can take hosts from",
                "use a name, '.' or '*'",
            );
        }
        if scoped.host.ip().is_some() {
            report.invalid(
                &hosts.index(index),
                format!("{} is an address", scoped.host),
                "use host names",
            );
        }
    }
    check_tls(server, path, report);
}

fn check_tls(server: &Server, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let (tls_path, protocol) = (path.field("tls"), server.port.protocol);
    match (protocol, &server.tls) {
        (Protocol::Tcp, _) => {
            let (port, advice) = (path.field("port"), "use HTTP, HTTPS or TLS");
            report.error(
                Code::NotImplemented,
                &port.field("protocol"),
                "protocol TCP is not implemented at a gateway",
                advice,
            );
        }
        (Protocol::Https | Protocol::Tls, None) => {
            report.invalid(path, "a server for HTTPS or TLS must have TLS settings", "set tls.mode");
        }
        (Protocol::Https | Protocol::Tls, Some(tls)) => check_tls_server(protocol, tls, &tls_path, report),
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, Some(tls)) if !tls.https_redirect => {
            report.invalid(
                &tls_path,
                "a plain text HTTP port cannot have TLS settings",
                "use protocol HTTPS, or httpsRedirect",
            );
        }
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, _) => {}
    }
}

fn check_tls_server(protocol: Protocol, tls: &ServerTls, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if tls.https_redirect {
        report.questionable(
            &path.field("httpsRedirect"),
            "a redirect to https has no effect on a TLS port",
            "remove it",
        );
    }
    match tls.mode {
        ServerTlsMode::IstioMutual if protocol == Protocol::Tls => {
            let message = "terminating TLS without HTTP is not implemented";
            report.error(
                Code::NotImplemented,
                &path.field("mode"),
                message,
                "use protocol HTTPS, or mode PASSTHROUGH",
            );
        }
        ServerTlsMode::Passthrough if !tls.subject_alt_names.is_empty() => {
            let message = "PASSTHROUGH does not see certificates, the names are ignored";
            report.questionable(&path.field("subjectAltNames"), message, "remove them");
        }
        ServerTlsMode::Passthrough | ServerTlsMode::IstioMutual => {}
    }
}
