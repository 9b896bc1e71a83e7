//! Arbitrary resources: everything the model can hold that has a wire form, and that Envoy takes.

use std::{net::SocketAddr, time::Duration};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::{select, subsequence},
};

use crate::{
    ClusterName, ListenerName, PolicyName, RouteConfigName, SecretName,
    authz::{MetadataMatcher, MetadataValueMatch, Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    cluster::{
        CircuitBreakers, Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, EndpointAddress, Endpoints, LbPolicy,
        UpstreamHttp,
    },
    host::{Host, HostPattern},
    listener::{
        ClientCertDetails, Codec, EscapedSlashes, FilterChain, FilterChainMatch, ForwardClientCert, Http,
        Http2Settings, HttpLimits, HttpTimeouts, Inspectors, Listener, Protocol, RouteSource, ServerHeader, TcpProxy,
        TrafficDirection, Transport, Underscores,
    },
    log::{AccessLog, LogFormat},
    matcher::{HeaderMatcher, HeaderValueMatch, QueryMatcher, Regex, StringMatcher, StringPattern},
    path_template::PathTemplate,
    route::{
        DirectResponse, Domain, Forward, HeaderChange, HeaderChanges, PathMatch, Redirect, RetryOn, RetryPolicy, Route,
        RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedClusters,
    },
    tls::{CertificateSource, DownstreamTls, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation},
};

fn word() -> BoxedStrategy<String> {
    "[a-z][a-z0-9_]{0,8}".boxed()
}

fn path() -> BoxedStrategy<String> {
    "/[a-z0-9]{0,6}".boxed()
}

fn seconds() -> BoxedStrategy<Duration> {
    (0u64..100_000, 0u32..1000)
        .prop_map(|(s, ms)| Duration::new(s, ms * 1_000_000))
        .boxed()
}

fn long() -> BoxedStrategy<Option<Duration>> {
    option::of(seconds()).boxed()
}

/// A duration for which Envoy demands more than zero.
fn positive() -> BoxedStrategy<Option<Duration>> {
    option::of(seconds().prop_map(|d| d + Duration::from_secs(1))).boxed()
}

fn number() -> BoxedStrategy<Option<u32>> {
    option::of(any::<u32>()).boxed()
}

fn cluster_name() -> BoxedStrategy<ClusterName> {
    "outbound\\|[0-9]{1,4}\\|[a-z]{0,4}\\|[a-z.]{1,12}"
        .prop_map(|text| ClusterName::parse(&text).unwrap())
        .boxed()
}

fn secret_name() -> BoxedStrategy<SecretName> {
    select(vec!["default", "ROOTCA", "file-root:system"])
        .prop_map(|text| SecretName::parse(text).unwrap())
        .boxed()
}

fn host() -> BoxedStrategy<Host> {
    "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}"
        .prop_map(|text| Host::parse(&text).unwrap())
        .boxed()
}

fn wildcard() -> BoxedStrategy<HostPattern> {
    host()
        .prop_map(|host| HostPattern::parse(&format!("*.{host}")).unwrap())
        .boxed()
}

fn address() -> BoxedStrategy<SocketAddr> {
    (any::<std::net::IpAddr>(), 1u16..)
        .prop_map(|(ip, port)| SocketAddr::new(ip, port))
        .boxed()
}

// Matchers

fn regex() -> BoxedStrategy<Regex> {
    select(vec![".*/ns/[^/]+/.*", "a|b", "spiffe://.+", "[0-9]{1,3}"])
        .prop_map(|source| Regex::parse(source).unwrap())
        .boxed()
}

fn string_matcher() -> BoxedStrategy<StringMatcher> {
    let pattern = prop_oneof![
        "[ -~]{0,8}".prop_map(StringPattern::Exact),
        word().prop_map(StringPattern::Prefix),
        word().prop_map(StringPattern::Suffix),
        word().prop_map(StringPattern::Contains),
        regex().prop_map(StringPattern::Regex),
    ];
    (pattern, any::<bool>())
        .prop_map(|(pattern, ignore_case)| StringMatcher {
            ignore_case: ignore_case && !matches!(pattern, StringPattern::Regex(_)),
            pattern,
        })
        .boxed()
}

fn header_matcher() -> BoxedStrategy<HeaderMatcher> {
    let value = prop_oneof![
        any::<bool>().prop_map(HeaderValueMatch::Present),
        string_matcher().prop_map(HeaderValueMatch::Value),
    ];
    let name = prop_oneof![word(), Just(":authority".to_owned()), Just(":method".to_owned())];
    (name, value, any::<bool>(), any::<bool>())
        .prop_map(|(name, value, invert, missing_as_empty)| HeaderMatcher {
            name,
            value,
            invert,
            missing_as_empty,
        })
        .boxed()
}

fn query_matcher() -> BoxedStrategy<QueryMatcher> {
    (word(), option::of(string_matcher()))
        .prop_map(|(name, value)| QueryMatcher { name, value })
        .boxed()
}

// Authorization

fn metadata_matcher() -> BoxedStrategy<MetadataMatcher> {
    let value = prop_oneof![
        string_matcher().prop_map(MetadataValueMatch::Text),
        string_matcher().prop_map(MetadataValueMatch::ListWithText),
    ];
    (word(), vec(word(), 1..3), value, any::<bool>())
        .prop_map(|(filter, path, value, invert)| MetadataMatcher {
            filter,
            path,
            value,
            invert,
        })
        .boxed()
}

fn cidr() -> BoxedStrategy<ipnet::IpNet> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0u8..=32).prop_map(|(ip, len)| ipnet::Ipv4Net::new(ip, len).unwrap().into()),
        (any::<std::net::Ipv6Addr>(), 0u8..=128).prop_map(|(ip, len)| ipnet::Ipv6Net::new(ip, len).unwrap().into()),
    ]
    .boxed()
}

