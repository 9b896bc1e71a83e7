//! Listeners.

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{
    address,
    authz::{Layer, rbac_filter},
    host,
    log::access_log,
    long, number, positive,
    route::{route_config, weighted_clusters},
    source,
    tls::{alpn, downstream_tls},
    wildcard, word,
};
use crate::{
    ListenerName, RouteConfigName,
    host::HostPattern,
    listener::{
        ClientCertDetails, Codec, EscapedSlashes, FilterChain, FilterChainMatch, ForwardClientCert, Http,
        Http2Settings, HttpLimits, HttpTimeouts, Inspectors, Listener, Protocol, RouteSource, ServerHeader, TcpProxy,
        TrafficDirection, Transport, Underscores,
    },
};

pub(super) fn client_cert() -> BoxedStrategy<ForwardClientCert> {
    let details = || {
        any::<[bool; 5]>().prop_map(|[subject, cert, chain, dns, uri]| ClientCertDetails {
            subject,
            cert,
            chain,
            dns,
            uri,
        })
    };
    prop_oneof![
        Just(ForwardClientCert::Sanitize),
        details().prop_map(ForwardClientCert::SanitizeSet),
        details().prop_map(ForwardClientCert::AppendForward),
        Just(ForwardClientCert::ForwardOnly),
        Just(ForwardClientCert::AlwaysForwardOnly),
    ]
    .boxed()
}

pub(super) fn http2() -> BoxedStrategy<Http2Settings> {
    let window = || option::of(65535u32..0x7fff_ffff);
    (option::of(1u32..0x7fff_ffff), window(), window(), any::<bool>())
        .prop_map(
            |(max_concurrent_streams, initial_stream_window, initial_connection_window, allow_connect)| Http2Settings {
                max_concurrent_streams,
                initial_stream_window,
                initial_connection_window,
                allow_connect,
            },
        )
        .boxed()
}

pub(super) fn timeouts() -> BoxedStrategy<HttpTimeouts> {
    (long(), long(), long(), long(), positive(), long(), long())
        .prop_map(
            |(stream_idle, request, request_headers, idle, max_connection_duration, drain, delayed_close)| {
                HttpTimeouts {
                    stream_idle,
                    request,
                    request_headers,
                    idle,
                    max_connection_duration,
                    drain,
                    delayed_close,
                }
            },
        )
        .boxed()
}

pub(super) fn http() -> BoxedStrategy<Http> {
    let routes = prop_oneof![
        (word(), source()).prop_map(|(name, source)| RouteSource::Rds(RouteConfigName::parse(&name).unwrap(), source)),
        route_config().prop_map(RouteSource::Inline),
    ];
    let server_header = vec![
        ServerHeader::Overwrite,
        ServerHeader::AppendIfAbsent,
        ServerHeader::PassThrough,
    ];
    let slashes = vec![
        EscapedSlashes::Keep,
        EscapedSlashes::Reject,
        EscapedSlashes::UnescapeAndRedirect,
        EscapedSlashes::UnescapeAndForward,
    ];
    let underscores = vec![Underscores::Allow, Underscores::RejectRequest, Underscores::DropHeader];
    let upgrades = vec![vec![], vec!["websocket".to_owned()], vec!["connect".to_owned()]];
    (
        (
            word(),
            select(vec![Codec::Auto, Codec::Http1, Codec::Http2]),
            routes,
            vec(rbac_filter(Layer::Http), 0..3),
            client_cert(),
        ),
        (
            option::of(word()),
            select(server_header),
            select(slashes),
            select(underscores),
        ),
        (select(upgrades), http2(), timeouts(), vec(access_log(), 0..2), 0u32..3),
        any::<[bool; 7]>(),
        (
            option::of(any::<bool>()),
            option::of(any::<bool>()),
            option::of(1u32..8192),
            option::of(1u32..1000),
        ),
    )
        .prop_map(
            |(
                (stat_prefix, codec, routes, rbac, client_cert),
                (server_name, server_header, escaped_slashes, underscores),
                (upgrades, http2, timeouts, access_logs, xff_trusted_hops),
                [
                    use_remote_address,
                    normalize_path,
                    merge_slashes,
                    preserve,
                    proxy_100_continue,
                    http_10,
                    _,
                ],
                (generate_request_id, allow_absolute_url, headers_kib, header_count),
            )| Http {
                stat_prefix,
                codec,
                routes,
                rbac,
                use_remote_address,
                xff_trusted_hops,
                client_cert,
                server_name,
                server_header,
                normalize_path,
                merge_slashes,
                escaped_slashes,
                underscores,
                upgrades,
                generate_request_id,
                preserve_external_request_id: preserve,
                proxy_100_continue,
                accept_http_10: http_10,
                allow_absolute_url,
                http2,
                limits: HttpLimits {
                    headers_kib,
                    header_count,
                },
                timeouts,
                access_logs,
            },
        )
        .boxed()
}

