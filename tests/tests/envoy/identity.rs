//! A mesh's certificates, in files.

use std::{path::Path, time::SystemTime};

use certs::{CaRequest, CertificateAuthority, LeafRequest};
use mesh::{
    id::{SpiffeId, TrustDomain},
    xds::render::Files,
};

/// The control plane's identity.
pub(crate) const ISTIOD: &str = "spiffe://cluster.local/ns/istio-system/sa/istiod";

/// A mesh's authority.
pub(crate) struct Mesh(CertificateAuthority);

impl Mesh {
    pub(crate) fn new() -> Self {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        Self(CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap())
    }

    /// Writes an identity's files.
    pub(crate) fn issue(&self, id: &str, directory: &Path) {
        let request = LeafRequest::svid(&SpiffeId::parse(id).unwrap());
        let identity = self.0.issue(&request, SystemTime::now()).unwrap();
        identity.save(directory, self.0.roots()).unwrap();
    }
}

/// The files that [`Mesh::issue`] writes. Sites outside are verified against the mesh's roots: none is called.
pub(crate) fn files(directory: &Path) -> Files {
    Files {
        chain: directory.join("cert-chain.pem"),
        key: directory.join("key.pem"),
        roots: directory.join("root-cert.pem"),
        system_roots: directory.join("root-cert.pem"),
    }
}
