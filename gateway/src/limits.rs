//! Every limit and timeout of the data plane that configuration does not set, and the default of each that it may.
//!
//! A number that bounds what a peer, the configuration or the network can make us hold or wait for is written here, with its
//! reason. What bounds a single structure and means nothing outside it, such as an access log's lane, stands beside that.

use std::time::Duration;

/// Bytes of a connection looked at before a filter chain is chosen. Envoy's `tls_inspector` stops at 16 KiB; a
/// `ClientHello` with post-quantum key shares has about 2 KiB.
pub(crate) const INSPECT_BYTES: usize = 16 * 1024;
/// Bytes looked at by the first read: a `ClientHello` as browsers send it, in one piece.
pub(crate) const INSPECT_AT_ONCE: usize = 4 * 1024;
/// Default of a listener's `listener_filters_timeout`.
pub(crate) const INSPECT: Duration = Duration::from_secs(15);
/// Default of a chain's `transport_socket_connect_timeout`. Envoy has none; a handshake that never ends would hold a
/// connection for ever, so Istio's gateway value is ours.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(15);
/// Connections one listener serves on one worker. Bounds memory when a peer opens connections without end; beyond it new
/// ones are closed at once.
pub(crate) const CONNECTIONS_PER_LISTENER: usize = 20_000;
/// Wait after `accept` failed for want of file descriptors or memory, so that the failure is not retried in a busy loop.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Default of a cluster's `connect_timeout`: TCP connect and TLS handshake together.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Default of `tcp_proxy.idle_timeout`.
pub(crate) const TCP_IDLE: Duration = Duration::from_secs(60 * 60);
/// Bytes read at once from either side of a relayed connection; one buffer each way while there is something in it.
pub(crate) const RELAY_BUFFER: usize = 16 * 1024;
/// Bytes a pipe takes through which a relayed connection's bytes stay in the kernel; a kernel that gives less is taken at its word.
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;
/// Pipes of one worker that have something in them. Connections beyond them are copied.
pub(crate) const PIPES: usize = 64;
/// Empty pipes a worker keeps for the next who needs one.
pub(crate) const IDLE_PIPES: usize = 8;
/// Bytes read ahead of a TLS session while more comes than it asks for.
pub(crate) const TLS_READ_AHEAD: usize = 64 * 1024;
/// Buffers for that which a worker keeps for the next who needs one.
pub(crate) const TLS_IDLE_BUFFERS: usize = 8;
/// Bytes of a TLS session, encrypted, that wait to be written.
pub(crate) const TLS_BUFFER: usize = 128 * 1024;
/// Default of `max_connections`, `max_pending_requests` and `max_requests` of a cluster.
pub(crate) const BREAKER: u32 = 1024;
/// Default of `max_retries` of a cluster.
pub(crate) const BREAKER_RETRIES: u32 = 3;
/// Name lookups under way at once.
pub(crate) const DNS_LOOKUPS: usize = 64;
/// Bound on one query to one server; a lookup asks [`DNS_RETRIES`] times more.
pub(crate) const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// Repetitions of a query that got no answer.
pub(crate) const DNS_RETRIES: usize = 2;
/// Addresses taken from one answer.
pub(crate) const DNS_ADDRESSES: usize = 256;
/// Default of a cluster's `dns_refresh_rate`.
pub(crate) const DNS_REFRESH: Duration = Duration::from_secs(5);
/// A name is never looked up more often than this.
pub(crate) const DNS_MIN_REFRESH: Duration = Duration::from_secs(1);
/// Upper bound of what is added to each pause, so that clusters do not look up in step. Istio's `dns_jitter`.
pub(crate) const DNS_JITTER: Duration = Duration::from_millis(100);
/// How long a new configuration waits for the first lookups of its new clusters. A name that takes longer has no hosts
/// until it is resolved.
pub(crate) const WARMING: Duration = Duration::from_secs(5);
/// How long a connection lives on whose filter chain is no longer configured. Istio's `drainDuration`.
pub(crate) const DRAIN: Duration = Duration::from_secs(45);
/// Default of `max_request_headers_kb`, and the bound on an upstream's response headers.
pub(crate) const HEADER_BYTES: u32 = 60 * 1024;
/// Default of `max_headers_count`, and the bound on an upstream's response headers.
pub(crate) const HEADERS: usize = 100;
/// Bytes of an HTTP/1 connection that are read ahead or wait to be written, besides a head.
pub(crate) const HTTP1_BUFFER: usize = 64 * 1024;
/// Bytes of chunk extensions of one body. hyper gives up at 16 KiB.
pub(crate) const CHUNK_EXTENSIONS: usize = 16 * 1024;
/// Bytes of the trailers of one body, line ends not counted. hyper gives up at 16 KiB with them.
pub(crate) const TRAILERS: usize = 4 * 1024;
/// Default of a buffer limit: bytes of a request body kept for another attempt, bytes behind a request that wants to leave
/// HTTP.
pub(crate) const BUFFER: usize = 1024 * 1024;
/// Default of a route's `timeout`.
pub(crate) const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Default of `stream_idle_timeout`.
pub(crate) const STREAM_IDLE: Duration = Duration::from_secs(5 * 60);
/// Default of a connection manager's `idle_timeout`.
pub(crate) const HTTP_IDLE: Duration = Duration::from_secs(60 * 60);
/// Default of `delayed_close_timeout`.
pub(crate) const DELAYED_CLOSE: Duration = Duration::from_secs(1);
/// Default of `max_concurrent_streams`.
pub(crate) const HTTP2_STREAMS: u32 = 1024;
/// Default of `initial_stream_window_size`, on both sides.
pub(crate) const HTTP2_STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// Default of `initial_connection_window_size`, on both sides.
pub(crate) const HTTP2_CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;
/// Bytes of one HTTP/2 stream that wait to be written.
pub(crate) const HTTP2_SEND_BUFFER: usize = 1024 * 1024;
/// Streams a client may reset before we have looked at them (CVE-2023-44487); beyond it the connection is closed.
pub(crate) const HTTP2_PENDING_RESETS: usize = 20;
/// Streams we reset for a peer's mistakes before the connection is closed.
pub(crate) const HTTP2_LOCAL_RESETS: usize = 1024;
/// Streams to an upstream before it has said how many it takes.
pub(crate) const HTTP2_FIRST_STREAMS: usize = 100;
/// Idle HTTP/1 connections kept per upstream host and worker; those beyond it are closed.
pub(crate) const IDLE_PER_HOST: usize = 1024;
/// An upstream connection without requests is closed after so long. Envoy's default.
pub(crate) const UPSTREAM_IDLE: Duration = Duration::from_secs(60 * 60);
/// How often pools are looked through for connections that nobody will use again.
pub(crate) const POOL_SWEEP: Duration = Duration::from_secs(1);

/// The bound on a request's header block, in bytes.
pub(crate) fn header_bytes(settings: &mesh::listener::Http) -> usize {
    let configured = settings
        .limits
        .headers_kib
        .map_or(HEADER_BYTES, |kib| kib.saturating_mul(1024));
    usize::try_from(configured).unwrap_or(usize::MAX)
}

/// The bound on a request's header lines.
pub(crate) fn header_count(settings: &mesh::listener::Http) -> usize {
    settings
        .limits
        .header_count
        .map_or(HEADERS, |count| usize::try_from(count).unwrap_or(usize::MAX))
}
