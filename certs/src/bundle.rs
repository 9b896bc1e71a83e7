//! Whom we trust: roots, alone or one set per trust domain.
//!
//! Invariants: a set of roots is never empty; a bundle never lends the roots of one trust domain to another.

use std::{collections::BTreeMap, fmt, sync::Arc};

use mesh::id::TrustDomain;
use rustls::{
    RootCertStore,
    pki_types::CertificateDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    crypto,
    pem::{certificate_pem, certificates_from_pem},
};

/// A non-empty set of root certificates.
#[derive(Clone)]
pub struct Roots {
    certificates: Arc<[CertificateDer<'static>]>,
    anchors: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// The roots of each trust domain of the mesh. A domain that is not listed has no members here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    domains: BTreeMap<TrustDomain, Roots>,
}

/// Whom a peer's certificate must lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Members of the mesh: a peer must hold an SVID that leads to the roots of its own trust domain.
    Mesh(TrustBundle),
    /// Anybody these roots vouch for, such as the public web or one partner's authority.
    Roots(Roots),
}

/// Why a set of roots cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// Nothing to trust; an empty set would refuse every peer.
    #[error("there is no root certificate, expected at least one in PEM")]
    Empty,
    /// More than a sane bundle holds.
    #[error("there are {0} root certificates, at most {MAX_ROOTS} are accepted")]
    TooMany(usize),
    /// Damaged PEM text.
    #[error("the root certificates are not readable PEM: {0}")]
    Pem(String),
    /// One certificate cannot be a root.
    #[error("root certificate {number} cannot be used: {reason}")]
    Certificate {
        /// Its place in the file, from one.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no usable root certificates.
    #[error("no root certificate of this system could be read ({0}): install ca-certificates, or name a file")]
    System(String),
}

/// Most roots in one set. The public web's has about 150.
pub const MAX_ROOTS: usize = 1000;

impl Roots {
    /// Takes certificates; each one must be usable.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, RootsError> {
        if certificates.len() > MAX_ROOTS {
            return Err(RootsError::TooMany(certificates.len()));
        }
        let mut anchors = RootCertStore::empty();
        for (at, der) in certificates.iter().enumerate() {
            let unusable = |error: rustls::Error| RootsError::Certificate {
                number: at + 1,
                reason: error.to_string(),
            };
            anchors.add(der.clone()).map_err(unusable)?;
        }
        Self::assemble(certificates, anchors)
    }

    /// Reads every certificate of a PEM text.
    pub fn from_pem(text: &[u8]) -> Result<Self, RootsError> {
        Self::new(certificates_from_pem(text).map_err(RootsError::Pem)?)
    }

    /// The operating system's. `SSL_CERT_FILE` and `SSL_CERT_DIR` take precedence, as in OpenSSL. Unlike in a file that an
    /// operator wrote, single certificates that cannot be read are left out: the store is not theirs to repair.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        Self::usable(
            found.certs,
            &found.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    }

    /// The certificates, in order.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The certificates as PEM.
    pub fn pem(&self) -> String {
        self.certificates.iter().map(certificate_pem).collect()
    }

    /// For verifying servers.
    pub(crate) fn anchors(&self) -> &RootCertStore {
        &self.anchors
    }

    /// For verifying clients: the chain and its purpose, no names.
    pub(crate) fn clients(&self) -> &dyn ClientCertVerifier {
        &*self.clients
    }

    fn usable(found: Vec<CertificateDer<'static>>, complaints: &[String]) -> Result<Self, RootsError> {
        let mut anchors = RootCertStore::empty();
        let usable: Vec<_> = found
            .into_iter()
            .filter(|der| anchors.add(der.clone()).is_ok())
            .collect();
        if usable.is_empty() {
            return Err(RootsError::System(complaints.join("; ")));
        }
        Self::assemble(usable, anchors)
    }

    fn assemble(certificates: Vec<CertificateDer<'static>>, anchors: RootCertStore) -> Result<Self, RootsError> {
        let anchors = Arc::new(anchors);
        let clients = WebPkiClientVerifier::builder_with_provider(anchors.clone(), crypto::provider()).build();
        // Without revocation lists the only thing that can be missing is a root.
        let clients = clients.map_err(|_| RootsError::Empty)?;
        Ok(Self {
            certificates: certificates.into(),
            anchors,
            clients,
        })
    }
}

