//! What an authority is asked to certify, and the rules it follows when it does.
//!
//! Source: RFC 5280 for the form, Istio's `security/pkg/pki` for back-dating, lifetimes and usages. Names always come
//! from the caller of this crate; of a certificate signing request only the public key is taken.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SerialNumber, SubjectPublicKeyInfo, string::Ia5String,
};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{CertificateError, IdentityError, crypto};

/// How long a workload certificate lives unless the request says otherwise, as in Istio.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a root lives unless the request says otherwise, as in Istio.
pub const DEFAULT_CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// New certificates are valid from this long before they are issued, for peers whose clocks run late.
pub const BACKDATE: Duration = Duration::from_secs(2 * 60);
/// Largest certificate signing request accepted, in bytes of either form. Real ones have less than 2 KiB.
pub const MAX_CSR: usize = 16 * 1024;

/// A leaf certificate to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    sans: Vec<San>,
    common_name: Option<String>,
    validity: Validity,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// A signing certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaRequest {
    name: String,
    trust_domain: Option<TrustDomain>,
    validity: Validity,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A URI.
    Uri(String),
    /// A DNS name, or a wildcard such as `*.example.com`.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name has characters that a certificate cannot hold.
    #[error("{0:?} cannot be written into a certificate: only ASCII is accepted")]
    Name(String),
    /// The validity is empty or beyond the year 9999.
    #[error("the requested validity is empty or ends after the year 9999")]
    Validity,
    /// The signing certificate has no time left, or has not begun.
    #[error("the signing certificate {subject:?} is not valid now (serial {serial}): renew it before issuing")]
    SignerNotValid {
        /// Subject of the signing certificate.
        subject: String,
        /// Its serial number.
        serial: String,
    },
    /// No peer would accept what the authority signs.
    #[error("what this authority signs does not lead to its roots: {0}")]
    Untrusted(String),
    /// The request cannot be read or is not signed with the key it names.
    #[error("the certificate signing request is refused: {0}")]
    Request(String),
    /// The certificate that resulted cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The cryptography library failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    /// From [`BACKDATE`] ago for this long from now.
    For(Duration),
    /// Between two times.
    Between(SystemTime, SystemTime),
}

