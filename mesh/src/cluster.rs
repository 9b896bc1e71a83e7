//! Clusters and their endpoints: where requests and connections end up, as Envoy's `config.cluster.v3` and
//! `config.endpoint.v3`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{ClusterName, host::Host, source::Source, tls::UpstreamTls};

/// A group of upstream hosts that serve the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `outbound|443|example-com-originate-TLS|example.com`.
    pub name: ClusterName,
    /// `%UPSTREAM_CLUSTER%`, where it differs from the name.
    pub alt_stat_name: Option<String>,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// How one is chosen.
    pub lb_policy: LbPolicy,
    /// Bound on a TCP connect and TLS handshake. `None`: 5 s.
    pub connect_timeout: Option<Duration>,
    /// TLS to the upstream. `None`: plaintext.
    pub tls: Option<UpstreamTls>,
    /// HTTP version spoken upstream.
    pub http: UpstreamHttp,
    /// The SNI is the request's host, whatever [`UpstreamTls::sni`] says.
    pub auto_sni: bool,
    /// The certificate must be for that SNI.
    pub auto_san_validation: bool,
    /// Bounds on what is in flight. `None`: Envoy's defaults (1024, 1024, 1024, 3).
    pub circuit_breakers: Option<CircuitBreakers>,
    /// Bytes buffered per connection. `None`: 1 MiB.
    pub buffer_limit: Option<u32>,
    /// How long connections are used for requests.
    pub reuse: Reuse,
}

/// How long a connection is used for one request after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reuse {
    /// Longest time without requests. `None`: 1 h; zero: for ever.
    pub idle_timeout: Option<Duration>,
    /// Requests in all. `None`: any number.
    pub max_requests: Option<u32>,
}

impl Cluster {
    /// The endpoint resource it waits for: its name, and where it comes from. `None`: it has its endpoints otherwise.
    pub fn endpoints(&self) -> Option<(&ClusterName, &Source)> {
        match &self.discovery {
            Discovery::Eds { service_name, source } => Some((service_name.as_ref().unwrap_or(&self.name), source)),
            Discovery::Static(_) | Discovery::StrictDns(..) | Discovery::LogicalDns(..) | Discovery::OriginalDst => {
                None
            }
        }
    }
}

/// How endpoints are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// Written in place, by address.
    Static(Endpoints),
    /// Every address of every name, kept up to date.
    StrictDns(Endpoints, DnsSettings),
    /// One address of one name at a time; old connections stay.
    LogicalDns(Endpoint, DnsSettings),
    /// An endpoint resource, by the cluster's name unless another is given.
    Eds {
        /// Name of the endpoint resource.
        service_name: Option<ClusterName>,
        /// Where it comes from.
        source: Source,
    },
    /// The address the downstream connection was made for, before it was redirected. Only where the peer is trusted: beside an
    /// application, never at a gateway.
    OriginalDst,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsSettings {
    /// Which addresses.
    pub family: DnsFamily,
    /// Time between lookups without a usable TTL. `None`: 5 s.
    pub refresh: Option<Duration>,
    /// Look up again when the answer's TTL ends.
    pub respect_ttl: bool,
}

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsFamily {
    /// IPv6, or IPv4 if there is none.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, or IPv6 if there is none.
    V4Preferred,
    /// Both.
    All,
}

/// Endpoints of a cluster, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints(pub Vec<Endpoint>);

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Share of requests; at least 1. `None`: 1.
    pub weight: Option<u32>,
    /// What discovery says of its health; only healthy endpoints are used.
    pub healthy: bool,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address and port.
    Socket(SocketAddr),
    /// A name to resolve, and a port. DNS clusters only.
    Name(Host, u16),
    /// A Unix socket. Services of the proxy itself only: no traffic is sent there.
    Pipe(PathBuf),
}

/// `lb_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LbPolicy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The less busy of two drawn at random.
    LeastRequest,
    /// At random.
    Random,
    /// The original destination; goes with [`Discovery::OriginalDst`].
    ClusterProvided,
}

/// HTTP version spoken upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamHttp {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge in plaintext.
    Http2,
    /// The version the client spoke.
    AsDownstream,
}

/// Bounds on what is in flight to a cluster; `None` is Envoy's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreakers {
    /// Connections. `None`: 1024.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection. `None`: 1024.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight. `None`: 1024.
    pub max_requests: Option<u32>,
    /// Retries in flight. `None`: 3.
    pub max_retries: Option<u32>,
}
