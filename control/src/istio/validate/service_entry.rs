//! Reference section 9.5.

use std::net::IpAddr;

use mesh::host::{Host, HostPattern};

use crate::{
    diag::Code,
    istio::{
        path::FieldPath,
        report::Report,
        scope::is_dns_label,
        service_entry::{Resolution, ServiceEntry, WorkloadEntry},
    },
};

pub(super) fn validate(entry: &ServiceEntry, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    check_hosts(entry, &spec.field("hosts"), report);
    check_ports(entry, &spec.field("ports"), report);
    check_addresses(entry, &spec.field("addresses"), report);
    check_resolution(entry, spec, report);
    check_endpoints(entry, &spec.field("endpoints"), report);
    super::exports(&entry.export_to, &spec.field("exportTo"), true, report);
}

fn check_hosts(entry: &ServiceEntry, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if entry.hosts.is_empty() {
        report.invalid(path, "a service entry must have at least one host", "list its hosts");
    }
    for (index, host) in entry.hosts.iter().enumerate() {
        match host.pattern() {
            HostPattern::Any => report.invalid(&path.index(index), "invalid host *", "use a name, or *.suffix"),
            HostPattern::Suffix(_) if entry.needs_names() => {
                let message = format!("{host} cannot be resolved: hosts must be full names if there are no endpoints");
                report.invalid(
                    &path.index(index),
                    message,
                    "name the hosts, list endpoints, or use resolution NONE",
                );
            }
            HostPattern::Suffix(_) | HostPattern::Exact(_) => {}
        }
    }
}

fn check_ports(entry: &ServiceEntry, path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, port) in entry.ports.iter().enumerate() {
        let place = path.index(index);
        if !is_dns_label(&port.name) {
            report.invalid(
                &place.field("name"),
                format!("{:?} is not a port name", port.name),
                "use a-z, 0-9 and '-'",
            );
        }
        let by_name = port
            .protocol
            .is_some_and(|protocol| protocol.is_http() || protocol.is_tls());
        if !by_name && entry.hosts.len() > 1 {
            let message = "a TCP port cannot tell several hosts apart";
            report.invalid(&place.field("protocol"), message, "use one entry per host");
        } else if !by_name && entry.addresses.is_empty() {
            let message = "a TCP port without addresses takes every connection to that port";
            report.warning(
                Code::AddressesRequired,
                &place.field("protocol"),
                message,
                "set addresses, or use TLS or HTTP",
            );
        }
    }
    if let Some((first, index)) = super::repeated(entry.ports.iter().map(|port| &port.name)) {
        let message = format!(
            "service entry port name {:?} already defined by ports[{first}]",
            entry.ports[index].name
        );
        report.invalid(
            &path.index(index).field("name"),
            message,
            "give every port a name of its own",
        );
    }
    if let Some((first, index)) = super::repeated(entry.ports.iter().map(|port| port.number)) {
        let message = format!("port {} already defined by ports[{first}]", entry.ports[index].number);
        report.invalid(&path.index(index).field("number"), message, "remove one of the two");
    }
}

fn check_addresses(entry: &ServiceEntry, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let ranges = matches!(entry.resolution, Resolution::None | Resolution::Static);
    for (index, address) in entry.addresses.iter().enumerate() {
        let net = address.net();
        if !ranges && net.prefix_len() != net.max_prefix_len() {
            let message = format!("CIDR address {net} is allowed only for NONE and STATIC resolution");
            report.invalid(&path.index(index), message, "list single addresses");
        }
    }
}

fn check_resolution(entry: &ServiceEntry, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    let endpoints = spec.field("endpoints");
    match (entry.resolution, entry.endpoints.len()) {
        (Resolution::None, 1..) => {
            report.invalid(
                &endpoints,
                "no endpoints should be provided for resolution NONE",
                "use STATIC or DNS",
            );
        }
        (Resolution::Static, 0) => {
            let message = "resolution STATIC without endpoints leads nowhere";
            report.questionable(&spec.field("resolution"), message, "list endpoints");
        }
        (Resolution::DnsRoundRobin, 2..) => {
            report.invalid(
                &endpoints,
                "there must only be 0 or 1 endpoint for resolution DNS_ROUND_ROBIN",
                "use DNS",
            );
        }
        (Resolution::None | Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin, _) => {}
    }
}

fn check_endpoints(entry: &ServiceEntry, path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let place = path.index(index);
        if !is_address(endpoint, entry.resolution) {
            let message = format!(
                "{:?} is not an address that resolution {:?} can use",
                endpoint.address, entry.resolution
            );
            report.invalid(
                &place.field("address"),
                message,
                "use an IP address, or DNS with a full name",
            );
        }
        for name in endpoint.ports.keys() {
            if !entry.ports.iter().any(|port| port.name == *name) {
                let ports = place.field("ports");
                report.invalid(
                    &ports.key(name),
                    format!("endpoint port {name:?} is not a port of the entry"),
                    "use a name from spec.ports",
                );
            }
        }
        super::labels(&endpoint.labels, &place.field("labels"), report);
    }
}

fn is_address(endpoint: &WorkloadEntry, resolution: Resolution) -> bool {
    match resolution {
        Resolution::Static => endpoint.address.parse::<IpAddr>().is_ok(),
        Resolution::Dns | Resolution::DnsRoundRobin => Host::parse(&endpoint.address).is_ok(),
        Resolution::None => true,
    }
}
