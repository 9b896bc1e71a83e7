//! Every limit and timeout of the data plane that configuration does not set, and the default of each that it may.
//!
//! A number that bounds what a peer, the configuration or the network can make us hold or wait for is written here, with its
//! reason, and nowhere else.

use std::time::Duration;

/// Bytes of a connection looked at before a filter chain is chosen. Envoy's `tls_inspector` stops at 16 KiB; a
/// `ClientHello` with post-quantum key shares has about 2 KiB.
pub(crate) const INSPECT_BYTES: usize = 16 * 1024;
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
