//! X.509 SVIDs: the certificate of a workload, and what makes it one.
//!
//! Source: the SPIFFE X.509-SVID standard, sections 2 to 5, narrowed to Istio's identities. The chain is not checked here
//! but in [`crate::verify`]; both must hold.

use std::time::{Duration, SystemTime};

use mesh::id::{IdError, SpiffeId};
use rustls::pki_types::CertificateDer;

use crate::{Certificate, CertificateError};

/// A certificate that is a well-formed SVID. It may have expired: see [`Svid::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    id: SpiffeId,
    certificate: Certificate,
}

/// Why a certificate is not an identity now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// It cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It names no workload.
    #[error(
        "the certificate (serial {serial}) has no URI subject alternative name, a workload certificate has exactly one: \
         spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
    )]
    NoUri {
        /// Its serial number.
        serial: String,
    },
    /// It names several, so that nobody could say which one calls.
    #[error("the certificate has {} URI subject alternative names ({}), a workload certificate has exactly one", .0.len(), .0.join(", "))]
    SeveralUris(Vec<String>),
    /// Its name is not an identity.
    #[error("the certificate's URI subject alternative name is not an identity: {0}")]
    Id(IdError),
    /// It may sign certificates, so it stands for an authority and not for a workload.
    #[error("the certificate of {id} is a signing certificate, a workload certificate must not be one")]
    Ca {
        /// The identity it claims.
        id: SpiffeId,
    },
    /// Its key may not sign handshakes, or may sign more than that.
    #[error("the certificate of {id} must have key usage digitalSignature, and neither keyCertSign nor cRLSign")]
    KeyUsage {
        /// The identity it claims.
        id: SpiffeId,
    },
    /// Its time has not come.
    #[error("the certificate of {id} is not valid yet: {} s to go, compare the clocks of both hosts", .wait.as_secs())]
    NotYetValid {
        /// The identity it claims.
        id: SpiffeId,
        /// Time until it becomes valid.
        wait: Duration,
    },
    /// Its time has passed.
    #[error("the certificate of {id} expired {} s ago: see why its holder could not renew it", .age.as_secs())]
    Expired {
        /// The identity it claims.
        id: SpiffeId,
        /// Time since it expired.
        age: Duration,
    },
}

impl Svid {
    /// Reads a certificate and checks everything about it that does not depend on time.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, SvidError> {
        Certificate::parse(der)?.try_into()
    }

    /// Checks the validity at `now`; both ends are inclusive.
    pub fn check(&self, now: SystemTime) -> Result<(), SvidError> {
        let id = || self.id.clone();
        if let Ok(wait) = self.certificate.not_before.duration_since(now)
            && !wait.is_zero()
        {
            return Err(SvidError::NotYetValid { id: id(), wait });
        }
        match now.duration_since(self.certificate.not_after) {
            Ok(age) if !age.is_zero() => Err(SvidError::Expired { id: id(), age }),
            _ => Ok(()),
        }
    }

    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// What else it says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl TryFrom<Certificate> for Svid {
    type Error = SvidError;

    fn try_from(certificate: Certificate) -> Result<Self, SvidError> {
        let id = match certificate.uri_sans.as_slice() {
            [uri] => SpiffeId::parse(uri).map_err(SvidError::Id)?,
            [] => {
                return Err(SvidError::NoUri {
                    serial: certificate.serial,
                });
            }
            _ => return Err(SvidError::SeveralUris(certificate.uri_sans)),
        };
        if certificate.is_ca {
            return Err(SvidError::Ca { id });
        }
        let usable = certificate
            .key_usage
            .is_some_and(|usage| usage.digital_signature && !usage.cert_sign && !usage.crl_sign);
        if !usable {
            return Err(SvidError::KeyUsage { id });
        }
        Ok(Self { id, certificate })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    const ID: &str = "spiffe://td/ns/a/sa/b";

    fn params(uris: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params
    }

    fn parse(params: &CertificateParams) -> Result<Svid, SvidError> {
        Svid::parse(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn one_uri_and_the_right_usage_make_an_identity() {
        assert_eq!(parse(&params(&[ID])).unwrap().id().as_str(), ID);
        let mut with_dns_name = params(&[ID]);
        with_dns_name
            .subject_alt_names
            .push(SanType::DnsName("a.example".try_into().unwrap()));
        assert_eq!(parse(&with_dns_name).unwrap().id().as_str(), ID);
    }

    #[test]
    fn every_other_shape_is_refused_with_its_reason() {
        #[track_caller]
        fn check(params: &CertificateParams, reason: &str) {
            let error = parse(params).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        check(&params(&[]), "no URI subject alternative name");
        check(
            &params(&[ID, "spiffe://td/ns/a/sa/c"]),
            "2 URI subject alternative names",
        );
        check(&params(&[ID, ID]), "2 URI subject alternative names");
        check(&params(&["https://td/ns/a/sa/b"]), "not an identity");
        check(&params(&["spiffe://td/ns/a"]), "not an identity");
        let mut ca = params(&[ID]);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        check(&ca, "is a signing certificate");
        for usages in [
            vec![],
            vec![KeyUsagePurpose::KeyEncipherment],
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
        ] {
            let mut odd = params(&[ID]);
            odd.key_usages = usages;
            check(&odd, "key usage");
        }
    }

    #[test]
    fn validity_includes_both_ends() {
        let svid = parse(&params(&[ID])).unwrap();
        let (from, to) = (svid.certificate().not_before, svid.certificate().not_after);
        let second = Duration::from_secs(1);
        for now in [from, from + second, to - second, to] {
            assert_eq!(svid.check(now), Ok(()));
        }
        assert!(matches!(svid.check(from - second), Err(SvidError::NotYetValid { wait, .. }) if wait == second));
        assert!(matches!(svid.check(to + second), Err(SvidError::Expired { age, .. }) if age == second));
    }
}
