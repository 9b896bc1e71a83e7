//! A certificate authority: a signing key, its certificate, and the chain up to the roots that peers trust.
//!
//! Used for development, for tests and by the workload CA of the control plane. Invariants: the key belongs to the
//! certificate; what is issued never outlives it; the key never appears in `Debug` output or an error.

use std::{fmt, time::SystemTime};

use rcgen::{BasicConstraints, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    CaRequest, Certificate, Identity, IssueError, LeafRequest, Roots, San, Trust, issue::request_key,
    pem::certificate_pem, verify,
};

/// A signer of certificates. Keys it makes are ECDSA P-256.
pub struct CertificateAuthority {
    certificate: Certificate,
    /// From our certificate upward, without the roots. Empty when we are the root.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Roots,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// Makes a self-signed root.
    pub fn root(request: &CaRequest, now: SystemTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(signing)?;
        let params = request.params(now, None, BasicConstraints::Unconstrained)?;
        let der = params.self_signed(&key).map_err(signing)?.der().clone();
        let roots = Roots::new(vec![der.clone()]).expect("one certificate, just made");
        Self::assemble(&der, Vec::new(), roots, key)
    }

    /// Makes an authority below this one that may sign leaves only.
    pub fn intermediate(&self, request: &CaRequest, now: SystemTime) -> Result<Self, IssueError> {
        self.check_valid(now)?;
        let key = KeyPair::generate().map_err(signing)?;
        let params = request.params(now, Some(self.certificate.not_after), BasicConstraints::Constrained(0))?;
        let der = params.signed_by(&key, &self.issuer).map_err(signing)?.der().clone();
        let intermediates = std::iter::once(der.clone())
            .chain(self.intermediates.iter().cloned())
            .collect();
        let below = Self::assemble(&der, intermediates, self.roots.clone(), key)?;
        below.prove(now)?;
        Ok(below)
    }