pub(super) fn tcp_proxy() -> BoxedStrategy<TcpProxy> {
    (word(), weighted_clusters(), long(), positive(), vec(access_log(), 0..2))
        .prop_map(
            |(stat_prefix, clusters, idle_timeout, max_connection_duration, access_logs)| TcpProxy {
                stat_prefix,
                clusters,
                idle_timeout,
                max_connection_duration,
                access_logs,
            },
        )
        .boxed()
}

pub(super) fn filter_chain() -> BoxedStrategy<FilterChain> {
    let protocol = prop_oneof![
        http().prop_map(|http| Protocol::Http(Box::new(http))),
        tcp_proxy().prop_map(Protocol::Tcp),
    ];
    let server_name = prop_oneof![host().prop_map(HostPattern::Exact), wildcard()];
    let transport = option::of(select(vec![Transport::Plaintext, Transport::Tls]));
    let matches = (option::of(1u16..), btree_set(server_name, 0..3), transport, alpn()).prop_map(
        |(destination_port, server_names, transport, application_protocols)| FilterChainMatch {
            destination_port,
            server_names: server_names.into_iter().collect(),
            transport,
            application_protocols,
        },
    );
    (
        option::of(word()),
        matches,
        option::of(downstream_tls()),
        long(),
        vec(rbac_filter(Layer::Network), 0..2),
        protocol,
    )
        .prop_map(|(name, matches, tls, handshake_timeout, rbac, protocol)| FilterChain {
            name,
            matches,
            tls,
            handshake_timeout,
            rbac,
            protocol,
        })
        .boxed()
}

/// No two chains of a listener have the same match.
pub(super) fn told_apart(mut chains: Vec<FilterChain>) -> Vec<FilterChain> {
    for (port, chain) in (1..).zip(&mut chains) {
        chain.matches.destination_port = chain.matches.destination_port.map(|_| port);
    }
    chains.dedup_by(|one, other| one.matches == other.matches);
    chains
}

/// Listeners.
pub(in crate::xds::tests) fn listener() -> BoxedStrategy<Listener> {
    let directions = vec![
        TrafficDirection::Unspecified,
        TrafficDirection::Inbound,
        TrafficDirection::Outbound,
    ];
    let inspectors = any::<[bool; 3]>().prop_map(|[tls, http, original_dst]| Inspectors {
        tls,
        http,
        original_dst,
    });
    (
        (word(), address(), select(directions), inspectors, any::<[bool; 3]>()),
        (vec(filter_chain(), 1..3), option::of(filter_chain())),
        (long(), vec(access_log(), 0..2), number()),
    )
        .prop_map(
            |(
                (name, address, direction, inspectors, [bind_to_port, use_original_dst, continue_on]),
                (filter_chains, default_filter_chain),
                (inspect_timeout, access_logs, buffer_limit),
            )| Listener {
                filter_chains: told_apart(filter_chains),
                name: ListenerName::parse(&name).unwrap(),
                address,
                bind_to_port,
                use_original_dst,
                direction,
                inspectors,
                inspect_timeout,
                continue_on_inspect_timeout: continue_on,
                default_filter_chain,
                access_logs,
                buffer_limit,
            },
        )
        .boxed()
}
