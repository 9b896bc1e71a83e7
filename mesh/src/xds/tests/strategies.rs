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
    secret::{AGENT_CLUSTER, SecretRef, SecretSource},
    source::{FileSource, Source},
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

/// A secret from any source.
fn secret() -> BoxedStrategy<SecretRef> {
    let service = any::<bool>().prop_map(|delta| SecretSource::Service {
        cluster: ClusterName::parse(AGENT_CLUSTER).unwrap(),
        delta,
    });
    let others = source().prop_map(|source| match source {
        Source::Ads => SecretSource::Ads,
        Source::File(file) => SecretSource::File(file),
    });
    let source = prop_oneof![Just(SecretSource::Static), service, others];
    (secret_name(), source)
        .prop_map(|(name, source)| SecretRef { name, source })
        .boxed()
}

/// The file exists: Envoy looks.
fn source() -> BoxedStrategy<Source> {
    let file = |watched: Option<&str>| {
        Source::File(FileSource {
            path: "/etc/passwd".into(),
            watched_directory: watched.map(Into::into),
        })
    };
    select(vec![Source::Ads, file(None), file(Some("/etc"))]).boxed()
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
        cluster().prop_map(Resource::from),
        endpoints().prop_map(|(name, endpoints)| Resource::Endpoints(name, endpoints.into())),
        listener().prop_map(Resource::from),
        route_config().prop_map(Resource::from),
    ]
    .boxed()
}