    /// Joins the parts. Whether the chain ends at a root is for [`Self::prove`] to say.
    pub(crate) fn assemble(
        der: &CertificateDer<'_>,
        intermediates: Vec<CertificateDer<'static>>,
        roots: Roots,
        key: KeyPair,
    ) -> Result<Self, IssueError> {
        let certificate = Certificate::parse(der)?;
        let issuer = Issuer::from_ca_cert_der(der, key).map_err(signing)?;
        Ok(Self {
            certificate,
            intermediates,
            roots,
            issuer,
        })
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, request: &LeafRequest, now: SystemTime) -> Result<Identity, IssueError> {
        let key = KeyPair::generate().map_err(signing)?;
        let chain = self.sign(request, &key, now)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity::new(chain, key)?)
    }

    /// Certifies the key of a certificate signing request, PEM or DER. Names, usages and validity come from `request`
    /// alone; whatever the signing request asks for is ignored. Returns the chain, leaf first, without the roots.
    pub fn sign_request(
        &self,
        csr: &[u8],
        request: &LeafRequest,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        self.sign(request, &request_key(csr)?, now)
    }

    /// Our own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The roots that peers must trust.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The roots as PEM.
    pub fn root_pem(&self) -> String {
        self.roots.pem()
    }

    /// Our certificate and those between it and the roots, as PEM; for a root, its own certificate.
    pub(crate) fn chain_pem(&self) -> String {
        match self.intermediates.as_slice() {
            [] => self.certificate.pem(),
            chain => chain.iter().map(certificate_pem).collect(),
        }
    }

    /// The signing key as PEM, for writing it to its file.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate to nobody and verifies it as a peer would.
    pub(crate) fn prove(&self, now: SystemTime) -> Result<(), IssueError> {
        let probe = self.issue(&LeafRequest::new([San::Uri("spiffe://self-test".to_owned())]), now)?;
        let checked = verify::check_own(&Trust::Roots(self.roots.clone()), probe.chain(), now);
        checked.map_err(|error| IssueError::Untrusted(verify::tls_failure_reason(&error)))
    }

    fn sign(
        &self,
        request: &LeafRequest,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        self.check_valid(now)?;
        let params = request.params(now, self.certificate.not_after)?;
        let leaf = params.signed_by(key, &self.issuer).map_err(signing)?.der().clone();
        Ok(std::iter::once(leaf)
            .chain(self.intermediates.iter().cloned())
            .collect())
    }

    fn check_valid(&self, now: SystemTime) -> Result<(), IssueError> {
        if self.certificate.is_valid_at(now) {
            return Ok(());
        }
        let Certificate { subject, serial, .. } = &self.certificate;
        Err(IssueError::SignerNotValid {
            subject: subject.clone(),
            serial: serial.clone(),
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn signing(error: rcgen::Error) -> IssueError {
    IssueError::Signing(error.to_string())
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("subject", &self.certificate.subject)
            .field("serial", &self.certificate.serial)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh::{
        host::Host,
        id::{SpiffeId, TrustDomain},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{BACKDATE, DEFAULT_CA_LIFETIME, DEFAULT_LIFETIME, Svid};

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn mesh() -> CertificateAuthority {
        CertificateAuthority::root(&CaRequest::mesh(&TrustDomain::parse("td").unwrap()), now()).unwrap()
    }

    fn workload() -> LeafRequest {
        LeafRequest::svid(&SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap())
    }

    /// A signing request of somebody who would like to be somebody else, and an authority.
    fn greedy_request() -> (KeyPair, rcgen::CertificateSigningRequest) {
        let mut params = rcgen::CertificateParams::new(["gateway.example".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .subject_alt_names
            .push(rcgen::SanType::URI("spiffe://td/ns/admin/sa/root".try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let request = params.serialize_request(&key).unwrap();
        (key, request)
    }

    #[test]
    fn a_root_may_sign_and_nothing_else() {
        let root = mesh();
        let certificate = root.certificate();
        assert!(certificate.is_ca);
        assert_eq!(
            certificate
                .key_usage
                .map(|usage| (usage.cert_sign, usage.digital_signature)),
            Some((true, false))
        );
        assert_eq!(certificate.uri_sans, ["spiffe://td"]);
        assert_eq!(
            (certificate.subject.as_str(), certificate.issuer.as_str()),
            ("CN=td root", "CN=td root")
        );
        assert_eq!(
            (certificate.not_before, certificate.not_after),
            (now() - BACKDATE, now() + DEFAULT_CA_LIFETIME)
        );
    }

    #[test]
    fn a_workload_certificate_has_the_form_that_istio_gives_it() {
        let identity = mesh().issue(&workload(), now()).unwrap();
        let leaf = identity.leaf();
        assert_eq!(
            (leaf.not_before, leaf.not_after),
            (now() - BACKDATE, now() + DEFAULT_LIFETIME)
        );
        assert_eq!(leaf.subject, "");
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().unwrap().critical);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
        assert!(parsed.key_usage().unwrap().unwrap().value.key_encipherment());
        assert_eq!(identity.chain().len(), 1);
    }

    #[test]
    fn nothing_outlives_its_signer() {
        let root = CertificateAuthority::root(&CaRequest::named("short").lifetime(HOUR), now()).unwrap();
        let end = root.certificate().not_after;
        let intermediate = root.intermediate(&CaRequest::named("below"), now()).unwrap();
        assert_eq!(intermediate.certificate().not_after, end);
        assert_eq!(intermediate.issue(&workload(), now()).unwrap().leaf().not_after, end);
    }

    #[test]
    fn a_signer_whose_time_is_over_or_has_not_come_refuses() {
        let root = CertificateAuthority::root(&CaRequest::named("short").lifetime(HOUR), now()).unwrap();
        for when in [now() + HOUR + BACKDATE, now() - HOUR] {
            assert!(matches!(
                root.issue(&workload(), when),
                Err(IssueError::SignerNotValid { .. })
            ));
            assert!(root.intermediate(&CaRequest::named("below"), when).is_err());
        }
    }

    #[test]
    fn an_intermediate_may_sign_leaves_only() {
        let intermediate = mesh().intermediate(&CaRequest::named("below"), now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&intermediate.certificate().der).unwrap();
        assert_eq!(
            parsed.basic_constraints().unwrap().unwrap().value.path_len_constraint,
            Some(0)
        );
        let further = intermediate.intermediate(&CaRequest::named("further"), now());
        assert!(matches!(further, Err(IssueError::Untrusted(_))));
    }

    #[test]
    fn what_an_intermediate_issues_carries_the_chain() {
        let intermediate = mesh().intermediate(&CaRequest::named("below"), now()).unwrap();
        let identity = intermediate.issue(&workload(), now()).unwrap();
        assert_eq!(
            identity.chain(),
            [identity.leaf().der.clone(), intermediate.certificate().der.clone()]
        );
    }

    #[test]
    fn validity_that_cannot_be_written_is_refused() {
        let root = mesh();
        let ages = Duration::from_secs(u64::MAX);
        for request in [
            workload().lifetime(Duration::ZERO),
            workload().lifetime(ages),
            workload().between(now(), now()),
            workload().between(SystemTime::UNIX_EPOCH - HOUR, now()),
        ] {
            assert!(
                matches!(root.issue(&request, now()), Err(IssueError::Validity)),
                "{request:?}"
            );
        }
        assert!(CertificateAuthority::root(&CaRequest::named("x").lifetime(ages / 2), now()).is_err());
        assert!(matches!(
            root.issue(&LeafRequest::new([San::Dns("é".into())]), now()),
            Err(IssueError::Name(_))
        ));
    }

    #[test]
    fn only_the_key_of_a_signing_request_is_believed() {
        let (key, request) = greedy_request();
        for csr in [request.der().to_vec(), request.pem().unwrap().into_bytes()] {
            let chain = mesh().sign_request(&csr, &workload(), now()).unwrap();
            let leaf = Certificate::parse(&chain[0]).unwrap();
            assert_eq!(leaf.public_key, key.subject_public_key_info());
            assert_eq!(leaf.uri_sans, ["spiffe://td/ns/a/sa/b"]);
            assert!(leaf.dns_sans.is_empty() && !leaf.is_ca);
        }
    }

    #[test]
    fn a_damaged_signing_request_is_refused() {
        let der = greedy_request().1.der().to_vec();
        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        let mut longer = der.clone();
        longer.push(0);
        for csr in [
            &forged[..],
            &longer,
            &der[..der.len() / 2],
            b"",
            &vec![b' '; crate::MAX_CSR + 1],
        ] {
            assert!(matches!(
                mesh().sign_request(csr, &workload(), now()),
                Err(IssueError::Request(_))
            ));
        }
    }

    #[test]
    fn debug_output_never_shows_the_key() {
        let root = mesh();
        let text = format!("{root:?} {root:#?}");
        assert!(text.contains("td root"));
        assert!(root.key_pem().lines().all(|line| !text.contains(line)), "{text}");
    }

    #[test]
    fn servers_are_certified_by_name_or_address() {
        let issue = |host| {
            mesh()
                .issue(&LeafRequest::server(&Host::parse(host).unwrap()), now())
                .unwrap()
                .leaf()
                .clone()
        };
        assert_eq!(issue("example.com").dns_sans, ["example.com"]);
        assert_eq!(issue("127.0.0.1").ip_sans, [std::net::IpAddr::from([127, 0, 0, 1])]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn an_issued_identity_reads_back_as_the_same(domain in "[a-z0-9._-]{1,40}", namespace in "[a-z0-9][a-z0-9-]{0,30}", account in "[A-Za-z0-9][A-Za-z0-9._-]{0,30}") {
            let id = SpiffeId::new(&TrustDomain::parse(&domain).unwrap(), &namespace, &account).unwrap();
            let identity = mesh().issue(&LeafRequest::svid(&id), now()).unwrap();
            let svid = Svid::parse(&identity.chain()[0]).unwrap();
            prop_assert_eq!(svid.id(), &id);
            prop_assert!(svid.check(now()).is_ok());
        }
    }
}
