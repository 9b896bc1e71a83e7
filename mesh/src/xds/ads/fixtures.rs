//! Small resources for the tests of the state machines.

use std::{sync::Arc, time::Duration};

use prost::Message;

use super::Entry;
use crate::{
    ClusterName, ListenerName, RouteConfigName,
    cluster::{Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, LbPolicy, UpstreamHttp},
    listener::{
        Codec, EscapedSlashes, FilterChain, FilterChainMatch, ForwardClientCert, Http, Http2Settings, HttpLimits,
        HttpTimeouts, Inspectors, Listener, Protocol, RouteSource, ServerHeader, TrafficDirection, Underscores,
    },
    route::{
        Domain, Forward, HeaderChanges, PathMatch, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost,
        WeightedClusters,
    },
    source::Source,
    xds::{Any, Resource, ResourceType, pb},
};

/// A cluster; `revision` makes its content differ.
pub(super) fn cluster(name: &str, revision: u8, eds: bool) -> Resource {
    Resource::from(Cluster {
        name: ClusterName::parse(name).unwrap(),
        alt_stat_name: None,
        discovery: match eds {
            true => Discovery::Eds {
                service_name: None,
                source: Source::Ads,
            },
            false => Discovery::Static(addresses(1)),
        },
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: Some(Duration::from_secs(1 + u64::from(revision))),
        tls: None,
        http: UpstreamHttp::Http1,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: None,
        buffer_limit: None,
        reuse: crate::cluster::Reuse::default(),
    })
}

pub(super) fn endpoints(name: &str, revision: u8) -> Resource {
    Resource::Endpoints(ClusterName::parse(name).unwrap(), addresses(revision).into())
}

fn addresses(revision: u8) -> Endpoints {
    Endpoints(vec![Endpoint {
        address: EndpointAddress::Socket(([127, 0, 0, 1], 1000 + u16::from(revision)).into()),
        weight: None,
        healthy: true,
    }])
}

/// A listener whose routes come from `routes`.
pub(super) fn listener(name: &str, revision: u8, routes: &str) -> Resource {
    Resource::from(Listener {
        name: ListenerName::parse(name).unwrap(),
        address: ([127, 0, 0, 1], 2000 + u16::from(revision)).into(),
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
            protocol: Protocol::Http(Box::new(http(routes))),
        }],
        default_filter_chain: None,
        access_logs: Vec::new(),
        buffer_limit: None,
    })
}

fn http(routes: &str) -> Http {
    Http {
        stat_prefix: "http".to_owned(),
        codec: Codec::Auto,
        routes: RouteSource::Rds(RouteConfigName::parse(routes).unwrap(), Source::Ads),
        rbac: Vec::new(),
        use_remote_address: false,
        xff_trusted_hops: 0,
        client_cert: ForwardClientCert::Sanitize,
        server_name: None,
        server_header: ServerHeader::Overwrite,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Allow,
        upgrades: Vec::new(),
        generate_request_id: None,
        preserve_external_request_id: false,
        proxy_100_continue: false,
        accept_http_10: false,
        allow_absolute_url: None,
        http2: Http2Settings::default(),
        limits: HttpLimits::default(),
        timeouts: HttpTimeouts::default(),
        access_logs: Vec::new(),
    }
}

/// A route configuration that sends everything to `cluster`.
pub(super) fn routes(name: &str, revision: u8, cluster: &str) -> Resource {
    let route = Route {
        name: Some(format!("revision-{revision}")),
        matches: RouteMatch {
            path: PathMatch::Prefix("/".to_owned()),
            case_sensitive: true,
            headers: Vec::new(),
            query: Vec::new(),
        },
        action: RouteAction::Forward(Box::new(Forward {
            clusters: WeightedClusters::one(ClusterName::parse(cluster).unwrap()),
            timeout: None,
            idle_timeout: None,
            retry: None,
            host_rewrite: None,
            prefix_rewrite: None,
            regex_rewrite: None,
            mirrors: Vec::new(),
            terminate_connect: false,
            refused_upgrades: Vec::new(),
        })),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    };
    Resource::from(RouteConfig {
        name: RouteConfigName::parse(name).unwrap(),
        virtual_hosts: vec![std::sync::Arc::new(VirtualHost {
            name: "all".to_owned(),
            domains: vec![Domain {
                host: crate::host::HostPattern::Any,
                port: None,
            }],
            routes: vec![route],
            require_tls: false,
            include_attempt_count: false,
        })],
        ignore_port_in_host_matching: false,
    })
}

/// An entry as a server that knows more than we do would send it.
pub(super) fn unsupported(resource: &Resource) -> Entry {
    let Entry {
        name,
        version,
        any,
        requires,
    } = Entry::encode(resource);
    let value = match resource.resource_type() {
        ResourceType::Cluster => spoil(&any, |message: &mut pb::cluster::Cluster| {
            message.lb_policy = pb::cluster::cluster::LbPolicy::Maglev.into();
        }),
        ResourceType::Listener => spoil(&any, |message: &mut pb::listener::Listener| {
            message.enable_mptcp = true;
        }),
        ResourceType::RouteConfig => spoil(&any, |message: &mut pb::route::RouteConfiguration| {
            message.internal_only_headers = vec!["x-secret".to_owned()];
        }),
        ResourceType::Endpoints | ResourceType::Secret => unreachable!("no test spoils these"),
    };
    Entry {
        name,
        version: format!("bad-{version}").into(),
        any: Any { value, ..any },
        requires,
    }
}

fn spoil<M: Message + Default>(any: &Any, change: impl FnOnce(&mut M)) -> Vec<u8> {
    let mut message = M::decode(any.value.as_slice()).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

/// The set of these resources.
pub(super) fn set(resources: &[Resource]) -> super::ResourceSet {
    let entries = resources
        .iter()
        .map(|resource| (resource.resource_type(), Arc::new(Entry::encode(resource))));
    super::ResourceSet::new(entries)
}
