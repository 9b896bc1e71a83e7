//! TLS to a control plane: our certificate shown, its name always checked.

use std::{io, sync::Arc, time::SystemTime};

use certs::{Names, ServerVerifier, Versions, Workload, client_config, tls_error, tls_failure_reason};
use mesh::tls::SanMatcher;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Begins TLS to one control plane.
pub(crate) struct ControlTls {
    connector: TlsConnector,
    verifier: Arc<ServerVerifier>,
    host: ServerName<'static>,
}

impl ControlTls {
    /// Shows `workload` and accepts a member of its mesh that has one of these names. `host` is what is asked for.
    ///
    /// # Errors
    /// In words for an operator.
    pub(crate) fn new(workload: Workload, names: Vec<SanMatcher>, host: &str) -> Result<Self, String> {
        let requested = ServerName::try_from(host.to_owned());
        let requested = requested.map_err(|_| format!("{host:?} is neither a host name nor an address"))?;
        let verifier = Arc::new(ServerVerifier::new(workload.trust, Names::Listed(names)));
        let config = client_config(Some(workload.identity), Arc::clone(&verifier), Versions::ALL);
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            verifier,
            host: requested,
        })
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// It failed, or the peer is somebody else; in words for an operator.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let stream = self
            .connector
            .connect(self.host.clone(), stream)
            .await
            .map_err(explain)?;
        let peer = self.verifier.peer(stream.get_ref().1, &self.host, SystemTime::now());
        peer.map_err(|error| io::Error::other(tls_failure_reason(&error)))?;
        Ok(stream)
    }
}

fn explain(error: io::Error) -> io::Error {
    match tls_error(&error) {
        Some(cause) => io::Error::other(tls_failure_reason(cause)),
        None => error,
    }
}
