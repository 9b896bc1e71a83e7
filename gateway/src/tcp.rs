//! Opaque TCP: SNI passthrough and whatever else is relayed byte by byte.

use mesh::listener::TcpProxy;

/// A filter chain that relays bytes.
pub(crate) struct TcpChain {
    /// Its settings.
    pub(crate) settings: TcpProxy,
}
