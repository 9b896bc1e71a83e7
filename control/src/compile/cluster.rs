//! Clusters and endpoints: one cluster per visible service and port, and one more per subset of its DestinationRules.

use std::net::SocketAddr;

use mesh::{
    ClusterName,
    bundle::Bundle,
    cluster::{
        CircuitBreakers, Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, EndpointAddress, Endpoints, LbPolicy,
        Reuse, UpstreamHttp,
    },
    source::Source,
};

use super::{
    Context, names,
    notes::{Notes, Problem},
    tls::{self, ClusterOf, ClusterTls},
};
use crate::{
    istio::{
        FieldPath,
        destination_rule::{ConnectionPool, H2UpgradePolicy, LoadBalancer, SimpleLb, Subset},
        metadata::selects,
        scalar::Protocol,
    },
    world::{EndpointHost, Resolution, Rules, Service, ServiceEndpoint, ServicePort, Settings},
};

/// A cluster's limits where a DestinationRule sets none: Istio leaves the limiting to whoever asks for it.
const UNLIMITED: u32 = u32::MAX;

/// Adds the clusters of everything the proxy sees.
pub(super) fn add_all(cx: Context<'_>, bundle: &mut Bundle, notes: &mut Notes) {
    for visible in cx.scope.services() {
        let rules = cx.rules(visible.service);
        for port in visible.ports() {
            add_service(cx, visible.service, port, &rules, bundle, notes);
        }
    }
    add(black_hole(), None, bundle);
}

/// The cluster of whatever address the application dialled; for sidecars.
pub(super) fn passthrough(cx: Context<'_>) -> Cluster {
    Cluster {
        discovery: Discovery::OriginalDst,
        lb_policy: LbPolicy::ClusterProvided,
        http: UpstreamHttp::AsDownstream,
        ..plain(cx, names::fixed_cluster(names::PASSTHROUGH))
    }
}

fn black_hole() -> Cluster {
    Cluster {
        name: names::fixed_cluster(names::BLACK_HOLE),
        alt_stat_name: None,
        discovery: Discovery::Static(Endpoints::default()),
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: None,
        tls: None,
        http: UpstreamHttp::Http1,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: None,
        buffer_limit: None,
        reuse: Reuse::default(),
    }
}

fn add_service(
    cx: Context<'_>,
    service: &Service,
    port: &ServicePort,
    rules: &Rules<'_>,
    bundle: &mut Bundle,
    notes: &mut Notes,
) {
    let settings = rules.settings(port.number, None);
    match build(cx, service, port, settings, rules.namespace(), None) {
        Ok((cluster, endpoints)) => add(cluster, endpoints, bundle),
        Err(problem) => match rules.first() {
            Some(rule) => notes.problem(
                rule.object(),
                &FieldPath::ROOT.field("spec").field("trafficPolicy"),
                problem,
            ),
            None => notes.problem(&service.object, &FieldPath::ROOT.field("spec"), problem),
        },
    }
    for defined in rules.subsets() {
        let settings = rules.settings(port.number, Some(defined.subset));
        match build(cx, service, port, settings, rules.namespace(), Some(defined.subset)) {
            Ok((cluster, endpoints)) => add(cluster, endpoints, bundle),
            Err(problem) => {
                let spec = FieldPath::ROOT.field("spec");
                let subsets = spec.field("subsets");
                notes.problem(defined.rule.object(), &subsets.index(defined.index), problem);
            }
        }
    }
}

fn add(cluster: Cluster, endpoints: Option<Endpoints>, bundle: &mut Bundle) {
    if let Some(endpoints) = endpoints {
        bundle.endpoints.insert(cluster.name.clone(), endpoints.into());
    }
    bundle.clusters.insert(cluster.name.clone(), cluster.into());
}

fn build(
    cx: Context<'_>,
    service: &Service,
    port: &ServicePort,
    settings: Settings<'_>,
    rules_of: Option<&str>,
    subset: Option<&Subset>,
) -> Result<(Cluster, Option<Endpoints>), Problem> {
    let subset_name = subset.map_or("", |subset| subset.name.as_str());
    let name = names::cluster(port.number, subset_name, &service.host)?;
    let http = upstream_http(port.protocol, settings.connection_pool);
    let of = ClusterOf {
        service,
        port: port.number,
        subset: subset_name,
        http,
        carries_requests: port.protocol.is_http(),
        rules_of,
    };
    let ClusterTls {
        tls,
        auto_sni,
        auto_san_validation,
    } = tls::towards(cx, settings.tls, of)?;
    let chosen = endpoints(service, port, subset)?;
    let (discovery, endpoints) = discovery(cx, service.resolution, name.clone(), chosen)?;
    let cluster = Cluster {
        lb_policy: lb_policy(&discovery, settings.load_balancer),
        discovery,
        connect_timeout: Some(connect_timeout(cx, settings.connection_pool)),
        tls,
        http,
        auto_sni,
        auto_san_validation,
        circuit_breakers: Some(circuit_breakers(settings.connection_pool)),
        reuse: reuse(settings.connection_pool),
        ..plain(cx, name)
    };
    Ok((cluster, endpoints))
}

/// A cluster with the mesh's defaults and no endpoints.
fn plain(cx: Context<'_>, name: ClusterName) -> Cluster {
    Cluster {
        alt_stat_name: Some(format!("{name};")),
        name,
        discovery: Discovery::Static(Endpoints::default()),
        lb_policy: LbPolicy::LeastRequest,
        connect_timeout: Some(cx.mesh.connect_timeout),
        tls: None,
        http: UpstreamHttp::Http1,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: Some(circuit_breakers(None)),
        buffer_limit: None,
        reuse: Reuse::default(),
    }
}

