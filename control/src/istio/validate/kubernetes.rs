//! What the API server checks of core objects, as far as we depend on it.

use std::net::IpAddr;

use crate::istio::{
    kubernetes::{AddressType, EndpointSlice, Service},
    path::FieldPath,
    report::Report,
};

pub(super) fn validate_service(service: &Service, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    let address = service.cluster_ip.as_str();
    if !matches!(address, "" | "None") && address.parse::<IpAddr>().is_err() {
        report.invalid(
            &spec.field("clusterIP"),
            format!("{address:?} is not an IP address"),
            "use an address, None, or leave it out",
        );
    }
    let ports = spec.field("ports");
    for (index, port) in service.ports.iter().enumerate() {
        if port.name.is_empty() && service.ports.len() > 1 {
            report.invalid(&ports.index(index), "with several ports each needs a name", "set name");
        }
    }
    if let Some((first, index)) = super::repeated(service.ports.iter().map(|port| (port.port, port.protocol))) {
        let message = format!("port {} is also ports[{first}]", service.ports[index].port);
        report.invalid(&ports.index(index).field("port"), message, "remove one of the two");
    }
}

pub(super) fn validate_slice(slice: &EndpointSlice, report: &mut Report<'_>) {
    if EndpointSlice::service_name(&report.object().metadata).is_none() {
        let metadata = FieldPath::ROOT.field("metadata");
        let message = "belongs to no Service";
        report.questionable(
            &metadata.field("labels"),
            message,
            "set the label kubernetes.io/service-name",
        );
    }
    let endpoints = FieldPath::ROOT.field("endpoints");
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let place = endpoints.index(index);
        let addresses = place.field("addresses");
        for (at, address) in endpoint.addresses.iter().enumerate() {
            if address.is_ipv4() != (slice.address_type == AddressType::IPv4) {
                let message = format!("{address} is not of address type {:?}", slice.address_type);
                report.invalid(&addresses.index(at), message, "use one slice per address type");
            }
        }
    }
}
