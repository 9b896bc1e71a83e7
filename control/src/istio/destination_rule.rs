//! `DestinationRule`: how connections to a host are made, and which subsets of it there are.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    scalar::Duration,
    scope::{Export, HostText},
    virtual_service::PortSelector,
};

/// `networking.istio.io` DestinationRule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// The host it is for; may be a wildcard.
    pub host: HostText,
    /// Settings for every port and subset.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named subsets of the endpoints, with settings of their own.
    #[serde(default)]
    pub subsets: Vec<Subset>,
    /// Namespaces that see it. Empty: all.
    #[serde(default)]
    pub export_to: Vec<Export>,
}

/// A named subset of a host's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels of its endpoints. Empty: all endpoints.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Settings that replace the host's, block by block.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Settings for connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// TLS towards the endpoint.
    pub tls: Option<ClientTls>,
    /// Settings of single ports, which replace the above, block by block.
    pub port_level_settings: Vec<PortTrafficPolicy>,
}

/// Settings for one port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The service port.
    pub port: PortSelector,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections and requests.
    #[serde(default)]
    pub connection_pool: Option<ConnectionPool>,
    /// TLS towards the endpoint.
    #[serde(default)]
    pub tls: Option<ClientTls>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// The policy.
    pub simple: SimpleLb,
}

/// Load balancing without state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// Istio's choice, which is [`SimpleLb::LeastRequest`].
    #[default]
    Unspecified,
    /// The less busy of two drawn at random.
    #[serde(alias = "LEAST_CONN")]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
}

/// Limits of connections and requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: Option<TcpPool>,
    /// Of HTTP requests.
    pub http: Option<HttpPool>,
}

/// Limits of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpPool {
    /// Connections at one time. `None`: unlimited.
    pub max_connections: Option<u32>,
    /// Time to connect. `None`: 10 s.
    pub connect_timeout: Option<Duration>,
    /// Longest silence on a TCP connection. `None`: 1 h.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a TCP connection. `None`: unlimited.
    pub max_connection_duration: Option<Duration>,
}

/// Limits of HTTP requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPool {
    /// Requests that wait for a connection. `None`: unlimited.
    pub http1_max_pending_requests: Option<u32>,
    /// Requests at one time. `None`: unlimited.
    pub http2_max_requests: Option<u32>,
    /// Retries at one time. `None`: unlimited.
    pub max_retries: Option<u32>,
    /// Requests that one connection serves. `None` and 0: any number.
    pub max_requests_per_connection: Option<u32>,
    /// Longest time that a connection waits for requests. `None`: 1 h.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2 towards the endpoint.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Speak the HTTP version that the client spoke.
    pub use_client_protocol: bool,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh has it: no.
    #[default]
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// TLS towards an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// Whether and with which certificates.
    pub mode: ClientTlsMode,
    /// File with our certificate chain ([`ClientTlsMode::Mutual`] only); empty: none.
    pub client_certificate: String,
    /// File with our private key ([`ClientTlsMode::Mutual`] only); empty: none.
    pub private_key: String,
    /// File with the roots to trust; empty: the system's.
    pub ca_certificates: String,
    /// Names one of which the server's certificate must carry.
    pub subject_alt_names: Vec<String>,
    /// Server name to ask for; empty: the request's host.
    pub sni: String,
    /// Check neither chain nor name.
    pub insecure_skip_verify: bool,
}

/// Kinds of TLS towards an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// None.
    #[default]
    Disable,
    /// Without a certificate of ours.
    Simple,
    /// With a certificate of ours, from files.
    Mutual,
    /// With the mesh certificate, to a member of the mesh.
    IstioMutual,
}

impl TrafficPolicy {
    /// Whether nothing is set for all ports.
    pub fn is_empty(&self) -> bool {
        self.load_balancer.is_none() && self.connection_pool.is_none() && self.tls.is_none()
    }
}