fn path_template() -> BoxedStrategy<PathTemplate> {
    select(vec!["/a/{*}", "/a/{**}", "/{*}/b/{**}", "/plain"])
        .prop_map(|text| PathTemplate::parse(text).unwrap())
        .boxed()
}

/// Which facts a filter has; Envoy refuses to look for headers in a TCP connection.
#[derive(Clone, Copy, PartialEq)]
enum Layer {
    Http,
    Network,
}

fn permission(layer: Layer) -> BoxedStrategy<Permission> {
    let http = prop_oneof![
        header_matcher().prop_map(Permission::Header),
        string_matcher().prop_map(Permission::Path),
        path_template().prop_map(Permission::PathTemplate),
    ];
    let network = prop_oneof![
        Just(Permission::Any),
        cidr().prop_map(Permission::DestinationIp),
        any::<u16>().prop_map(Permission::DestinationPort),
        string_matcher().prop_map(Permission::RequestedServerName),
        metadata_matcher().prop_map(Permission::Metadata),
    ];
    let leaf = either(layer, http.boxed(), network.boxed());
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Permission::And),
            vec(inner.clone(), 1..3).prop_map(Permission::Or),
            inner.prop_map(|one| Permission::Not(Box::new(one))),
        ]
    })
    .boxed()
}

fn either<T: std::fmt::Debug + 'static>(
    layer: Layer,
    http: BoxedStrategy<T>,
    network: BoxedStrategy<T>,
) -> BoxedStrategy<T> {
    match layer {
        Layer::Http => prop_oneof![http, network].boxed(),
        Layer::Network => network,
    }
}

fn principal(layer: Layer) -> BoxedStrategy<Principal> {
    let http = prop_oneof![
        header_matcher().prop_map(Principal::Header),
        string_matcher().prop_map(Principal::Path),
    ];
    let network = prop_oneof![
        Just(Principal::Any),
        option::of(string_matcher()).prop_map(Principal::Authenticated),
        cidr().prop_map(Principal::DirectRemoteIp),
        cidr().prop_map(Principal::RemoteIp),
        metadata_matcher().prop_map(Principal::Metadata),
    ];
    let leaf = either(layer, http.boxed(), network.boxed());
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Principal::And),
            vec(inner.clone(), 1..3).prop_map(Principal::Or),
            inner.prop_map(|one| Principal::Not(Box::new(one))),
        ]
    })
    .boxed()
}

fn rbac(layer: Layer) -> BoxedStrategy<Rbac> {
    let parts = (vec(permission(layer), 1..3), vec(principal(layer), 1..3));
    let policy = parts.prop_map(|(permissions, principals)| Policy {
        permissions,
        principals,
    });
    let name = "ns\\[[a-z]{1,3}\\]-policy\\[[a-z]{1,3}\\]-rule\\[[0-9]\\]";
    let name = name.prop_map(|text| PolicyName::parse(&text).unwrap());
    (
        select(vec![RbacAction::Allow, RbacAction::Deny, RbacAction::Log]),
        btree_map(name, policy, 0..3),
    )
        .prop_map(|(action, policies)| Rbac { action, policies })
        .boxed()
}

