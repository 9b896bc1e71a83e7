//! Makes a connection to a host: dial, then TLS if the cluster says so, within one deadline.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::{balance::Host, cluster::Cluster};
use crate::{error::ConnectError, limits, network::Network, stream::Upstream};

/// A connection to an upstream host.
pub(crate) struct Connected {
    /// Its bytes.
    pub(crate) io: Upstream,
    /// Our address on it: `%UPSTREAM_LOCAL_ADDRESS%`.
    pub(crate) local: SocketAddr,
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
    cluster: &Cluster,
    host: &Host,
    purpose: &Purpose,
) -> Result<Connected, ConnectError> {
    let dialled = network.dial(host.address).await.map_err(|error| refused(&error))?;
    let io = match cluster.tls() {
        None => Upstream::Plain(dialled.stream),
        Some(tls) => {
            let (name, alpn) = (purpose.host.as_ref(), purpose.alpn.as_deref());
            let connecting = tls.connect(dialled.stream, host.address.ip(), name, alpn);
            Upstream::Tls(Box::new(Box::pin(connecting).await?))
        }
    };
    Ok(Connected {
        io,
        local: dialled.local,
    })
}

/// The operating system's words without its number, as Envoy puts it.
fn refused(error: &std::io::Error) -> ConnectError {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    ConnectError::Io(format!("delayed connect error: {words}"))
}
