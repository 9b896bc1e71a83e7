//! Reference section 9.4.

use crate::{
    diag::Code,
    istio::{
        destination_rule::{
            ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, H2UpgradePolicy, PortTrafficPolicy,
            TrafficPolicy,
        },
        path::FieldPath,
        report::Report,
    },
};

pub(super) fn validate(rule: &DestinationRule, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    if let Some(policy) = &rule.traffic_policy {
        check_policy(policy, &spec.field("trafficPolicy"), report);
    }
    let subsets = spec.field("subsets");
    for (index, subset) in rule.subsets.iter().enumerate() {
        let place = subsets.index(index);
        if !super::is_subset_name(&subset.name) {
            report.invalid(
                &place.field("name"),
                format!("subset name {:?} is invalid", subset.name),
                "use letters, digits and '-'",
            );
        }
        super::labels(&subset.labels, &place.field("labels"), report);
        if let Some(policy) = &subset.traffic_policy {
            check_policy(policy, &place.field("trafficPolicy"), report);
        }
    }
    if let Some((first, index)) = super::repeated(rule.subsets.iter().map(|subset| &subset.name)) {
        let message = format!("subset {:?} is also subsets[{first}]", rule.subsets[index].name);
        report.invalid(
            &subsets.index(index).field("name"),
            message,
            "give every subset a name of its own",
        );
    }
    super::exports(&rule.export_to, &spec.field("exportTo"), false, report);
}

fn check_policy(policy: &TrafficPolicy, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let ports = path.field("portLevelSettings");
    if policy.is_empty() && policy.port_level_settings.is_empty() {
        report.invalid(
            path,
            "a traffic policy must have at least one field",
            "remove it, or set something",
        );
    }
    check_blocks(policy.connection_pool.as_ref(), policy.tls.as_ref(), path, report);
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        check_port(port, &ports.index(index), report);
    }
    if let Some((first, index)) = super::repeated(policy.port_level_settings.iter().map(|port| port.port.number)) {
        let number = policy.port_level_settings[index].port.number;
        let message = format!("port {number} is also portLevelSettings[{first}]");
        report.invalid(&ports.index(index).field("port"), message, "merge the two");
    }
}

fn check_port(policy: &PortTrafficPolicy, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if policy.load_balancer.is_none() && policy.connection_pool.is_none() && policy.tls.is_none() {
        report.invalid(
            path,
            "port settings must have at least one field besides port",
            "remove them, or set something",
        );
    }
    check_blocks(policy.connection_pool.as_ref(), policy.tls.as_ref(), path, report);
}

fn check_blocks(pool: Option<&ConnectionPool>, tls: Option<&ClientTls>, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if let Some(pool) = pool {
        check_pool(pool, &path.field("connectionPool"), report);
    }
    if let Some(tls) = tls {
        check_tls(tls, &path.field("tls"), report);
    }
}

fn check_pool(pool: &ConnectionPool, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if pool.tcp.is_none() && pool.http.is_none() {
        report.invalid(
            path,
            "a connection pool must have at least one field",
            "set tcp or http",
        );
    }
    if let Some(http) = &pool.http
        && http.use_client_protocol
        && http.h2_upgrade_policy == H2UpgradePolicy::Upgrade
    {
        let place = path.field("http");
        report.invalid(
            &place.field("useClientProtocol"),
            "conflicts with h2UpgradePolicy UPGRADE",
            "keep one of the two",
        );
    }
}

fn check_tls(tls: &ClientTls, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let certificate = path.field("clientCertificate");
    let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates];
    match tls.mode {
        ClientTlsMode::Mutual if tls.client_certificate.is_empty() => {
            report.invalid(
                &certificate,
                "MUTUAL needs a client certificate",
                "set clientCertificate and privateKey to files",
            );
        }
        ClientTlsMode::Mutual if tls.private_key.is_empty() => {
            report.invalid(
                &path.field("privateKey"),
                "MUTUAL needs a private key",
                "set privateKey to a file",
            );
        }
        ClientTlsMode::IstioMutual if files.iter().any(|file| !file.is_empty()) => {
            report.invalid(
                path,
                "ISTIO_MUTUAL uses the mesh certificate and cannot have files",
                "remove the files, or use MUTUAL",
            );
        }
        ClientTlsMode::Simple if !tls.client_certificate.is_empty() || !tls.private_key.is_empty() => {
            report.questionable(
                &certificate,
                "SIMPLE does not use a client certificate",
                "remove it, or use MUTUAL",
            );
        }
        ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => {}
    }
    check_verification(tls, path, report);
}

fn check_verification(tls: &ClientTls, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let place = path.field("insecureSkipVerify");
    match tls.mode {
        ClientTlsMode::Simple | ClientTlsMode::Mutual if tls.insecure_skip_verify => {
            let message = "the server's certificate is not checked, anybody on the way can read and change the traffic";
            report.warning(
                Code::VerificationOff,
                &place,
                message,
                "set caCertificates to the roots that server uses",
            );
        }
        ClientTlsMode::IstioMutual if tls.insecure_skip_verify => {
            report.invalid(&place, "ISTIO_MUTUAL is always verified", "remove it");
        }
        ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => {}
    }
}