fn rbac_filter(layer: Layer) -> BoxedStrategy<RbacFilter> {
    (option::of(rbac(layer)), option::of(rbac(layer)), word(), word())
        .prop_map(|(rules, shadow_rules, shadow_prefix, stat_prefix)| RbacFilter {
            rules,
            shadow_rules,
            shadow_prefix,
            stat_prefix,
        })
        .boxed()
}

// Logs

fn json() -> BoxedStrategy<serde_json::Value> {
    use serde_json::Value;

    let leaf = prop_oneof![Just(Value::from("%RESPONSE_CODE%")), word().prop_map(Value::from)];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..2).prop_map(Value::from),
            btree_map(word(), inner, 0..2).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

fn access_log() -> BoxedStrategy<AccessLog> {
    let format = prop_oneof![
        Just(LogFormat::EnvoyDefault),
        Just(LogFormat::Text(crate::log::ISTIO_DEFAULT_FORMAT.to_owned())),
        (btree_map(word(), json(), 1..3), any::<bool>()).prop_map(|(fields, omit_empty)| LogFormat::Json {
            fields: fields.into_iter().collect(),
            omit_empty,
        }),
    ];
    (select(vec!["/dev/stdout", "/dev/stderr"]), format, any::<bool>())
        .prop_map(|(path, format, only_nr)| AccessLog {
            path: path.into(),
            format,
            only_flags: only_nr.then(|| "NR".to_owned()).into_iter().collect(),
        })
        .boxed()
}

// TLS

fn versions() -> BoxedStrategy<(Option<TlsVersion>, Option<TlsVersion>)> {
    let (two, three) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    select(vec![
        (None, None),
        (two, None),
        (two, three),
        (three, three),
        (None, three),
    ])
    .boxed()
}

fn alpn() -> BoxedStrategy<Vec<String>> {
    let all = ["h2", "http/1.1", "istio"].map(str::to_owned).to_vec();
    subsequence(all, 0..3).prop_shuffle().boxed()
}

fn certificate() -> BoxedStrategy<CertificateSource> {
    prop_oneof![
        secret_name().prop_map(CertificateSource::Sds),
        Just(CertificateSource::Files {
            chain: "/etc/certs/cert-chain.pem".into(),
            key: "/etc/certs/key.pem".into(),
        }),
    ]
    .boxed()
}

fn validation() -> BoxedStrategy<Validation> {
    let trust = prop_oneof![
        secret_name().prop_map(TrustSource::Sds),
        Just(TrustSource::File("/etc/certs/root-cert.pem".into())),
    ];
    let san = (select(vec![SanKind::Dns, SanKind::Uri, SanKind::Ip]), string_matcher())
        .prop_map(|(kind, name)| SanMatcher { kind, name });
    (trust, vec(san, 0..3))
        .prop_map(|(trust, sans)| Validation { trust, sans })
        .boxed()
}

fn downstream_tls() -> BoxedStrategy<DownstreamTls> {
    (
        certificate(),
        option::of(validation()),
        any::<bool>(),
        alpn(),
        versions(),
    )
        .prop_map(
            |(certificate, validation, required, alpn, (min_version, max_version))| DownstreamTls {
                certificate,
                require_client_certificate: required && validation.is_some(),
                validation,
                alpn,
                min_version,
                max_version,
            },
        )
        .boxed()
}

fn upstream_tls() -> BoxedStrategy<UpstreamTls> {
    (
        option::of(word()),
        option::of(certificate()),
        option::of(validation()),
        alpn(),
        versions(),
    )
        .prop_map(
            |(sni, certificate, validation, alpn, (min_version, max_version))| UpstreamTls {
                sni,
                certificate,
                validation,
                alpn,
                min_version,
                max_version,
            },
        )
        .boxed()
}

// Clusters

fn endpoint(address: BoxedStrategy<EndpointAddress>) -> BoxedStrategy<Endpoint> {
    (address, option::of(1u32..1000), any::<bool>())
        .prop_map(|(address, weight, healthy)| Endpoint {
            address,
            weight,
            healthy,
        })
        .boxed()
}

fn by_address() -> BoxedStrategy<EndpointAddress> {
    address().prop_map(EndpointAddress::Socket).boxed()
}

