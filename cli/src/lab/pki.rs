//! TLS of the lab's own servers and applications: ordinary web TLS, made of `certs`' authorities and nothing of the mesh's.

use std::{sync::Arc, time::SystemTime};

use anyhow::Context as _;
use certs::{CaRequest, CertificateAuthority, Identity, LeafRequest, Roots};
use mesh::host::Host;
use rustls::{ClientConfig, RootCertStore, ServerConfig, sign::SingleCertAndKey};

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// An authority that the outside trusts, and the mesh does not know.
pub struct PublicCa(CertificateAuthority);

impl PublicCa {
    /// A new authority with a key of its own.
    ///
    /// # Errors
    /// The key or the certificate cannot be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let root = CertificateAuthority::root(&CaRequest::named(name), SystemTime::now());
        root.map(Self)
            .with_context(|| format!("cannot make the public CA {name:?}"))
    }

    /// How the web site `host` speaks TLS.
    ///
    /// # Errors
    /// `host` is no host name, or its certificate cannot be made.
    pub fn site(&self, host: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let request = LeafRequest::server(&Host::parse(host)?);
        let identity = self.0.issue(&request, SystemTime::now());
        server(&identity.with_context(|| format!("cannot certify {host}"))?)
    }

    /// The authority, to issue anything else.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.0
    }

    /// How an application that trusts this authority speaks TLS.
    ///
    /// # Errors
    /// The TLS library takes no such configuration.
    pub fn trusting(&self) -> anyhow::Result<Arc<ClientConfig>> {
        client(self.0.roots())
    }
}

/// A server that shows `identity` to everybody, speaking HTTP/2 or HTTP/1.1.
///
/// # Errors
/// The TLS library takes no such configuration.
pub fn server(identity: &Identity) -> anyhow::Result<Arc<ServerConfig>> {
    let key = SingleCertAndKey::from(identity.certified_key().clone());
    let mut config = ServerConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts `roots`, shows nothing, and speaks HTTP/1.1.
fn client(roots: &Roots) -> anyhow::Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in roots.certificates() {
        store.add(certificate.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}
