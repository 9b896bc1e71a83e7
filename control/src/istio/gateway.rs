//! `Gateway`: which ports a gateway proxy opens, for which hosts, and what it does about TLS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    scalar::{Port, Protocol},
    scope::ScopedHost,
};

/// `networking.istio.io` Gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Labels of the gateway proxies, in any namespace. Empty: all of them.
    pub selector: BTreeMap<String, String>,
    /// The ports.
    pub servers: Vec<Server>,
}

/// One port, with the hosts served on it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The port, as the gateway's Service numbers it.
    pub port: ServerPort,
    /// Hosts and the namespaces whose VirtualServices may serve them.
    #[serde(default)]
    pub hosts: Vec<ScopedHost>,
    /// TLS settings; required for [`Protocol::Https`] and [`Protocol::Tls`].
    #[serde(default)]
    pub tls: Option<ServerTls>,
    /// Only names the server in statistics.
    #[serde(default)]
    pub name: String,
}

/// A server's port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerPort {
    /// Number of the Service port; the proxy listens on the Service's target port.
    pub number: Port,
    /// What is spoken.
    pub protocol: Protocol,
    /// Name of the port, part of the route configuration's name.
    #[serde(default)]
    pub name: String,
}

/// What a server does about TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// Who terminates TLS and how.
    #[serde(default)]
    pub mode: ServerTlsMode,
    /// Names one of which the client's certificate must carry. Empty: every member of the mesh.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    /// On a plain HTTP port: answer 301 to the https URL.
    #[serde(default)]
    pub https_redirect: bool,
}

/// The TLS modes we implement. Istio's default is PASSTHROUGH, the first of its enumeration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// Not terminated; routed by server name.
    #[default]
    Passthrough,
    /// Terminated with the mesh certificate; the client must show one too.
    IstioMutual,
}
