//! Ends TLS from a client and says who the client is.
//!
//! Invariant: a connection that gets past [`Acceptor::accept`] has a verified peer if the chain requires one, also when the
//! session was resumed.

use std::{io, sync::Arc, time::SystemTime};

use certs::{ClientVerifier, Identity, Live, Versions};
use mesh::{host::Sni, tls::DownstreamTls};
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection, server::ClientHello};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{protocol_names, secrets::Secrets, wire::Wire};
use crate::{
    connection::{self, Peer, TlsFacts},
    limits,
    sniff::Replay,
};

/// Ends TLS for one filter chain. Sessions are resumed within it.
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    /// For clients that offer none of our protocols.
    without_alpn: Arc<ServerConfig>,
    clients: Option<Arc<ClientVerifier>>,
    identity: Arc<Live<Identity>>,
}

/// A finished handshake.
pub(crate) struct Accepted {
    /// The stream inside.
    pub(crate) stream: TlsStream<Wire<Replay<TcpStream>>>,
    /// What is known of the session.
    pub(crate) facts: TlsFacts,
    /// The protocol that was negotiated.
    pub(crate) alpn: Option<Arc<str>>,
    /// The server name the client asked for.
    pub(crate) server_name: Option<Sni>,
}

impl Acceptor {
    /// Prepares TLS for a filter chain.
    ///
    /// # Errors
    /// In words for an operator.
    pub(crate) fn build(tls: &DownstreamTls, secrets: &Secrets) -> Result<Self, String> {
        let identity = secrets.certificate(&tls.certificate)?;
        let clients = clients(tls, secrets)?.map(Arc::new);
        let versions = Versions {
            min: tls.min_version,
            max: tls.max_version,
        };
        let config = certs::server_config(identity.clone(), clients.clone(), versions);
        let mut config: ServerConfig = config.map_err(|error| format!("tls: {error}"))?;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = protocol_names(&tls.alpn);
        Ok(Self {
            config: Arc::new(config),
            without_alpn,
            clients,
            identity,
        })
    }

    /// Does the handshake. The caller sets the deadline.
    ///
    /// # Errors
    /// The client went away, broke the protocol, or is nobody we accept.
    pub(crate) async fn accept(&self, io: Replay<TcpStream>) -> io::Result<Accepted> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Wire::new(io)).await?;
        let config = self.config_for(&start.client_hello());
        let mut stream = start.into_stream(config).await?;
        stream.get_mut().1.set_buffer_limit(Some(limits::TLS_BUFFER));
        let session = stream.get_ref().1;
        let facts = self.facts(session).map_err(io::Error::other)?;
        let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into());
        let server_name = session.server_name().and_then(|name| Sni::parse(name).ok());
        Ok(Accepted {
            stream,
            facts,
            alpn,
            server_name,
        })
    }

    /// As in Envoy, a client without a protocol in common is not refused but served without any: the sidecars of a mesh offer
    /// protocols of their own. RFC 7301, 3.2, would have the TLS library refuse it.
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let ours = &self.config.alpn_protocols;
        let known = |name: &[u8]| ours.iter().any(|our| our == name);
        if hello.alpn().is_none_or(|mut offered| offered.any(known)) {
            self.config.clone()
        } else {
            self.without_alpn.clone()
        }
    }

    fn facts(&self, session: &ServerConnection) -> Result<TlsFacts, rustls::Error> {
        let peer = self
            .clients
            .as_ref()
            .map(|clients| clients.peer(session, SystemTime::now()))
            .transpose()?
            .flatten();
        let chain = || session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        Ok(TlsFacts {
            version: version_name(session.protocol_version()),
            cipher: cipher_name(session.negotiated_cipher_suite().map(|suite| suite.suite())),
            peer_names: connection::peer_names(peer.as_ref().map(|peer| &peer.certificate)),
            peer: peer.map(|peer| Peer {
                certificate: peer.certificate,
                chain: chain(),
            }),
            local: Some(Arc::new(self.identity.load().leaf().clone())),
        })
    }
}

fn clients(tls: &DownstreamTls, secrets: &Secrets) -> Result<Option<ClientVerifier>, String> {
    match (&tls.validation, tls.require_client_certificate) {
        (Some(validation), required) => {
            let verifier = ClientVerifier::new(secrets.trust(&validation.trust)?, validation.sans.clone());
            Ok(Some(if required { verifier } else { verifier.optional() }))
        }
        (None, false) => Ok(None),
        (None, true) => Err("tls requires a client certificate but names no roots to check it against".to_owned()),
    }
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "-",
    }
}

/// OpenSSL's names of the suites the provider has.
fn cipher_name(suite: Option<CipherSuite>) -> &'static str {
    match suite {
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => "ECDHE-RSA-AES256-GCM-SHA384",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => "ECDHE-RSA-AES128-GCM-SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_and_version_has_a_name() {
        for suite in &certs::provider().cipher_suites {
            assert_ne!(cipher_name(Some(suite.suite())), "-", "{:?}", suite.suite());
            assert_ne!(version_name(Some(suite.version().version)), "-");
        }
    }
}
