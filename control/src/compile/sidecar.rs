//! The listeners and routes of a sidecar: what happens to connections that the application makes.
//!
//! A redirected connection arrives at `virtualOutbound` and is handed to the listener of its original destination: one per port
//! for services without an address of their own, one per address and port for the rest. What no service claims goes to the
//! fallback, which refuses (REGISTRY_ONLY) or lets through (ALLOW_ANY).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use mesh::{
    bundle::Bundle,
    host::HostPattern,
    listener::{
        FilterChain, FilterChainMatch, Inspectors, Listener, Protocol, RouteSource, TrafficDirection, Transport,
    },
    route::{DirectResponse, PathMatch, Route, RouteAction, RouteConfig, VirtualHost, WeightedClusters},
    source::Source,
};

use super::{
    Context, cluster, explicit, gateway,
    http::{self, Peer},
    mesh_routes::{MeshRoutes, Port, TlsRouting},
    names,
    notes::Notes,
    route,
};
use crate::{
    diag::Code,
    istio::{FieldPath, sidecar::OutboundMode},
    world::Settings,
};

/// What listens on one port, or on one address and port.
#[derive(Debug, Default)]
struct Plan<'a> {
    /// Services whose requests are routed.
    http: Vec<Port<'a>>,
    /// Services whose connections are told apart by server name.
    tls: Vec<Port<'a>>,
    /// The one service that takes every other connection.
    rest: Option<Port<'a>>,
}

const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Istio's name of the chain for what no service claims.
const FALLBACK_CHAIN: &str = "PassthroughFilterChain";
/// What the answer to a request for an unknown host is.
const BLOCKED: u16 = 502;

/// Adds listeners, routes, and the cluster of unknown destinations.
pub(super) fn add_all(cx: Context<'_>, bundle: &mut Bundle, notes: &mut Notes) {
    let routes = MeshRoutes::new(cx);
    if cx.redirects() {
        add_captured(cx, &routes, bundle, notes);
    }
    if let Some(port) = cx.proxy_port() {
        explicit::add(cx, port, &routes, bundle, notes);
    }
    let passthrough = cluster::passthrough(cx);
    bundle.clusters.insert(passthrough.name.clone(), passthrough.into());
}

fn add_captured(cx: Context<'_>, routes: &MeshRoutes<'_>, bundle: &mut Bundle, notes: &mut Notes) {
    let mut listeners = vec![virtual_outbound(cx)];
    for ((address, port), plan) in plans(cx, notes) {
        if !plan.http.is_empty() {
            let config = route_config(cx, port, &plan.http, routes, notes);
            bundle.routes.insert(config.name.clone(), config.into());
        }
        listeners.push(planned(cx, address, port, &plan, routes, notes));
    }
    bundle.listeners.extend(
        listeners
            .into_iter()
            .map(|listener| (listener.name.clone(), listener.into())),
    );
}

/// Sorts every visible port into the listener that serves it.
fn plans<'a>(cx: Context<'a>, notes: &mut Notes) -> BTreeMap<(IpAddr, u16), Plan<'a>> {
    let mut plans: BTreeMap<(IpAddr, u16), Plan<'a>> = BTreeMap::new();
    for port in cx.ports() {
        let number = port.port.number;
        let protocol = port.port.protocol;
        let mut addresses = port.service.addresses.clone();
        if protocol.is_http() || addresses.is_empty() {
            addresses = vec![cx.any_address()];
        }
        for address in addresses {
            let plan = plans.entry((address, number)).or_default();
            if protocol.is_http() {
                plan.http.push(port);
            } else if protocol.is_tls() {
                plan.tls.push(port);
            } else {
                plan.claim_rest(port, notes);
            }
        }
    }
    for plan in plans.values_mut() {
        plan.settle(notes);
    }
    plans
}

impl<'a> Plan<'a> {
    fn claim_rest(&mut self, port: Port<'a>, notes: &mut Notes) {
        match &self.rest {
            Some(first) => crowded(
                notes,
                port,
                &format!("{} takes every connection there", first.service.host),
            ),
            None => self.rest = Some(port),
        }
    }

