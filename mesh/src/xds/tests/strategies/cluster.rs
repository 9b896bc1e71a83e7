//! Clusters and endpoints.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{address, cluster_name, host, long, number, positive, source, tls::upstream_tls, word};
use crate::{
    ClusterName,
    cluster::{
        CircuitBreakers, Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, EndpointAddress, Endpoints, LbPolicy,
        Reuse, UpstreamHttp,
    },
};

pub(super) fn endpoint(address: BoxedStrategy<EndpointAddress>) -> BoxedStrategy<Endpoint> {
    (address, option::of(1u32..1000), any::<bool>())
        .prop_map(|(address, weight, healthy)| Endpoint {
            address,
            weight,
            healthy,
        })
        .boxed()
}

pub(super) fn by_address() -> BoxedStrategy<EndpointAddress> {
    address().prop_map(EndpointAddress::Socket).boxed()
}

fn by_path() -> BoxedStrategy<EndpointAddress> {
    Just(EndpointAddress::Pipe("/run/socket".into())).boxed()
}

pub(super) fn by_name() -> BoxedStrategy<EndpointAddress> {
    (host(), 1u16..)
        .prop_map(|(host, port)| EndpointAddress::Name(host, port))
        .boxed()
}

/// Endpoints of an EDS resource.
pub(in crate::xds::tests) fn endpoints() -> BoxedStrategy<(ClusterName, Endpoints)> {
    (cluster_name(), vec(endpoint(by_address()), 0..3).prop_map(Endpoints)).boxed()
}

pub(super) fn dns_settings() -> BoxedStrategy<DnsSettings> {
    let family = select(vec![
        DnsFamily::Auto,
        DnsFamily::V4Only,
        DnsFamily::V6Only,
        DnsFamily::V4Preferred,
        DnsFamily::All,
    ]);
    (family, positive(), any::<bool>())
        .prop_map(|(family, refresh, respect_ttl)| DnsSettings {
            family,
            refresh,
            respect_ttl,
        })
        .boxed()
}

pub(super) fn discovery() -> BoxedStrategy<Discovery> {
    let named = || endpoint(prop_oneof![by_address(), by_name()].boxed());
    prop_oneof![
        vec(endpoint(prop_oneof![4 => by_address(), 1 => by_path()].boxed()), 0..3)
            .prop_map(|list| Discovery::Static(Endpoints(list))),
        (vec(named(), 0..3), dns_settings()).prop_map(|(list, dns)| Discovery::StrictDns(Endpoints(list), dns)),
        (endpoint(by_name()), dns_settings()).prop_map(|(one, dns)| Discovery::LogicalDns(one, dns)),
        (option::of(cluster_name()), source())
            .prop_map(|(service_name, source)| Discovery::Eds { service_name, source }),
        Just(Discovery::OriginalDst),
    ]
    .boxed()
}

pub(super) fn circuit_breakers() -> BoxedStrategy<CircuitBreakers> {
    (number(), number(), number(), number())
        .prop_map(
            |(max_connections, max_pending_requests, max_requests, max_retries)| CircuitBreakers {
                max_connections,
                max_pending_requests,
                max_requests,
                max_retries,
            },
        )
        .boxed()
}

/// Clusters.
pub(in crate::xds::tests) fn cluster() -> BoxedStrategy<Cluster> {
    let balancing = select(vec![LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random]);
    let http = select(vec![
        UpstreamHttp::Http1,
        UpstreamHttp::Http2,
        UpstreamHttp::AsDownstream,
    ]);
    (
        (cluster_name(), option::of(word()), discovery(), balancing, positive()),
        (option::of(upstream_tls()), http, any::<bool>(), any::<bool>()),
        (option::of(circuit_breakers()), number(), long(), option::of(1u32..)),
    )
        .prop_map(
            |(
                (name, alt_stat_name, discovery, balancing, connect_timeout),
                (tls, http, auto_sni, auto_san),
                (circuit_breakers, buffer_limit, idle_timeout, max_requests),
            )| Cluster {
                name,
                alt_stat_name,
                lb_policy: match discovery {
                    Discovery::OriginalDst => LbPolicy::ClusterProvided,
                    _ => balancing,
                },
                discovery,
                connect_timeout,
                tls,
                http,
                auto_sni,
                auto_san_validation: auto_sni && auto_san,
                circuit_breakers,
                buffer_limit,
                reuse: Reuse {
                    idle_timeout,
                    max_requests,
                },
            },
        )
        .boxed()
}