fn by_name() -> BoxedStrategy<EndpointAddress> {
    (host(), 1u16..)
        .prop_map(|(host, port)| EndpointAddress::Name(host, port))
        .boxed()
}

/// Endpoints of an EDS resource.
pub(super) fn endpoints() -> BoxedStrategy<(ClusterName, Endpoints)> {
    (cluster_name(), vec(endpoint(by_address()), 0..3).prop_map(Endpoints)).boxed()
}

fn dns_settings() -> BoxedStrategy<DnsSettings> {
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

fn discovery() -> BoxedStrategy<Discovery> {
    let named = || endpoint(prop_oneof![by_address(), by_name()].boxed());
    prop_oneof![
        vec(endpoint(by_address()), 0..3).prop_map(|list| Discovery::Static(Endpoints(list))),
        (vec(named(), 0..3), dns_settings()).prop_map(|(list, dns)| Discovery::StrictDns(Endpoints(list), dns)),
        (endpoint(by_name()), dns_settings()).prop_map(|(one, dns)| Discovery::LogicalDns(one, dns)),
        option::of(cluster_name()).prop_map(|service_name| Discovery::Eds { service_name }),
        Just(Discovery::OriginalDst),
    ]
    .boxed()
}

fn circuit_breakers() -> BoxedStrategy<CircuitBreakers> {
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
pub(super) fn cluster() -> BoxedStrategy<Cluster> {
    let balancing = select(vec![LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random]);
    let http = select(vec![
        UpstreamHttp::Http1,
        UpstreamHttp::Http2,
        UpstreamHttp::AsDownstream,
    ]);
    (
        (cluster_name(), option::of(word()), discovery(), balancing, positive()),
        (option::of(upstream_tls()), http, any::<bool>(), any::<bool>()),
        (option::of(circuit_breakers()), number()),
    )
        .prop_map(
            |(
                (name, alt_stat_name, discovery, balancing, connect_timeout),
                (tls, http, auto_sni, auto_san),
                (circuit_breakers, buffer_limit),
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
            },
        )
        .boxed()
}

// Routes

fn weighted_clusters() -> BoxedStrategy<WeightedClusters> {
    vec((cluster_name(), 1u32..1000), 1..4)
        .prop_map(|entries| WeightedClusters::parse(entries).unwrap())
        .boxed()
}

fn retry_policy() -> BoxedStrategy<RetryPolicy> {
    let conditions = RetryOn::NAMES.map(|(_, condition)| condition).to_vec();
    (
        vec(select(conditions), 0..4),
        0u32..10,
        option::of(seconds()),
        vec(400u16..600, 0..3),
        any::<bool>(),
        option::of(1u32..20),
    )
        .prop_map(
            |(retry_on, num_retries, per_try_timeout, status_codes, avoid_previous_hosts, host_selection_attempts)| {
                RetryPolicy {
                    retry_on,
                    num_retries,
                    per_try_timeout,
                    status_codes,
                    avoid_previous_hosts,
                    host_selection_attempts,
                }
            },
        )
        .boxed()
}

fn forward() -> BoxedStrategy<Forward> {
    (
        weighted_clusters(),
        (long(), long()),
        option::of(retry_policy()),
        option::of(word()),
        option::of(path()),
        any::<bool>(),
    )
        .prop_map(
            |(clusters, (timeout, idle_timeout), retry, host_rewrite, prefix_rewrite, terminate_connect)| Forward {
                clusters,
                timeout,
                idle_timeout,
                retry,
                host_rewrite,
                prefix_rewrite,
                terminate_connect,
            },
        )
        .boxed()
}

fn action() -> BoxedStrategy<RouteAction> {
    let redirect = (
        option::of(Just("https".to_owned())),
        option::of(word()),
        option::of(1u16..),
        option::of(path()),
        option::of(select(vec![302u16, 303, 307, 308])),
    )
        .prop_map(|(scheme, host, port, path, status)| Redirect {
            scheme,
            host,
            port,
            path,
            status,
        });
    let direct = (200u16..600, "[ -~]{0,20}").prop_map(|(status, body)| DirectResponse { status, body });
    prop_oneof![
        3 => forward().prop_map(|forward| RouteAction::Forward(Box::new(forward))),
        1 => redirect.prop_map(RouteAction::Redirect),
        1 => direct.prop_map(RouteAction::Direct),
    ]
    .boxed()
}

fn header_changes() -> BoxedStrategy<HeaderChanges> {
    let name = || "x-[a-z]{1,6}".boxed();
    let add =
        (name(), "[ -~]{0,8}", any::<bool>()).prop_map(|(name, value, append)| HeaderChange { name, value, append });
    (vec(name(), 0..2), vec(add, 0..2))
        .prop_map(|(remove, add)| HeaderChanges { remove, add })
        .boxed()
}

fn route() -> BoxedStrategy<Route> {
    let path = prop_oneof![
        path().prop_map(PathMatch::Prefix),
        path().prop_map(PathMatch::Exact),
        regex().prop_map(PathMatch::Regex),
        Just(PathMatch::Connect),
    ];
    let matches = (
        path,
        any::<bool>(),
        vec(header_matcher(), 0..2),
        vec(query_matcher(), 0..2),
    )
        .prop_map(|(path, case_sensitive, headers, query)| RouteMatch {
            path,
            case_sensitive,
            headers,
            query,
        });
    (
        option::of(word()),
        matches,
        action(),
        header_changes(),
        header_changes(),
    )
        .prop_map(|(name, matches, action, request_headers, response_headers)| Route {
            name,
            matches,
            action,
            request_headers,
            response_headers,
        })
        .boxed()
}

fn domain() -> BoxedStrategy<Domain> {
    let host = prop_oneof![
        host().prop_map(HostPattern::Exact),
        any::<std::net::IpAddr>().prop_map(|ip| HostPattern::parse(&ip.to_string()).unwrap()),
        wildcard(),
        Just(HostPattern::Any),
    ];
    (host, option::of(1u16..))
        .prop_map(|(host, port)| Domain { host, port })
        .boxed()
}

/// Domains of a route configuration do not repeat; here they are told apart by the virtual host's number.
fn virtual_hosts() -> BoxedStrategy<Vec<VirtualHost>> {
    let one = (vec(domain(), 1..3), vec(route(), 0..3), any::<bool>(), any::<bool>());
    vec(one, 0..3)
        .prop_map(|hosts| {
            let mut seen = std::collections::BTreeSet::new();
            let hosts = hosts.into_iter().enumerate();
            hosts
                .map(
                    |(index, (domains, routes, require_tls, include_attempt_count))| VirtualHost {
                        name: format!("host-{index}"),
                        domains: domains
                            .into_iter()
                            .filter(|domain| seen.insert(domain.clone()))
                            .collect(),
                        routes,
                        require_tls,
                        include_attempt_count,
                    },
                )
                .filter(|host| !host.domains.is_empty())
                .collect()
        })
        .boxed()
}

/// Route configurations.
pub(super) fn route_config() -> BoxedStrategy<RouteConfig> {
    (word(), virtual_hosts(), any::<bool>())
        .prop_map(|(name, virtual_hosts, ignore_port_in_host_matching)| RouteConfig {
            name: RouteConfigName::parse(&name).unwrap(),
            virtual_hosts,
            ignore_port_in_host_matching,
        })
        .boxed()
}

// Listeners

fn client_cert() -> BoxedStrategy<ForwardClientCert> {
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

fn http2() -> BoxedStrategy<Http2Settings> {
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

fn timeouts() -> BoxedStrategy<HttpTimeouts> {
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

fn http() -> BoxedStrategy<Http> {
    let routes = prop_oneof![
        word().prop_map(|name| RouteSource::Rds(RouteConfigName::parse(&name).unwrap())),
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

fn tcp_proxy() -> BoxedStrategy<TcpProxy> {
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

fn filter_chain() -> BoxedStrategy<FilterChain> {
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
fn told_apart(mut chains: Vec<FilterChain>) -> Vec<FilterChain> {
    for (port, chain) in (1..).zip(&mut chains) {
        chain.matches.destination_port = chain.matches.destination_port.map(|_| port);
    }
    chains.dedup_by(|one, other| one.matches == other.matches);
    chains
}

/// Listeners.
pub(super) fn listener() -> BoxedStrategy<Listener> {
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

/// Resources of every type.
pub(super) fn resource() -> BoxedStrategy<crate::xds::Resource> {
    use crate::xds::Resource;

    prop_oneof![
        cluster().prop_map(Resource::Cluster),
        endpoints().prop_map(|(name, endpoints)| Resource::Endpoints(name, endpoints)),
        listener().prop_map(Resource::Listener),
        route_config().prop_map(Resource::RouteConfig),
    ]
    .boxed()
}
