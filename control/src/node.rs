//! Who is asking: a proxy, and what compiling for it depends on.

use std::{collections::BTreeMap, net::IpAddr};

/// A proxy of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it does.
    pub role: Role,
    /// The namespace it belongs to, which decides what it sees.
    pub namespace: String,
    /// The service account it runs as; empty if it does not say.
    pub service_account: String,
    /// Labels of its workload, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Its own addresses; their family decides what it listens on and resolves to. Empty: IPv4.
    pub ips: Vec<IpAddr>,
    /// How connections of the application reach a sidecar.
    pub interception: Interception,
    /// Port of a sidecar's explicit proxy, if it asks for one.
    pub http_proxy_port: Option<u16>,
}

/// What a proxy does, by the first part of its node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `router`: a gateway.
    Gateway,
    /// `sidecar`: beside an application.
    Sidecar,
}

/// How connections of the application reach a sidecar: metadata `INTERCEPTION_MODE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Interception {
    /// `REDIRECT`: the kernel redirects them.
    #[default]
    Redirect,
    /// `NONE`: only through the explicit proxy. Istio would bind a port per service on loopback; we do not.
    None,
}