impl TrustBundle {
    /// A bundle of one trust domain.
    pub fn new(trust_domain: TrustDomain, roots: Roots) -> Self {
        Self {
            domains: BTreeMap::from([(trust_domain, roots)]),
        }
    }

    /// Adds a trust domain, or replaces its roots.
    #[must_use]
    pub fn with(mut self, trust_domain: TrustDomain, roots: Roots) -> Self {
        self.domains.insert(trust_domain, roots);
        self
    }

    /// The roots of one trust domain, by its bare name.
    pub fn roots(&self, trust_domain: &str) -> Option<&Roots> {
        self.domains
            .iter()
            .find(|(domain, _)| domain.as_str() == trust_domain)
            .map(|(_, roots)| roots)
    }

    /// The trust domains, sorted.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Roots {}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({} certificates)", self.certificates.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{CaRequest, CertificateAuthority};

    fn root(name: &str) -> CertificateAuthority {
        CertificateAuthority::root(&CaRequest::named(name), SystemTime::now()).unwrap()
    }

    #[test]
    fn every_root_of_a_text_counts() {
        let text = format!("{}comment\n{}", root("a").root_pem(), root("b").root_pem());
        let roots = Roots::from_pem(text.as_bytes()).unwrap();
        assert_eq!((roots.certificates().len(), roots.anchors().len()), (2, 2));
        assert_eq!(Roots::from_pem(roots.pem().as_bytes()).unwrap(), roots);
    }

    #[test]
    fn a_text_without_usable_roots_is_refused() {
        let pem = root("a").root_pem();
        assert_eq!(Roots::from_pem(b""), Err(RootsError::Empty));
        assert!(matches!(
            Roots::from_pem(&pem.as_bytes()[..pem.len() / 2]),
            Err(RootsError::Pem(_))
        ));
        let der = root("a").certificate().der.clone();
        let cut = CertificateDer::from(der[..der.len() / 2].to_vec());
        assert!(matches!(
            Roots::new(vec![der.clone(), cut]),
            Err(RootsError::Certificate { number: 2, .. })
        ));
        assert_eq!(
            Roots::new(vec![der; MAX_ROOTS + 1]),
            Err(RootsError::TooMany(MAX_ROOTS + 1))
        );
    }

    #[test]
    fn of_the_systems_roots_the_usable_ones_count() {
        let good = root("a").certificate().der.clone();
        let broken = CertificateDer::from(b"broken".to_vec());
        let roots = Roots::usable(vec![broken.clone(), good.clone()], &[]).unwrap();
        assert_eq!(roots.certificates(), [good]);
        let none = Roots::usable(vec![broken], &["unreadable".to_owned()]);
        assert_eq!(none, Err(RootsError::System("unreadable".to_owned())));
    }

    #[test]
    fn a_bundle_keeps_domains_apart() {
        let domain = |text| TrustDomain::parse(text).unwrap();
        let (a, b) = (root("a").roots().clone(), root("b").roots().clone());
        let bundle = TrustBundle::new(domain("a.test"), a.clone()).with(domain("b.test"), b.clone());
        assert_eq!(
            (bundle.roots("a.test"), bundle.roots("b.test"), bundle.roots("c.test")),
            (Some(&a), Some(&b), None)
        );
        assert_eq!(
            bundle.trust_domains().map(TrustDomain::as_str).collect::<Vec<_>>(),
            ["a.test", "b.test"]
        );
    }
}
