//! Which secrets a listener or a cluster names.

use mesh::{
    cluster::Cluster,
    listener::Listener,
    secret::SecretRef,
    tls::{CertificateSource, TrustSource, Validation},
};

/// A secret, and what it must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reference<'a> {
    /// A certificate with its key.
    Certificate(&'a SecretRef),
    /// A set of roots.
    Trust(&'a SecretRef),
}

impl<'a> Reference<'a> {
    /// Which secret.
    pub(crate) fn secret(self) -> &'a SecretRef {
        match self {
            Self::Certificate(secret) | Self::Trust(secret) => secret,
        }
    }
}

/// The secrets of a listener's filter chains.
pub(crate) fn of_listener(listener: &Listener) -> impl Iterator<Item = Reference<'_>> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let contexts = chains.filter_map(|chain| chain.tls.as_ref());
    contexts.flat_map(|tls| references(Some(&tls.certificate), tls.validation.as_ref()))
}

/// The secrets of a cluster.
pub(crate) fn of_cluster(cluster: &Cluster) -> impl Iterator<Item = Reference<'_>> {
    let contexts = cluster.tls.iter();
    contexts.flat_map(|tls| references(tls.certificate.as_ref(), tls.validation.as_ref()))
}

fn references<'a>(
    certificate: Option<&'a CertificateSource>,
    validation: Option<&'a Validation>,
) -> impl Iterator<Item = Reference<'a>> {
    let certificate = certificate.and_then(|source| match source {
        CertificateSource::Sds(secret) => Some(Reference::Certificate(secret)),
        CertificateSource::Files { .. } => None,
    });
    let trust = validation.and_then(|validation| match &validation.trust {
        TrustSource::Sds(secret) => Some(Reference::Trust(secret)),
        TrustSource::File(_) => None,
    });
    certificate.into_iter().chain(trust)
}
