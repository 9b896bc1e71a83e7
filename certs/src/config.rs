//! TLS configurations, assembled in one place so that provider, resumption and verification cannot be forgotten.
//!
//! A configuration is made once and lives on: identities and roots are read from their cells at each handshake. ALPN and
//! whether a server name is sent are the caller's to set.

use std::sync::Arc;

use mesh::tls::TlsVersion;
use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};

use crate::{
    ClientVerifier, Identity, Live, ServerVerifier, crypto,
    sessions::{ClientSessions, ServerTickets},
};

/// The protocol versions of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Lowest; `None` is TLS 1.2.
    pub min: Option<TlsVersion>,
    /// Highest; `None` is TLS 1.3.
    pub max: Option<TlsVersion>,
}

impl Versions {
    /// TLS 1.2 and 1.3.
    pub const ALL: Self = Self { min: None, max: None };
    /// TLS 1.3 alone, for connections whose both ends are ours.
    pub const TLS13: Self = Self {
        min: Some(TlsVersion::V1_3),
        max: None,
    };

    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        let (min, max) = (
            self.min.unwrap_or(TlsVersion::V1_2),
            self.max.unwrap_or(TlsVersion::V1_3),
        );
        let known = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
        known
            .into_iter()
            .filter(|(version, _)| (min..=max).contains(version))
            .map(|(_, supported)| supported)
            .collect()
    }
}

/// Tickets for each connection of TLS 1.3. Each connection that resumes brings the next one; a client that opens several at once
/// resumes one of them.
const TICKETS: usize = 1;

/// A server that shows `identity` and, if `clients` is given, asks for the client's certificate. Fails if `versions` holds none.
///
/// To be shared by everything that serves one listener: resumption works within one configuration only.
pub fn server_config(
    identity: Arc<Live<Identity>>,
    clients: Option<Arc<ClientVerifier>>,
    versions: Versions,
) -> Result<ServerConfig, rustls::Error> {
    let tickets = ServerTickets::new(
        identity.clone(),
        clients.as_ref().map(|clients| clients.trust().clone()),
    );
    let builder =
        ServerConfig::builder_with_provider(crypto::provider()).with_protocol_versions(&versions.supported())?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(identity);
    config.ticketer = Arc::new(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

/// A client that checks servers with `servers` and, if asked, shows `identity`. Fails if `versions` holds none.
pub fn client_config(
    identity: Option<Arc<Live<Identity>>>,
    servers: Arc<ServerVerifier>,
    versions: Versions,
) -> Result<ClientConfig, rustls::Error> {
    let sessions = ClientSessions::new(identity.clone(), servers.trust().cloned());
    let builder = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&versions.supported())?
        .dangerous()
        .with_custom_certificate_verifier(servers);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::store(Arc::new(sessions));
    Ok(config)
}
