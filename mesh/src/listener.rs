//! Listeners, filter chains and what a chain does with a connection, as Envoy's `config.listener.v3`.
//!
//! `None` in an optional setting always means "Envoy's default"; the data plane knows the defaults, in one place.

use std::{net::SocketAddr, time::Duration};

use crate::{
    ClusterName, ListenerName, RouteConfigName,
    authz::RbacFilter,
    host::HostPattern,
    log::AccessLog,
    route::{RouteConfig, WeightedClusters},
    source::Source,
    tls::DownstreamTls,
};

/// A listening socket and the filter chains its connections are sorted into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Unique name: `0.0.0.0_8080`.
    pub name: ListenerName,
    /// Where it listens, or which original destination it serves if it does not bind.
    pub address: SocketAddr,
    /// `false`: takes over connections that another listener accepted, by their original destination.
    pub bind_to_port: bool,
    /// Hands a redirected connection to the listener of its original destination, if there is one.
    pub use_original_dst: bool,
    /// Which way the traffic goes, for whoever reads the configuration.
    pub direction: TrafficDirection,
    /// What is looked at before a filter chain is chosen.
    pub inspectors: Inspectors,
    /// Bound on that look. `None`: 15 s; zero: none.
    pub inspect_timeout: Option<Duration>,
    /// After that time choose a chain from what is known, instead of closing.
    pub continue_on_inspect_timeout: bool,
    /// The chains; the most specific match wins, order does not matter.
    pub filter_chains: Vec<FilterChain>,
    /// Serves what no chain matches. `None`: close.
    pub default_filter_chain: Option<FilterChain>,
    /// Records of connections that no chain matched (flag `NR`).
    pub access_logs: Vec<AccessLog>,
    /// Bytes buffered per connection. `None`: 1 MiB.
    pub buffer_limit: Option<u32>,
}

impl Listener {
    /// The route configurations its filter chains wait for: their names, and where they come from.
    pub fn routes(&self) -> impl Iterator<Item = (&RouteConfigName, &Source)> {
        let chains = self.filter_chains.iter().chain(&self.default_filter_chain);
        chains.filter_map(|chain| match &chain.protocol {
            Protocol::Http(http) => match &http.routes {
                RouteSource::Rds(name, source) => Some((name, source)),
                RouteSource::Inline(_) => None,
            },
            Protocol::Tcp(_) => None,
        })
    }
}

/// `core.v3.TrafficDirection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// Towards the workload.
    Inbound,
    /// Away from it.
    Outbound,
}

/// Listener filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inspectors {
    /// `tls_inspector`: reads SNI and ALPN from the `ClientHello`.
    pub tls: bool,
    /// `http_inspector`: tells HTTP/1 and HTTP/2 from other plaintext.
    pub http: bool,
    /// `original_dst`: reads where a redirected connection wanted to go.
    pub original_dst: bool,
}

/// What to do with one kind of connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterChain {
    /// Name for logs and dumps.
    pub name: Option<String>,
    /// Which connections it is for.
    pub matches: FilterChainMatch,
    /// Terminates TLS. `None`: bytes are taken as they come.
    pub tls: Option<DownstreamTls>,
    /// Bound on the TLS handshake. `None`: 15 s; zero: none.
    pub handshake_timeout: Option<Duration>,
    /// Network RBAC filters, in order.
    pub rbac: Vec<RbacFilter>,
    /// The terminal filter.
    pub protocol: Protocol,
}

/// `FilterChainMatch`; an empty list or `None` matches everything. Specificity is compared in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FilterChainMatch {
    /// Port of the (original) destination.
    pub destination_port: Option<u16>,
    /// SNI.
    pub server_names: Vec<HostPattern>,
    /// What the inspectors found.
    pub transport: Option<Transport>,
    /// ALPN offered by a TLS client, or the HTTP version found in plaintext: `http/1.1`, `h2c`.
    pub application_protocols: Vec<String>,
}

/// `transport_protocol` of a filter chain match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `raw_buffer`: not TLS.
    Plaintext,
    /// `tls`.
    Tls,
}

/// The terminal network filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// `http_connection_manager`.
    Http(Box<Http>),
    /// `tcp_proxy`.
    Tcp(TcpProxy),
}

/// `tcp_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpProxy {
    /// Prefix of its counters.
    pub stat_prefix: String,
    /// Where connections go.
    pub clusters: WeightedClusters,
    /// Close when no byte moved for so long. `None`: 1 h; zero: never.
    pub idle_timeout: Option<Duration>,
    /// Close after so long, come what may. `None`: never.
    pub max_connection_duration: Option<Duration>,
    /// Records.
    pub access_logs: Vec<AccessLog>,
}