    /// HTTP and bytes cannot share a port: what is not HTTP would reach a service by accident.
    fn settle(&mut self, notes: &mut Notes) {
        if let (Some(http), Some(rest)) = (self.http.first(), self.rest) {
            crowded(notes, rest, &format!("{} speaks HTTP there", http.service.host));
            self.rest = None;
        }
    }
}

fn crowded(notes: &mut Notes, port: Port<'_>, why: &str) {
    let message = format!(
        "port {} of {} is not served: {why}",
        port.port.number, port.service.host
    );
    let spec = FieldPath::ROOT.field("spec");
    let advice = "give the service addresses of its own, or another port";
    notes.error(
        &port.service.object,
        &spec.field("ports"),
        Code::AddressesRequired,
        message,
        advice,
    );
}

/// The listener that redirected connections arrive at.
fn virtual_outbound(cx: Context<'_>) -> Listener {
    let port = cx.mesh.proxy_listen_port;
    // Somebody who dials the proxy itself would go round in circles.
    let loops = FilterChain {
        name: Some("virtualOutbound-blackhole".into()),
        matches: FilterChainMatch {
            destination_port: Some(port),
            ..FilterChainMatch::default()
        },
        ..chain(tcp(cx, names::BLACK_HOLE))
    };
    let rest = FilterChain {
        name: Some("virtualOutbound-catchall-tcp".into()),
        ..chain(tcp(cx, fallback_cluster(cx)))
    };
    let address = cx.any_address();
    Listener {
        name: names::fixed_listener(VIRTUAL_OUTBOUND),
        bind_to_port: true,
        use_original_dst: true,
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains: vec![loops, rest],
        default_filter_chain: None,
        ..outbound(cx, address, port)
    }
}

fn planned(
    cx: Context<'_>,
    address: IpAddr,
    port: u16,
    plan: &Plan<'_>,
    routes: &MeshRoutes<'_>,
    notes: &mut Notes,
) -> Listener {
    let mut listener = outbound(cx, address, port);
    if !plan.http.is_empty() {
        listener.filter_chains.push(http_chain(cx, port));
        listener.inspectors.http = true;
    }
    // Whoever has an address to itself needs no server name to be told apart.
    let alone = address != cx.any_address();
    add_tls_chains(cx, alone, plan, routes, &mut listener, notes);
    listener.inspectors.tls = listener.filter_chains.iter().any(|chain| needs_hello(&chain.matches));
    if let Some(rest) = plan.rest {
        listener.default_filter_chain = Some(chain(rest.tcp_proxy(cx)));
    }
    // A chain without a condition takes what a default chain would.
    let all_taken = listener
        .filter_chains
        .iter()
        .any(|chain| chain.matches == FilterChainMatch::default());
    if all_taken {
        listener.default_filter_chain = None;
    }
    listener
}

fn needs_hello(matches: &FilterChainMatch) -> bool {
    !matches.server_names.is_empty() || matches.transport == Some(Transport::Tls)
}

fn add_tls_chains(
    cx: Context<'_>,
    alone: bool,
    plan: &Plan<'_>,
    routes: &MeshRoutes<'_>,
    listener: &mut Listener,
    notes: &mut Notes,
) {
    let mut taken = BTreeSet::new();
    for port in &plan.tls {
        let routing = routes.tls(cx, *port, notes);
        if matches!(routing, TlsRouting::Direct(_)) && alone && plan.tls.len() == 1 && plan.rest.is_none() {
            listener.filter_chains.push(chain(port.tcp_proxy(cx)));
            continue;
        }
        for target in routing.into_targets() {
            if let Err(problem) = route::distinguishable(&target.names) {
                notes.problem(&port.service.object, &FieldPath::ROOT.field("spec"), problem);
                continue;
            }
            if let Some(name) = target.names.iter().find(|name| taken.contains(*name)) {
                crowded(notes, *port, &format!("server name {name} is another service's"));
                continue;
            }
            taken.extend(target.names.iter().cloned());
            listener.filter_chains.push(FilterChain {
                matches: gateway::by_server_name(&target.names),
                ..chain(http::tcp_proxy(cx, target.clusters, target.settings))
            });
        }
    }
}

