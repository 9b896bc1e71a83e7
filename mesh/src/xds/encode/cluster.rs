//! `config.cluster.v3`: clusters.

use crate::{
    ClusterName,
    cluster::{CircuitBreakers, Cluster, Discovery, Endpoints, LbPolicy, Reuse, UpstreamHttp},
    xds::{
        encode::{common, dns, endpoint::endpoints, tls},
        pb::{
            cluster::{
                self,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy as WireLbPolicy},
            },
            core::{self, Http1ProtocolOptions, Http2ProtocolOptions, UpstreamHttpProtocolOptions},
            upstream_http::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
};

/// Key of the HTTP options in `typed_extension_protocol_options`.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Encodes a cluster.
pub fn cluster(value: &Cluster) -> cluster::Cluster {
    let mut message = cluster::Cluster {
        name: value.name.to_string(),
        alt_stat_name: value.alt_stat_name.clone().unwrap_or_default(),
        lb_policy: lb_policy(value.lb_policy).into(),
        connect_timeout: value.connect_timeout.map(common::duration),
        transport_socket: value
            .tls
            .as_ref()
            .map(|context| common::tls_socket(&tls::upstream(context))),
        circuit_breakers: value.circuit_breakers.as_ref().map(circuit_breakers),
        per_connection_buffer_limit_bytes: common::uint32(value.buffer_limit),
        typed_extension_protocol_options: protocol_options(value)
            .map(|options| (HTTP_OPTIONS.to_owned(), common::any(&options)))
            .into_iter()
            .collect(),
        ..Default::default()
    };
    discovery(&mut message, &value.name, &value.discovery);
    message
}

fn discovery(message: &mut cluster::Cluster, name: &ClusterName, value: &Discovery) {
    let plain = |kind: DiscoveryType| ClusterDiscoveryType::Type(kind.into());
    let custom = ClusterDiscoveryType::ClusterType;
    let (kind, assigned) = match value {
        Discovery::Static(assigned) => (plain(DiscoveryType::Static), Some(endpoints(name, assigned))),
        Discovery::StrictDns(assigned, settings) => {
            let kind = dns::cluster_type(dns::Addresses::All, settings);
            (custom(kind), Some(endpoints(name, assigned)))
        }
        Discovery::LogicalDns(endpoint, settings) => {
            let kind = dns::cluster_type(dns::Addresses::One, settings);
            (custom(kind), Some(endpoints(name, &Endpoints(vec![endpoint.clone()]))))
        }
        Discovery::Eds { service_name, source } => {
            message.eds_cluster_config = Some(cluster::cluster::EdsClusterConfig {
                eds_config: Some(common::config_source(source)),
                service_name: service_name.as_ref().map(ToString::to_string).unwrap_or_default(),
            });
            (plain(DiscoveryType::Eds), None)
        }
        Discovery::OriginalDst => (plain(DiscoveryType::OriginalDst), None),
    };
    message.cluster_discovery_type = Some(kind);
    message.load_assignment = assigned;
}

fn lb_policy(policy: LbPolicy) -> WireLbPolicy {
    match policy {
        LbPolicy::RoundRobin => WireLbPolicy::RoundRobin,
        LbPolicy::LeastRequest => WireLbPolicy::LeastRequest,
        LbPolicy::Random => WireLbPolicy::Random,
        LbPolicy::ClusterProvided => WireLbPolicy::ClusterProvided,
    }
}

fn circuit_breakers(value: &CircuitBreakers) -> cluster::CircuitBreakers {
    cluster::CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: common::uint32(value.max_connections),
            max_pending_requests: common::uint32(value.max_pending_requests),
            max_requests: common::uint32(value.max_requests),
            max_retries: common::uint32(value.max_retries),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// `None` for what is the default.
fn common_options(value: &Reuse) -> Option<core::HttpProtocolOptions> {
    (*value != Reuse::default()).then(|| core::HttpProtocolOptions {
        idle_timeout: value.idle_timeout.map(common::duration),
        max_requests_per_connection: common::uint32(value.max_requests),
        ..Default::default()
    })
}

/// `None` for what is the default: HTTP/1.1 without automatic names.
fn protocol_options(value: &Cluster) -> Option<HttpProtocolOptions> {
    let common = common_options(&value.reuse);
    if value.http == UpstreamHttp::Http1 && !value.auto_sni && !value.auto_san_validation && common.is_none() {
        return None;
    }
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let version = match value.http {
        UpstreamHttp::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        UpstreamHttp::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        UpstreamHttp::AsDownstream => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(Http2ProtocolOptions::default()),
            http3_protocol_options: None,
        }),
    };
    Some(HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(version),
        upstream_http_protocol_options: (value.auto_sni || value.auto_san_validation).then(|| {
            UpstreamHttpProtocolOptions {
                auto_sni: value.auto_sni,
                auto_san_validation: value.auto_san_validation,
                ..Default::default()
            }
        }),
        ..Default::default()
    })
}
