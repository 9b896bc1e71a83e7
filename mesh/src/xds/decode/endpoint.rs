//! `config.endpoint.v3`: endpoints.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    ClusterName,
    cluster::{Endpoint, EndpointAddress, Endpoints},
    host::Host,
    xds::{
        decode::common,
        pb::{
            core::{self, HealthStatus},
            endpoint::{self, lb_endpoint::HostIdentifier},
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of endpoints.
    MESSAGES:
    endpoint::ClusterLoadAssignment {
        supported { cluster_name, endpoints }
        rejected { named_endpoints, policy }
    }
    endpoint::LocalityLbEndpoints {
        supported { lb_endpoints, priority = "0" }
        ignored {
            locality = "all endpoints form one list; locality-aware balancing is not done",
            metadata = "labels for tools",
            load_balancing_weight = "only used by locality-weighted balancing, which is rejected",
            proximity = "not used by Envoy either",
        }
        rejected { lb_config }
    }
    endpoint::LbEndpoint {
        supported {
            health_status = "UNKNOWN and HEALTHY are used; DEGRADED is not, while Envoy falls back to it",
            load_balancing_weight = "at least 1",
            host_identifier = "endpoint",
        }
        ignored { metadata = "labels for tools, and input of the rejected transport_socket_matches" }
    }
    endpoint::Endpoint {
        supported { address }
        ignored {
            hostname = "only used by health checks and host rewrites, which are rejected",
            observability_name = "a label for statistics",
        }
        rejected { health_check_config, additional_addresses }
    }
}

/// A resource of its own.
pub(super) fn resource(
    scope: &Scope<'_>,
    message: &endpoint::ClusterLoadAssignment,
) -> Decoded<(ClusterName, Endpoints)> {
    let name = scope
        .field("cluster_name")
        .parse(&message.cluster_name, ClusterName::parse)?;
    Ok((name, by_address(scope, message)?))
}

/// Endpoints that must be given by address.
pub(super) fn by_address(scope: &Scope<'_>, message: &endpoint::ClusterLoadAssignment) -> Decoded<Endpoints> {
    let endpoints = anywhere(scope, message)?;
    for endpoint in &endpoints.0 {
        if let EndpointAddress::Name(host, _) = &endpoint.address {
            return Err(scope.field("endpoints").refuse(
                host,
                "an IP address; names are only resolved in STRICT_DNS and LOGICAL_DNS clusters",
            ));
        }
    }
    Ok(endpoints)
}

/// Endpoints by address or by name, to be looked up.
pub(super) fn endpoints(scope: &Scope<'_>, message: &endpoint::ClusterLoadAssignment) -> Decoded<Endpoints> {
    let endpoints = anywhere(scope, message)?;
    for endpoint in &endpoints.0 {
        if let EndpointAddress::Pipe(path) = &endpoint.address {
            return Err(scope.field("endpoints").refuse(
                path.display(),
                "a socket_address; a pipe is for clusters of type STATIC",
            ));
        }
    }
    Ok(endpoints)
}

fn anywhere(scope: &Scope<'_>, message: &endpoint::ClusterLoadAssignment) -> Decoded<Endpoints> {
    scope.check(message);
    let localities = scope.list("endpoints", &message.endpoints, locality)?;
    Ok(Endpoints(localities.into_iter().flatten().collect()))
}

/// The one endpoint that `LOGICAL_DNS` resolves.
pub(super) fn only(scope: &Scope<'_>, endpoints: Endpoints) -> Decoded<Endpoint> {
    <[_; 1]>::try_from(endpoints.0)
        .map(|[endpoint]| endpoint)
        .map_err(|endpoints| {
            let found = format!("{} endpoints", endpoints.len());
            scope.field("endpoints").refuse(found, "LOGICAL_DNS needs exactly one")
        })
}

fn locality(scope: &Scope<'_>, message: &endpoint::LocalityLbEndpoints) -> Decoded<Vec<Endpoint>> {
    scope.check(message);
    if message.priority != 0 {
        scope
            .field("priority")
            .refuse(message.priority, "only priority 0 is supported");
    }
    scope.list("lb_endpoints", &message.lb_endpoints, lb_endpoint)
}

fn lb_endpoint(scope: &Scope<'_>, message: &endpoint::LbEndpoint) -> Decoded<Endpoint> {
    scope.check(message);
    let health: HealthStatus = scope.field("health_status").enumeration(message.health_status)?;
    let weight = message.load_balancing_weight.map(|weight| weight.value);
    if weight == Some(0) {
        scope.field("load_balancing_weight").refuse(0, "at least 1");
    }
    let address = match scope.required("host_identifier", &message.host_identifier)? {
        HostIdentifier::Endpoint(endpoint) => address(&scope.field("endpoint"), endpoint)?,
        HostIdentifier::EndpointName(name) => {
            return Err(scope.field("endpoint_name").refuse(name, "only endpoint is supported"));
        }
    };
    Ok(Endpoint {
        address,
        weight,
        healthy: is_healthy(health),
    })
}

/// `UNKNOWN` means that nobody checks; `DEGRADED` hosts are used by Envoy only when no other is left.
fn is_healthy(health: HealthStatus) -> bool {
    match health {
        HealthStatus::Unknown | HealthStatus::Healthy => true,
        HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout | HealthStatus::Degraded => false,
    }
}

fn address(scope: &Scope<'_>, message: &endpoint::Endpoint) -> Decoded<EndpointAddress> {
    scope.check(message);
    let scope = scope.field("address");
    let address = message.address.as_ref().ok_or_else(|| scope.missing())?;
    if let Some(core::address::Address::Pipe(pipe)) = &address.address {
        return socket_path(&scope.field("pipe"), pipe).map(EndpointAddress::Pipe);
    }
    let (host, port) = common::host_and_port(&scope, address)?;
    if port == 0 {
        return Err(scope
            .field("socket_address.port_value")
            .refuse(0, "a port from 1 to 65535"));
    }
    match host.parse() {
        Ok(ip) => Ok(EndpointAddress::Socket(SocketAddr::new(ip, port))),
        Err(_) => Ok(EndpointAddress::Name(
            scope.field("socket_address.address").parse(host, Host::parse)?,
            port,
        )),
    }
}

/// The path of a Unix socket.
fn socket_path(scope: &Scope<'_>, message: &core::Pipe) -> Decoded<PathBuf> {
    scope.check(message);
    match message.path.as_str() {
        "" => Err(scope.field("path").missing()),
        name if name.starts_with('@') => Err(scope
            .field("path")
            .refuse(name, "the path of a file; abstract sockets are not supported")),
        path => Ok(path.into()),
    }
}