/// `http_connection_manager`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Prefix of its counters.
    pub stat_prefix: String,
    /// Which HTTP versions.
    pub codec: Codec,
    /// Where routes come from.
    pub routes: RouteSource,
    /// HTTP RBAC filters, in order.
    pub rbac: Vec<RbacFilter>,
    /// Edge behaviour: the TCP peer is the client, its headers are not trusted.
    pub use_remote_address: bool,
    /// Trusted proxies in front, for `x-forwarded-for`.
    pub xff_trusted_hops: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_cert: ForwardClientCert,
    /// The `server` header of responses. `None`: `envoy`.
    pub server_name: Option<String>,
    /// What becomes of the upstream's `server` header.
    pub server_header: ServerHeader,
    /// Paths are normalised (RFC 3986 section 6) before they are matched and forwarded.
    pub normalize_path: bool,
    /// Adjacent slashes are merged.
    pub merge_slashes: bool,
    /// What becomes of `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
    /// What becomes of header names with an underscore.
    pub underscores: Underscores,
    /// Upgrade tokens let through, lower-case: `websocket`, `connect`.
    pub upgrades: Vec<String>,
    /// A request without `x-request-id` gets one. `None`: yes.
    pub generate_request_id: Option<bool>,
    /// An edge keeps the client's `x-request-id`.
    pub preserve_external_request_id: bool,
    /// `Expect: 100-continue` is answered by the upstream instead of us.
    pub proxy_100_continue: bool,
    /// HTTP/1.0 requests are served.
    pub accept_http_10: bool,
    /// Absolute-form request targets are served. `None`: yes.
    pub allow_absolute_url: Option<bool>,
    /// HTTP/2 settings.
    pub http2: Http2Settings,
    /// Bounds in size.
    pub limits: HttpLimits,
    /// Bounds in time.
    pub timeouts: HttpTimeouts,
    /// Records.
    pub access_logs: Vec<AccessLog>,
}

/// `codec_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// By ALPN or by the first bytes.
    #[default]
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a connection manager's routes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteSource {
    /// A route configuration by its name, from this source.
    Rds(RouteConfigName, Source),
    /// Written in place.
    Inline(RouteConfig),
}

/// `forward_client_cert_details` and `set_current_client_cert_details`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Drop the header.
    Sanitize,
    /// Drop what came in and describe the current peer.
    SanitizeSet(ClientCertDetails),
    /// Keep what came in and append the current peer.
    AppendForward(ClientCertDetails),
    /// Keep what came in if the connection is mTLS.
    ForwardOnly,
    /// Keep what came in.
    AlwaysForwardOnly,
}

/// Which facts of the peer's certificate go into `x-forwarded-client-cert`, besides `By`, `Hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `Subject`.
    pub subject: bool,
    /// `Cert`, URL-encoded PEM.
    pub cert: bool,
    /// `Chain`, URL-encoded PEM.
    pub chain: bool,
    /// `DNS`.
    pub dns: bool,
    /// `URI`.
    pub uri: bool,
}

/// `server_header_transformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// Ours replaces the upstream's.
    #[default]
    Overwrite,
    /// Ours if the upstream sent none.
    AppendIfAbsent,
    /// The upstream's, or none.
    PassThrough,
}

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// Keep them as they are.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// 307 to the unescaped path.
    UnescapeAndRedirect,
    /// Unescape before matching.
    UnescapeAndForward,
}

/// `headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// Let them through.
    #[default]
    Allow,
    /// 400, or a stream reset.
    RejectRequest,
    /// Drop the header.
    DropHeader,
}

/// `http2_protocol_options`; `None` is Envoy's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http2Settings {
    /// Streams a peer may have open. `None`: 1024.
    pub max_concurrent_streams: Option<u32>,
    /// Bytes in flight per stream. `None`: 16 MiB.
    pub initial_stream_window: Option<u32>,
    /// Bytes in flight per connection. `None`: 24 MiB.
    pub initial_connection_window: Option<u32>,
    /// Extended CONNECT (RFC 8441), which websockets over HTTP/2 need.
    pub allow_connect: bool,
}

/// Bounds in size of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HttpLimits {
    /// Header block, in KiB. `None`: 60.
    pub headers_kib: Option<u32>,
    /// Header lines. `None`: 100.
    pub header_count: Option<u32>,
}

/// Bounds in time; `Some(ZERO)` disables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HttpTimeouts {
    /// No byte on a stream. `None`: 5 min.
    pub stream_idle: Option<Duration>,
    /// A whole request must have arrived. `None`: never.
    pub request: Option<Duration>,
    /// A request's headers must have arrived. `None`: never.
    pub request_headers: Option<Duration>,
    /// No stream on a connection. `None`: 1 h.
    pub idle: Option<Duration>,
    /// A connection's life. `None`: unbounded.
    pub max_connection_duration: Option<Duration>,
    /// From the drain notice to the close. `None`: 5 s.
    pub drain: Option<Duration>,
    /// From our last byte to the close. `None`: 1 s.
    pub delayed_close: Option<Duration>,
}

impl TcpProxy {
    /// The first cluster, whose name also names the filter's counters in Istio.
    pub fn first_cluster(&self) -> &ClusterName {
        self.clusters.first()
    }
}
