//! Authorities of the lab, and the TLS of what is not a proxy: web sites and applications.

use std::{sync::Arc, time::SystemTime};

use anyhow::Context as _;
use certs::{
    CaRequest, CertificateAuthority, Identity, LeafRequest, Live, Names, ServerVerifier, Trust, Versions, Workload,
};
use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
};
use rustls::{ClientConfig, ServerConfig};

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// An authority that the outside trusts, and the mesh does not know.
pub struct PublicCa(CertificateAuthority);

/// The authority of a mesh.
pub struct MeshCa {
    trust_domain: TrustDomain,
    authority: CertificateAuthority,
}

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

    /// A certificate for the web site `host`.
    ///
    /// # Errors
    /// `host` is no host name, or its certificate cannot be made.
    pub fn certify(&self, host: &str) -> anyhow::Result<Identity> {
        let request = LeafRequest::server(&Host::parse(host)?);
        let identity = self.0.issue(&request, SystemTime::now());
        identity.with_context(|| format!("cannot certify {host}"))
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
        let trust = Trust::Roots(self.0.roots().clone());
        let verifier = ServerVerifier::new(Arc::new(Live::new(trust)), Names::Requested);
        speaking_http(certs::client_config(None, Arc::new(verifier), Versions::ALL)?)
    }
}

impl MeshCa {
    /// The authority of a new mesh.
    ///
    /// # Errors
    /// `trust_domain` is none, or the key or the certificate cannot be made.
    pub fn new(trust_domain: &str) -> anyhow::Result<Self> {
        let trust_domain = TrustDomain::parse(trust_domain)?;
        let authority = CertificateAuthority::root(&CaRequest::mesh(&trust_domain), SystemTime::now())?;
        Ok(Self {
            trust_domain,
            authority,
        })
    }

    /// The authority itself.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// Whom the members of the mesh trust: each other.
    pub fn trust(&self) -> Trust {
        Trust::Mesh(certs::TrustBundle::new(
            self.trust_domain.clone(),
            self.authority.roots().clone(),
        ))
    }

    /// The credentials of a service account.
    ///
    /// # Errors
    /// The names make no identity, or the certificate cannot be made.
    pub fn workload(&self, namespace: &str, service_account: &str) -> anyhow::Result<Workload> {
        let id = SpiffeId::new(&self.trust_domain, namespace, service_account)?;
        let now = SystemTime::now();
        let identity = self.authority.issue(&LeafRequest::svid(&id), now)?;
        Ok(Workload::new(identity, self.trust(), now)?)
    }

    /// How a program that leaves its sidecar out speaks to a member of this mesh, with somebody's certificate or none.
    ///
    /// # Errors
    /// The TLS library takes no such configuration.
    pub fn calling(&self, caller: Option<&Workload>) -> anyhow::Result<Arc<ClientConfig>> {
        let verifier = ServerVerifier::new(Arc::new(Live::new(self.trust())), Names::Listed(Vec::new()));
        let identity = caller.map(|caller| caller.identity.clone());
        speaking_http(certs::client_config(identity, Arc::new(verifier), Versions::ALL)?)
    }
}

/// A web server that shows a certificate to everybody, and speaks HTTP/2 or HTTP/1.1.
pub(super) fn web_server(identity: Arc<Live<Identity>>) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = certs::server_config(identity, None, Versions::ALL)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

fn speaking_http(mut config: ClientConfig) -> anyhow::Result<Arc<ClientConfig>> {
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}