impl LeafRequest {
    /// A workload's certificate: one URI name, for both ends of a connection, for [`DEFAULT_LIFETIME`].
    pub fn svid(id: &SpiffeId) -> Self {
        Self::new([San::Uri(id.as_str().to_owned())])
            .usable_by([ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// An ordinary server's certificate for a DNS name or address, for [`DEFAULT_LIFETIME`].
    pub fn server(host: &Host) -> Self {
        let san = host.ip().map_or_else(|| San::Dns(host.as_str().to_owned()), San::Ip);
        Self::new([san]).usable_by([ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A certificate with any names, or none, for both ends of a connection, for [`DEFAULT_LIFETIME`].
    pub fn new(sans: impl IntoIterator<Item = San>) -> Self {
        Self {
            sans: sans.into_iter().collect(),
            common_name: None,
            validity: Validity::For(DEFAULT_LIFETIME),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    /// Adds a name.
    #[must_use]
    pub fn san(mut self, san: San) -> Self {
        self.sans.push(san);
        self
    }

    /// Sets the subject's common name. Without one the subject is empty and the alternative names are critical.
    #[must_use]
    pub fn common_name(self, name: impl Into<String>) -> Self {
        Self {
            common_name: Some(name.into()),
            ..self
        }
    }

    /// Valid for this long from now, and [`BACKDATE`] before.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self {
            validity: Validity::For(lifetime),
            ..self
        }
    }

    /// Valid between two times, both inclusive, in whole seconds.
    #[must_use]
    pub fn between(self, not_before: SystemTime, not_after: SystemTime) -> Self {
        Self {
            validity: Validity::Between(not_before, not_after),
            ..self
        }
    }

    fn usable_by(self, usages: impl IntoIterator<Item = ExtendedKeyUsagePurpose>) -> Self {
        Self {
            usages: usages.into_iter().collect(),
            ..self
        }
    }

    /// The form of the certificate; it ends no later than `signer_end`.
    pub(crate) fn params(&self, now: SystemTime, signer_end: SystemTime) -> Result<CertificateParams, IssueError> {
        let (not_before, not_after) = self.validity.bounds(now)?;
        let mut params = blank()?;
        params.subject_alt_names = self.sans.iter().map(San::encode).collect::<Result<_, _>>()?;
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        set_validity(&mut params, not_before, not_after.min(signer_end))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl CaRequest {
    /// The authority of a mesh: named after its trust domain, for [`DEFAULT_CA_LIFETIME`].
    pub fn mesh(trust_domain: &TrustDomain) -> Self {
        Self {
            trust_domain: Some(trust_domain.clone()),
            ..Self::named(format!("{trust_domain} root"))
        }
    }

    /// An authority with this common name and no trust domain, for [`DEFAULT_CA_LIFETIME`].
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            trust_domain: None,
            validity: Validity::For(DEFAULT_CA_LIFETIME),
        }
    }

    /// Valid for this long from now, and [`BACKDATE`] before.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self {
            validity: Validity::For(lifetime),
            ..self
        }
    }

    /// The form of the certificate; it ends no later than `signer_end`, when it has another signer.
    pub(crate) fn params(
        &self,
        now: SystemTime,
        signer_end: Option<SystemTime>,
        depth: rcgen::BasicConstraints,
    ) -> Result<CertificateParams, IssueError> {
        let (not_before, not_after) = self.validity.bounds(now)?;
        let mut params = blank()?;
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        if let Some(domain) = &self.trust_domain {
            params.subject_alt_names = vec![San::Uri(format!("spiffe://{domain}")).encode()?];
        }
        set_validity(
            &mut params,
            not_before,
            signer_end.map_or(not_after, |end| not_after.min(end)),
        )?;
        params.is_ca = IsCa::Ca(depth);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = signer_end.is_some();
        Ok(params)
    }
}

impl San {
    fn encode(&self) -> Result<SanType, IssueError> {
        let ascii = |text: &String| Ia5String::try_from(text.as_str()).map_err(|_| IssueError::Name(text.clone()));
        Ok(match self {
            Self::Uri(uri) => SanType::URI(ascii(uri)?),
            Self::Dns(name) => SanType::DnsName(ascii(name)?),
            Self::Ip(ip) => SanType::IpAddress(*ip),
        })
    }
}

impl Validity {
    fn bounds(self, now: SystemTime) -> Result<(SystemTime, SystemTime), IssueError> {
        match self {
            Self::Between(from, to) => Ok((from, to)),
            Self::For(lifetime) => {
                let from = now.checked_sub(BACKDATE).ok_or(IssueError::Validity)?;
                let to = now
                    .checked_add(lifetime)
                    .filter(|to| *to > now)
                    .ok_or(IssueError::Validity)?;
                Ok((from, to))
            }
        }
    }
}

/// The public key of a certificate signing request, PEM or DER, that is signed with the matching private key.
pub(crate) fn request_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, IssueError> {
    let refused = |reason: &str| IssueError::Request(reason.to_owned());
    if csr.len() > MAX_CSR {
        return Err(IssueError::Request(format!(
            "it has {} bytes, at most {MAX_CSR} are accepted",
            csr.len()
        )));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr).map_or_else(|_| csr.to_vec(), |der| der.to_vec());
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| refused("it is neither PEM nor DER of PKCS #10"))?;
    if !rest.is_empty() {
        return Err(refused("bytes follow its end"));
    }
    request
        .verify_signature()
        .map_err(|_| refused("it is not signed with the key it carries"))?;
    let key = request.certification_request_info.subject_pki.raw;
    SubjectPublicKeyInfo::from_der(key).map_err(|_| refused("its key is not ECDSA, Ed25519 or RSA"))
}

fn blank() -> Result<CertificateParams, IssueError> {
    let serial = crypto::random_serial().map_err(|_| IssueError::Signing("no random numbers".to_owned()))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn set_validity(
    params: &mut CertificateParams,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<(), IssueError> {
    // 9999-12-31T23:59:59Z, the last time that X.509 can write.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    if not_before >= not_after || not_before < UNIX_EPOCH || not_after > last {
        return Err(IssueError::Validity);
    }
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    Ok(())
}