/// The chain for requests; it must not be taken for bytes that only look like none of the other chains'.
fn http_chain(cx: Context<'_>, port: u16) -> FilterChain {
    let stat_prefix = format!("outbound_{}_{port};", cx.any_address());
    let routes = RouteSource::Rds(names::routes(&port.to_string()), Source::Ads);
    FilterChain {
        matches: FilterChainMatch {
            transport: Some(Transport::Plaintext),
            application_protocols: vec!["http/1.1".into(), "h2c".into()],
            ..FilterChainMatch::default()
        },
        ..chain(http::connection_manager(
            cx,
            Peer::Application,
            stat_prefix,
            routes,
            Vec::new(),
        ))
    }
}

/// A listener that takes over connections `virtualOutbound` accepted, and sends everything to the fallback.
fn outbound(cx: Context<'_>, address: IpAddr, port: u16) -> Listener {
    Listener {
        name: names::listener(address, port),
        address: (address, port).into(),
        bind_to_port: false,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors::default(),
        // Some protocols let the server speak first; waiting for the client would be for ever.
        inspect_timeout: Some(Duration::ZERO),
        continue_on_inspect_timeout: true,
        filter_chains: Vec::new(),
        default_filter_chain: Some(FilterChain {
            name: Some(FALLBACK_CHAIN.into()),
            ..chain(tcp(cx, fallback_cluster(cx)))
        }),
        access_logs: http::listener_logs(cx),
        buffer_limit: None,
    }
}

fn chain(protocol: Protocol) -> FilterChain {
    FilterChain {
        name: None,
        matches: FilterChainMatch::default(),
        tls: None,
        handshake_timeout: None,
        rbac: Vec::new(),
        protocol,
    }
}

fn tcp(cx: Context<'_>, cluster: &str) -> Protocol {
    http::tcp_proxy(
        cx,
        WeightedClusters::one(names::fixed_cluster(cluster)),
        Settings::default(),
    )
}

fn fallback_cluster(cx: Context<'_>) -> &'static str {
    match cx.outbound_mode() {
        OutboundMode::RegistryOnly => names::BLACK_HOLE,
        OutboundMode::AllowAny => names::PASSTHROUGH,
    }
}

/// The routes of a port. Two services may want the same short name; the first has it.
fn route_config(
    cx: Context<'_>,
    port: u16,
    services: &[Port<'_>],
    routes: &MeshRoutes<'_>,
    notes: &mut Notes,
) -> RouteConfig {
    let mut taken = BTreeSet::new();
    let mut virtual_hosts = Vec::new();
    for mut host in routes.virtual_hosts(cx, port, services, notes) {
        host.domains.retain(|domain| taken.insert(domain.clone()));
        if !host.domains.is_empty() {
            virtual_hosts.push(host);
        }
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    virtual_hosts.push(match cx.outbound_mode() {
        OutboundMode::RegistryOnly => block_all(&[PathMatch::Prefix("/".into())]),
        OutboundMode::AllowAny => allow_any(),
    });
    RouteConfig {
        name: names::routes(&port.to_string()),
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        ignore_port_in_host_matching: true,
    }
}

/// Answers 502 to every request on these paths.
pub(super) fn block_all(paths: &[PathMatch]) -> VirtualHost {
    let answer = RouteAction::Direct(DirectResponse {
        status: BLOCKED,
        body: String::new(),
    });
    let route = |path: &PathMatch| Route {
        matches: route::every_request(path.clone()),
        ..route::plain_route("block_all", answer.clone())
    };
    everything("block_all", paths.iter().map(route).collect())
}

fn allow_any() -> VirtualHost {
    let clusters = WeightedClusters::one(names::fixed_cluster(names::PASSTHROUGH));
    let action = RouteAction::Forward(Box::new(route::forward(clusters, None)));
    everything("allow_any", vec![route::plain_route("allow_any", action)])
}

fn everything(name: &str, routes: Vec<Route>) -> VirtualHost {
    super::virtual_host::virtual_host(name.to_owned(), vec![HostPattern::Any], routes)
}
