//! Makes a connection to a host: dial, then TLS if the cluster says so, within one deadline.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{balance::Host, cluster::Cluster};
use crate::{error::ConnectError, limits, network::Network, stream::Upstream};

/// A connection to an upstream host.
pub(crate) struct Connected {
    /// Its bytes.
    pub(crate) io: Upstream,
    /// Our address on it: `%UPSTREAM_LOCAL_ADDRESS%`.
    pub(crate) local: SocketAddr,
    /// The host's.
    pub(crate) remote: SocketAddr,
    /// The protocol TLS negotiated.
    pub(crate) alpn: Option<Arc<str>>,
}

/// What a connection is made for, where that decides how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purpose {
    /// The request's host without port: the server name of a cluster with `auto_sni`.
    pub(crate) host: Option<mesh::host::Host>,
    /// Protocols to offer instead of the cluster's, best first.
    pub(crate) alpn: Option<Vec<String>>,
}

/// Connects to `host` within the cluster's connect timeout.
///
/// # Errors
/// Says whether the address, the time or the TLS peer was the problem. Nothing of a request was sent.
pub(crate) async fn connect(
    network: &dyn Network,
    cluster: &Cluster,
    host: &Host,
    purpose: &Purpose,
) -> Result<Connected, ConnectError> {
    let limit = cluster.settings().connect_timeout.unwrap_or(limits::CONNECT);
    let connecting = dial(network, cluster, host, purpose);
    timeout(limit, connecting)
        .await
        .unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn dial(
    network: &dyn Network,
    _cluster: &Cluster,
    host: &Host,
    _purpose: &Purpose,
) -> Result<Connected, ConnectError> {
    let dialled = network
        .dial(host.address)
        .await
        .map_err(|error| ConnectError::Io(reason(&error)))?;
    Ok(Connected {
        io: Upstream::Plain(dialled.stream),
        local: dialled.local,
        remote: host.address,
        alpn: None,
    })
}

/// The reason as Envoy prints it: the operating system's words, without the number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    format!("delayed_connect_error:_{}", words.replace(' ', "_"))
}
