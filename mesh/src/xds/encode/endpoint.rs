//! `config.endpoint.v3`: endpoints.

use crate::{
    ClusterName,
    cluster::{Endpoint, EndpointAddress, Endpoints},
    xds::{
        encode::common,
        pb::{
            core::HealthStatus,
            endpoint::{self, lb_endpoint::HostIdentifier},
        },
    },
};

/// Encodes endpoints under the name clusters ask for them by.
pub fn endpoints(name: &ClusterName, endpoints: &Endpoints) -> endpoint::ClusterLoadAssignment {
    let localities = if endpoints.0.is_empty() {
        vec![]
    } else {
        vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: endpoints.0.iter().map(lb_endpoint).collect(),
            ..Default::default()
        }]
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: localities,
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> endpoint::LbEndpoint {
    let address = match &endpoint.address {
        EndpointAddress::Socket(address) => common::socket(*address),
        EndpointAddress::Name(host, port) => common::address(host.to_string(), *port),
        EndpointAddress::Pipe(path) => common::pipe(path),
    };
    let health = if endpoint.healthy {
        HealthStatus::Unknown
    } else {
        HealthStatus::Unhealthy
    };
    endpoint::LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: common::uint32(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    }
}