/// The endpoints of a service's port, or of a subset of them.
fn endpoints(service: &Service, port: &ServicePort, subset: Option<&Subset>) -> Result<Vec<Endpoint>, Problem> {
    let mut chosen = Vec::new();
    for endpoint in &service.endpoints {
        if in_subset(endpoint, subset)? {
            chosen.extend(address(endpoint, port).map(|address| Endpoint {
                address,
                weight: endpoint.weight.filter(|weight| *weight > 0),
                healthy: true,
            }));
        }
    }
    Ok(chosen)
}

fn in_subset(endpoint: &ServiceEndpoint, subset: Option<&Subset>) -> Result<bool, Problem> {
    match (subset, &endpoint.labels) {
        (None, _) => Ok(true),
        (Some(subset), _) if subset.labels.is_empty() => Ok(true),
        (Some(subset), Some(labels)) => Ok(selects(&subset.labels, labels)),
        (Some(_), None) => Err(Problem::not_implemented(
            "labels of a subset of a Kubernetes Service are not implemented, since pods are not read",
            "leave labels out, or make the subset a Service of its own",
        )),
    }
}

fn address(endpoint: &ServiceEndpoint, port: &ServicePort) -> Option<EndpointAddress> {
    let port = endpoint.port(port)?;
    Some(match &endpoint.address {
        EndpointHost::Ip(ip) => EndpointAddress::Socket(SocketAddr::new(*ip, port)),
        EndpointHost::Name(host) => EndpointAddress::Name(host.clone(), port),
    })
}

/// How the cluster finds its endpoints, and the endpoint resource if it is by that.
fn discovery(
    cx: Context<'_>,
    resolution: Resolution,
    name: ClusterName,
    endpoints: Vec<Endpoint>,
) -> Result<(Discovery, Option<Endpoints>), Problem> {
    let by_address = |endpoints: Vec<Endpoint>| {
        let known = endpoints
            .into_iter()
            .filter(|one| matches!(one.address, EndpointAddress::Socket(_)));
        Endpoints(known.collect())
    };
    Ok(match resolution {
        Resolution::Dns => (Discovery::StrictDns(Endpoints(endpoints), dns(cx)), None),
        Resolution::DnsRoundRobin => {
            let only = endpoints.into_iter().next().ok_or_else(|| {
                Problem::invalid(
                    "resolution DNS_ROUND_ROBIN without an endpoint",
                    "give one endpoint or an exact host",
                )
            })?;
            (Discovery::LogicalDns(only, dns(cx)), None)
        }
        // The address that the client dialled means something only beside the client.
        Resolution::Client if !cx.is_gateway() => (Discovery::OriginalDst, None),
        Resolution::Client | Resolution::Endpoints => {
            let eds = Discovery::Eds {
                service_name: Some(name),
                source: Source::Ads,
            };
            (eds, Some(by_address(endpoints)))
        }
    })
}

fn dns(cx: Context<'_>) -> DnsSettings {
    DnsSettings {
        family: if cx.has_ipv4() {
            DnsFamily::V4Only
        } else {
            DnsFamily::V6Only
        },
        refresh: Some(cx.mesh.dns_refresh_rate),
        respect_ttl: true,
    }
}

fn lb_policy(discovery: &Discovery, written: Option<&LoadBalancer>) -> LbPolicy {
    if *discovery == Discovery::OriginalDst {
        return LbPolicy::ClusterProvided;
    }
    match written.map(|written| written.simple).unwrap_or_default() {
        SimpleLb::Unspecified | SimpleLb::LeastRequest => LbPolicy::LeastRequest,
        SimpleLb::RoundRobin => LbPolicy::RoundRobin,
        SimpleLb::Random => LbPolicy::Random,
    }
}

fn upstream_http(protocol: Protocol, pool: Option<&ConnectionPool>) -> UpstreamHttp {
    let http = pool.and_then(|pool| pool.http.as_ref());
    let upgraded = http.is_some_and(|http| http.h2_upgrade_policy == H2UpgradePolicy::Upgrade);
    match protocol {
        _ if http.is_some_and(|http| http.use_client_protocol) => UpstreamHttp::AsDownstream,
        Protocol::Http2 | Protocol::Grpc => UpstreamHttp::Http2,
        _ if upgraded => UpstreamHttp::Http2,
        Protocol::Http | Protocol::Https | Protocol::Tls | Protocol::Tcp => UpstreamHttp::Http1,
    }
}

fn connect_timeout(cx: Context<'_>, pool: Option<&ConnectionPool>) -> std::time::Duration {
    let written = pool.and_then(|pool| pool.tcp.as_ref()?.connect_timeout);
    written.map_or(cx.mesh.connect_timeout, |written| written.get())
}

fn reuse(pool: Option<&ConnectionPool>) -> Reuse {
    let Some(http) = pool.and_then(|pool| pool.http.as_ref()) else {
        return Reuse::default();
    };
    Reuse {
        idle_timeout: http.idle_timeout.map(|timeout| timeout.get()),
        max_requests: http.max_requests_per_connection.filter(|limit| *limit > 0),
    }
}

fn circuit_breakers(pool: Option<&ConnectionPool>) -> CircuitBreakers {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    // Zero is how protobuf writes nothing, and Istio reads it so.
    let limit = |written: Option<u32>| Some(written.filter(|limit| *limit > 0).unwrap_or(UNLIMITED));
    CircuitBreakers {
        max_connections: limit(tcp.and_then(|tcp| tcp.max_connections)),
        max_pending_requests: limit(http.and_then(|http| http.http1_max_pending_requests)),
        max_requests: limit(http.and_then(|http| http.http2_max_requests)),
        max_retries: limit(http.and_then(|http| http.max_retries)),
    }
}
