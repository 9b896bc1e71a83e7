//! A certificate chain with its private key: what we show to a peer.
//!
//! Invariants: the key belongs to the first certificate; the key never appears in `Debug` output or an error.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::{
    Certificate, CertificateError, Svid, SvidError, crypto,
    pem::{certificate_pem, certificates_from_pem, encode_pem},
};

/// A chain, leaf first, and the leaf's private key.
pub struct Identity {
    key: PrivateKeyDer<'static>,
    leaf: Certificate,
    certified: Arc<CertifiedKey>,
}

/// Why a chain and a key are not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The chain holds no certificate.
    #[error("there is no certificate in the chain, expected PEM with the leaf first")]
    NoCertificate,
    /// A chain longer than anybody needs.
    #[error("the chain has {0} certificates, at most {MAX_CHAIN} are accepted")]
    LongChain(usize),
    /// The PEM text of the chain is damaged.
    #[error("the certificate chain is not readable PEM: {0}")]
    ChainPem(String),
    /// The PEM text holds no usable key. The reason is left out on purpose: it could quote the text.
    #[error("there is no readable private key, expected unencrypted PEM in PKCS #8, SEC1 or PKCS #1 form")]
    KeyPem,
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Of an algorithm that we do not speak.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// The key is another certificate's.
    #[error("the private key does not belong to the first certificate of the chain (serial {serial})")]
    Mismatch {
        /// Serial number of the first certificate.
        serial: String,
    },
}

/// Longest chain we show. TLS libraries verify about this many; more only costs every handshake.
pub const MAX_CHAIN: usize = 10;

impl Identity {
    /// Joins a chain, leaf first, and the leaf's key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, IdentityError> {
        if chain.len() > MAX_CHAIN {
            return Err(IdentityError::LongChain(chain.len()));
        }
        let leaf = Certificate::parse(chain.first().ok_or(IdentityError::NoCertificate)?)?;
        chain
            .iter()
            .skip(1)
            .try_for_each(|der| Certificate::parse(der).map(drop))?;
        let signing = crypto::provider().key_provider.load_private_key(key.clone_key());
        let signing = signing.map_err(|error| IdentityError::Key(error.to_string()))?;
        if signing
            .public_key()
            .is_none_or(|public| public.as_ref() != leaf.public_key)
        {
            return Err(IdentityError::Mismatch { serial: leaf.serial });
        }
        Ok(Self {
            key,
            leaf,
            certified: Arc::new(CertifiedKey::new(chain, signing)),
        })
    }

    /// Reads a chain, leaf first, and a key, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = certificates_from_pem(chain).map_err(IdentityError::ChainPem)?;
        Self::new(
            chain,
            PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::KeyPem)?,
        )
    }

    /// What the first certificate says.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The first certificate as a workload's, valid at `now`.
    pub fn svid(&self, now: SystemTime) -> Result<Svid, SvidError> {
        let svid = Svid::try_from(self.leaf.clone())?;
        svid.check(now)?;
        Ok(svid)
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(certificate_pem).collect()
    }

    /// The form the TLS library uses.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The private key as PEM. The only way a key leaves this type: for its file, and for the proxy beside us.
    pub(crate) fn key_pem(&self) -> String {
        let tag = match self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        encode_pem(tag, self.key.secret_der())
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain() == other.chain() && self.key == other.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &(&self.leaf.uri_sans, &self.leaf.dns_sans))
            .field("serial", &self.leaf.serial)
            .field("chain", &self.chain().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh::id::SpiffeId;

    use super::*;
    use crate::{CaRequest, CertificateAuthority, LeafRequest};

    fn issue() -> Identity {
        let now = SystemTime::now();
        let ca = CertificateAuthority::root(&CaRequest::named("test"), now).unwrap();
        ca.issue(
            &LeafRequest::svid(&SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap()),
            now,
        )
        .unwrap()
    }

    #[test]
    fn pem_form_reads_back() {
        let identity = issue();
        assert_eq!(
            Identity::from_pem(identity.chain_pem().as_bytes(), identity.key_pem().as_bytes()).unwrap(),
            identity
        );
    }

    #[test]
    fn what_is_not_a_chain_with_its_key_is_refused() {
        #[track_caller]
        fn check(chain: &str, key: &str, expect: &str) {
            let error = Identity::from_pem(chain.as_bytes(), key.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{error}");
        }
        let (one, other) = (issue(), issue());
        let (chain, key) = (one.chain_pem(), one.key_pem());
        check(&chain, &other.key_pem(), "does not belong to the first certificate");
        check(
            &format!("{}{chain}", other.chain_pem()),
            &key,
            "does not belong to the first certificate",
        );
        check("", &key, "no certificate");
        check(&key, &key, "no certificate");
        check(&chain[..chain.len() / 2], &key, "not readable PEM");
        check(&chain, "", "no readable private key");
        check(&chain, &chain, "no readable private key");
        check(&chain, &key[..key.len() / 2], "no readable private key");
        check(&chain.repeat(MAX_CHAIN + 1), &key, "at most 10");
    }

    #[test]
    fn an_expired_identity_is_no_svid() {
        let identity = issue();
        let end = identity.leaf().not_after;
        assert!(identity.svid(end).is_ok());
        assert!(matches!(
            identity.svid(end + Duration::from_secs(1)),
            Err(SvidError::Expired { .. })
        ));
    }

    #[test]
    fn debug_output_never_shows_the_key() {
        let identity = issue();
        let secret = identity.key.secret_der().to_vec();
        let text = format!("{identity:?} {identity:#?}");
        assert!(text.contains("spiffe://td/ns/a/sa/b"), "{text}");
        assert!(
            !text.contains(format!("{:?}", &secret[secret.len() / 2..][..4]).trim_matches(['[', ']'])),
            "{text}"
        );
        let pem = identity.key_pem();
        assert!(pem.lines().all(|line| !text.contains(line)), "{text}");
    }
}
