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
