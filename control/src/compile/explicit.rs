//! The explicit proxy: a listener on loopback for applications that are told to use one.
//!
//! Requests in absolute form are routed by host and port, as Istio does. The named extension is CONNECT: a tunnel to a port
//! where TLS is spoken goes to the cluster that a captured connection with that server name would go to. A host that is not
//! known is refused whatever the mesh says about such hosts: nothing tells where an explicit connection was meant to go
//! except its name, and no name is resolved that no resource has.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use mesh::{
    bundle::Bundle,
    host::HostPattern,
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, RouteSource, TrafficDirection},
    route::{Domain, Forward, PathMatch, Route, RouteAction, RouteConfig, VirtualHost},
    source::Source,
};

use super::{
    Context,
    http::{self, Peer},
    mesh_routes::{MeshRoutes, Port},
    names,
    notes::Notes,
    route::{self, TlsTarget},
    sidecar::block_all,
    virtual_host::virtual_host,
};

/// Name of the route configuration, as Istio has it.
const ROUTES: &str = "http_proxy";
/// The port that a host without one means.
const HTTP_PORT: u16 = 80;

/// Adds the listener and its routes.
pub(super) fn add(cx: Context<'_>, port: u16, routes: &MeshRoutes<'_>, bundle: &mut Bundle, notes: &mut Notes) {
    let config = route_config(cx, routes, notes);
    let listener = listener(cx, port);
    bundle.routes.insert(config.name.clone(), config.into());
    bundle.listeners.insert(listener.name.clone(), listener.into());
}

fn listener(cx: Context<'_>, port: u16) -> Listener {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let routes = RouteSource::Rds(names::routes(ROUTES), Source::Ads);
    let stat_prefix = format!("outbound_{address}_{port};");
    Listener {
        name: names::listener(address, port),
        address: (address, port).into(),
        bind_to_port: true,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors::default(),
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains: vec![FilterChain {
            name: None,
            matches: FilterChainMatch::default(),
            tls: None,
            handshake_timeout: None,
            rbac: Vec::new(),
            protocol: http::connection_manager(cx, Peer::ProxyUser, stat_prefix, routes, Vec::new()),
        }],
        default_filter_chain: None,
        access_logs: http::listener_logs(cx),
        buffer_limit: None,
    }
}

fn route_config(cx: Context<'_>, routes: &MeshRoutes<'_>, notes: &mut Notes) -> RouteConfig {
    let mut hosts: BTreeMap<Domain, Vec<Route>> = BTreeMap::new();
    let mut ports: BTreeMap<u16, Vec<Port<'_>>> = BTreeMap::new();
    for port in cx.ports().filter(|port| port.port.protocol.is_http()) {
        ports.entry(port.port.number).or_default().push(port);
    }
    for (number, services) in &ports {
        for host in routes.virtual_hosts(cx, *number, services, notes) {
            for domain in host.domains {
                let domain = Domain {
                    port: Some(*number),
                    ..domain
                };
                hosts.entry(domain).or_insert_with(|| host.routes.clone());
            }
        }
    }
    for port in cx.ports().filter(|port| port.port.protocol.is_tls()) {
        for target in routes.tls(cx, port, notes).into_targets() {
            for name in &target.names {
                let domain = Domain {
                    host: name.clone(),
                    port: Some(port.port.number),
                };
                hosts.entry(domain).or_default().insert(0, tunnel(&target));
            }
        }
    }
    let mut virtual_hosts: Vec<_> = hosts
        .into_iter()
        .filter_map(|(domain, routes)| named(domain, routes))
        .collect();
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    virtual_hosts.push(block_all(&[PathMatch::Connect, PathMatch::Prefix("/".into())]));
    RouteConfig {
        name: names::routes(ROUTES),
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        // The port is part of the question here.
        ignore_port_in_host_matching: false,
    }
}

fn tunnel(target: &TlsTarget<'_>) -> Route {
    let action = RouteAction::Forward(Box::new(Forward {
        regex_rewrite: None,
        mirrors: Vec::new(),
        terminate_connect: true,
        ..route::forward(target.clusters.clone(), None)
    }));
    Route {
        matches: route::every_request(PathMatch::Connect),
        name: None,
        ..route::plain_route("", action)
    }
}

/// `host:port`, and for port 80 also the bare host. A pattern for all hosts has no form with a port.
fn named(domain: Domain, routes: Vec<Route>) -> Option<VirtualHost> {
    let port = domain.port?;
    if domain.host == HostPattern::Any {
        return None;
    }
    let bare = (port == HTTP_PORT).then(|| Domain {
        port: None,
        ..domain.clone()
    });
    let mut host = virtual_host(format!("{}:{port}", domain.host), Vec::new(), routes);
    host.domains = std::iter::once(domain).chain(bare).collect();
    Some(host)
}
