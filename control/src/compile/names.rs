//! Names as istiod chooses them, so that logs, dashboards and `istioctl` read alike.

use std::net::IpAddr;

use mesh::{ClusterName, ListenerName, RouteConfigName, SecretName, host::HostPattern, secret::SecretRef};

use super::notes::Problem;

/// The cluster that refuses everything.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";
/// The cluster of whatever address the application dialled.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";

/// `outbound|443|example-com-originate-TLS|example.com`. Fails if a subset's name is absurdly long.
pub(super) fn cluster(port: u16, subset: &str, host: &HostPattern) -> Result<ClusterName, Problem> {
    let name = format!("outbound|{port}|{subset}|{host}");
    ClusterName::parse(&name).map_err(|error| Problem::invalid(error.to_string(), "shorten the subset's name"))
}

/// `outbound_.80_.subset_.host`: the server name by which a mesh peer learns which cluster a connection belongs to.
pub(super) fn subset_sni(port: u16, subset: &str, host: &HostPattern) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `0.0.0.0_8080`.
pub(super) fn listener(address: IpAddr, port: u16) -> ListenerName {
    fixed_listener(&format!("{address}_{port}"))
}

/// A name that is known to be short.
pub(super) fn fixed_listener(name: &str) -> ListenerName {
    ListenerName::parse(name).expect("neither empty nor long")
}

/// A name that is known to be short.
pub(super) fn fixed_cluster(name: &str) -> ClusterName {
    ClusterName::parse(name).expect("neither empty nor long")
}

/// A name made of ports, of names of Kubernetes objects and of a Gateway's port name, each of at most 253 bytes.
pub(super) fn routes(name: &str) -> RouteConfigName {
    RouteConfigName::parse(name).expect("neither empty nor long")
}

/// A secret of the identity agent, by a name that is known to be short.
pub(super) fn secret(name: &str) -> SecretRef {
    SecretRef::of_agent(SecretName::parse(name).expect("neither empty nor long"))
}
