//! Arbitrary resources: everything the model can hold that has a wire form, and that Envoy takes.

mod authz;
mod cluster;
mod listener;
mod log;
mod matcher;
mod route;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::{option, prelude::*, sample::select};

use crate::{
    ClusterName, SecretName,
    host::{Host, HostPattern},
};

pub(super) use self::{
    cluster::{cluster, endpoints},
    listener::listener,
    route::route_config,
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
