//! What is known about an accepted connection: the facts that logs, authorization and the HTTP layer share, and its byte
//! stream.
//!
//! Invariant: a [`Connection`] never changes once it is served. Nothing in it came from the peer unchecked, except the SNI,
//! which is what the client *said*.

use std::{borrow::Cow, net::IpAddr, net::SocketAddr, sync::Arc};

use certs::Certificate;
use mesh::{ListenerName, authz::Facts, host::Sni};
use rustls::pki_types::CertificateDer;

use crate::{clock::Moment, snapshot::ChainId};

/// The facts of one downstream connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// `%CONNECTION_ID%`; unique in the process.
    pub(crate) id: u64,
    /// When it was accepted.
    pub(crate) started: Moment,
    /// The listener that serves it; not the one that accepted it, if it was handed over.
    pub(crate) listener: ListenerName,
    /// The filter chain that serves it. Look the chain up in a snapshot by this, to serve under current configuration.
    pub(crate) chain: ChainId,
    /// `%FILTER_CHAIN_NAME%`.
    pub(crate) chain_name: Option<Arc<str>>,
    /// Where the peer went: the original destination if the connection was redirected and the listener honours that, else
    /// our address. `%DOWNSTREAM_LOCAL_ADDRESS%`, and what policies call the destination.
    pub(crate) local: SocketAddr,
    /// The peer.
    pub(crate) remote: SocketAddr,
    /// Where a redirected peer wanted to go, if the listener honours that.
    pub(crate) original_destination: Option<SocketAddr>,
    /// The server name of the `ClientHello`, if one was looked at. `%REQUESTED_SERVER_NAME%`.
    pub(crate) sni: Option<Sni>,
    /// The protocol that TLS negotiated, or that was found in plaintext (`http/1.1`, `h2c`).
    pub(crate) alpn: Option<Arc<str>>,
    /// Facts of the TLS session that ends here; `None` for plaintext and for TLS that passes through.
    pub(crate) tls: Option<TlsFacts>,
}

/// Facts of a TLS session that ends at the proxy.
#[derive(Debug, Clone)]
pub(crate) struct TlsFacts {
    /// `TLSv1.3`, as Envoy prints it.
    pub(crate) version: &'static str,
    /// The cipher suite by OpenSSL's name, as Envoy prints it.
    pub(crate) cipher: &'static str,
    /// The peer's certificate. Verified: nobody gets this far with one that is not.
    pub(crate) peer: Option<Peer>,
    /// What authorization may call the peer, as [`Facts::peer_names`] says.
    pub(crate) peer_names: Vec<String>,
    /// What our own certificate says.
    pub(crate) local: Option<Arc<Certificate>>,
}

/// The names of a peer that showed this certificate, or none.
pub(crate) fn peer_names(certificate: Option<&Certificate>) -> Vec<String> {
    let Some(certificate) = certificate else {
        return vec![String::new()];
    };
    let sans = certificate.uri_sans.iter().chain(&certificate.dns_sans);
    sans.chain([&certificate.subject]).cloned().collect()
}

/// A verified peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// What its certificate says.
    pub(crate) certificate: Certificate,
    /// The whole chain it sent, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Connection {
    /// The peer's verified certificate.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.tls.as_ref()?.peer.as_ref()
    }
}

impl Facts for Connection {
    fn peer_names(&self) -> Option<&[String]> {
        self.tls.as_ref().map(|tls| tls.peer_names.as_slice())
    }

    fn direct_remote_ip(&self) -> IpAddr {
        self.remote.ip()
    }

    fn remote_ip(&self) -> IpAddr {
        self.remote.ip()
    }

    fn destination(&self) -> (IpAddr, u16) {
        (self.local.ip(), self.local.port())
    }

    fn sni(&self) -> &str {
        self.sni.as_ref().map_or("", Sni::as_str)
    }

    fn is_http(&self) -> bool {
        false
    }

    fn header_lines(&self, _: &str) -> impl Iterator<Item = Cow<'_, str>> {
        std::iter::empty()
    }

    fn path(&self) -> &str {
        ""
    }
}
