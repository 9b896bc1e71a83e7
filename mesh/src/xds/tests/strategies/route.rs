//! Route configurations.

use std::sync::Arc;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::{
    cluster_name, host, long,
    matcher::{header_matcher, query_matcher, regex},
    path, seconds, wildcard, word,
};
use crate::{
    RouteConfigName,
    host::HostPattern,
    matcher::Substitution,
    route::{
        DirectResponse, Domain, Forward, HeaderChange, HeaderChanges, Mirror, PathMatch, Redirect, RetryOn,
        RetryPolicy, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedClusters,
    },
};

pub(super) fn weighted_clusters() -> BoxedStrategy<WeightedClusters> {
    vec((cluster_name(), 1u32..1000), 1..4)
        .prop_map(|entries| WeightedClusters::parse(entries).unwrap())
        .boxed()
}

pub(super) fn retry_policy() -> BoxedStrategy<RetryPolicy> {
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

pub(super) fn forward() -> BoxedStrategy<Forward> {
    (
        weighted_clusters(),
        (long(), long()),
        option::of(retry_policy()),
        option::of(word()),
        path_rewrite(),
        vec(mirror(), 0..3),
        (
            any::<bool>(),
            subsequence(vec!["websocket".to_owned(), "h2c".to_owned()], 0..=2),
        ),
    )
        .prop_map(
            |(
                clusters,
                (timeout, idle_timeout),
                retry,
                host_rewrite,
                (prefix_rewrite, regex_rewrite),
                mirrors,
                upgrades,
            )| Forward {
                clusters,
                timeout,
                idle_timeout,
                retry,
                host_rewrite,
                prefix_rewrite,
                regex_rewrite,
                mirrors,
                terminate_connect: upgrades.0,
                refused_upgrades: upgrades.1,
            },
        )
        .boxed()
}

fn path_rewrite() -> BoxedStrategy<(Option<String>, Option<Substitution>)> {
    prop_oneof![
        option::of(path()).prop_map(|prefix| (prefix, None)),
        "[a-z/]{1,8}".prop_map(|text| (None, Some(Substitution::parse(&text, "\\0x").unwrap()))),
    ]
    .boxed()
}

fn mirror() -> BoxedStrategy<Mirror> {
    (cluster_name(), 0..=Mirror::ALL)
        .prop_map(|(cluster, per_million)| Mirror { cluster, per_million })
        .boxed()
}

pub(super) fn action() -> BoxedStrategy<RouteAction> {
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

pub(super) fn header_changes() -> BoxedStrategy<HeaderChanges> {
    let name = || "x-[a-z]{1,6}".boxed();
    let add =
        (name(), "[ -~]{0,8}", any::<bool>()).prop_map(|(name, value, append)| HeaderChange { name, value, append });
    (vec(name(), 0..2), vec(add, 0..2))
        .prop_map(|(remove, add)| HeaderChanges { remove, add })
        .boxed()
}

pub(super) fn route() -> BoxedStrategy<Route> {
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

pub(super) fn domain() -> BoxedStrategy<Domain> {
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
pub(super) fn virtual_hosts() -> BoxedStrategy<Vec<VirtualHost>> {
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
pub(in crate::xds::tests) fn route_config() -> BoxedStrategy<RouteConfig> {
    (word(), virtual_hosts(), any::<bool>())
        .prop_map(|(name, virtual_hosts, ignore_port_in_host_matching)| RouteConfig {
            name: RouteConfigName::parse(&name).unwrap(),
            virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
            ignore_port_in_host_matching,
        })
        .boxed()
}
