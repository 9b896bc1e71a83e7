//! RBAC filters.

use std::sync::Arc;

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{
    matcher::{header_matcher, string_matcher},
    word,
};
use crate::{
    PolicyName,
    authz::{MetadataMatcher, MetadataValueMatch, Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    path_template::PathTemplate,
};

pub(super) fn metadata_matcher() -> BoxedStrategy<MetadataMatcher> {
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

pub(super) fn cidr() -> BoxedStrategy<ipnet::IpNet> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0u8..=32).prop_map(|(ip, len)| ipnet::Ipv4Net::new(ip, len).unwrap().into()),
        (any::<std::net::Ipv6Addr>(), 0u8..=128).prop_map(|(ip, len)| ipnet::Ipv6Net::new(ip, len).unwrap().into()),
    ]
    .boxed()
}

pub(super) fn path_template() -> BoxedStrategy<PathTemplate> {
    select(vec!["/a/{*}", "/a/{**}", "/{*}/b/{**}", "/plain"])
        .prop_map(|text| PathTemplate::parse(text).unwrap())
        .boxed()
}

/// Which facts a filter has; Envoy refuses to look for headers in a TCP connection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layer {
    Http,
    Network,
}

pub(super) fn permission(layer: Layer) -> BoxedStrategy<Permission> {
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

pub(super) fn either<T: std::fmt::Debug + 'static>(
    layer: Layer,
    http: BoxedStrategy<T>,
    network: BoxedStrategy<T>,
) -> BoxedStrategy<T> {
    match layer {
        Layer::Http => prop_oneof![http, network].boxed(),
        Layer::Network => network,
    }
}

pub(super) fn principal(layer: Layer) -> BoxedStrategy<Principal> {
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

pub(super) fn rbac(layer: Layer) -> BoxedStrategy<Rbac> {
    let parts = (vec(permission(layer), 1..3), vec(principal(layer), 1..3));
    let policy = parts.prop_map(|(permissions, principals)| Policy {
        permissions,
        principals,
    });
    let name = "ns\\[[a-z]{1,3}\\]-policy\\[[a-z]{1,3}\\]-rule\\[[0-9]\\]";
    let name = name.prop_map(|text| PolicyName::parse(&text).unwrap());
    (
        select(vec![RbacAction::Allow, RbacAction::Deny, RbacAction::Log]),
        btree_map(name, policy.prop_map(Arc::new), 0..3),
    )
        .prop_map(|(action, policies)| Rbac { action, policies })
        .boxed()
}

pub(super) fn rbac_filter(layer: Layer) -> BoxedStrategy<RbacFilter> {
    (option::of(rbac(layer)), option::of(rbac(layer)), word(), word())
        .prop_map(|(rules, shadow_rules, shadow_prefix, stat_prefix)| RbacFilter {
            rules: rules.map(Arc::new),
            shadow_rules: shadow_rules.map(Arc::new),
            shadow_prefix,
            stat_prefix,
        })
        .boxed()
}
