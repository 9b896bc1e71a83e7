//! Is the peer who it must be? The verifiers that servers and clients hand to the TLS library.
//!
//! A check has three steps: whose roots apply ([`Trust`]), whether the chain ends at one of them and allows this use
//! (webpki, through rustls), and whether a name is accepted. As in Envoy, the host name is no part of it unless it is
//! listed. What is trusted is read from a [`Live`] cell each time, so that a new root is believed, and an old one is not,
//! from the next handshake on.
//!
//! Resumption: a resumed handshake shows no certificate, and rustls asks no verifier. [`ClientVerifier::peer`] and
//! [`ServerVerifier::peer`], which every connection goes through to learn who its peer is, therefore repeat the whole check
//! against the certificates of the original handshake. So a session never outlives the identity it was granted to, nor the
//! root behind it.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh::{
    id::{SpiffeId, TrustDomain},
    matcher::StringPattern,
    tls::{SanKind, SanMatcher},
};
use rustls::{
    CertificateError, ClientConnection, DigitallySignedStruct, DistinguishedName, HandshakeKind, OtherError,
    ServerConnection, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{Certificate, Live, Roots, Svid, SvidError, Trust, crypto};

/// Checks those who connect to us.
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Arc<Live<Trust>>,
    names: Vec<SanMatcher>,
    required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Checks those we connect to.
#[derive(Debug)]
pub struct ServerVerifier {
    check: Option<(Arc<Live<Trust>>, Names)>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Which names a server may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// At least one alternative name matches one of these. Empty: any name will do, as Envoy has it.
    Listed(Vec<SanMatcher>),
    /// The certificate is for the name or address that the connection was opened with.
    Requested,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The identity, if the peer was verified as a member of the mesh.
    pub id: Option<SpiffeId>,
    /// Everything else that its certificate says.
    pub certificate: Certificate,
}

/// Why a peer was refused, where the TLS library has no word for it. Chains, signatures and dates are reported in rustls'
/// own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate and must.
    #[error("the peer showed no certificate, it must show a workload certificate of the mesh")]
    NoCertificate,
    /// Its certificate is no identity.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// We have no roots for its trust domain.
    #[error("{id} is of a trust domain that is not accepted here, accepted: {}", list(.accepted))]
    ForeignTrustDomain {
        /// Who it claims to be.
        id: SpiffeId,
        /// The trust domains we have roots of.
        accepted: Vec<TrustDomain>,
    },
    /// None of its names is accepted.
    #[error("none of the certificate's names ({}) is accepted, accepted: {}", list(.presented), list(.accepted))]
    Name {
        /// Its names.
        presented: Vec<String>,
        /// What we accept.
        accepted: Vec<String>,
    },
    /// It is not for the name that was asked for.
    #[error("the certificate is for {}, not for {requested}", list(.presented))]
    Requested {
        /// The name or address the connection was opened with.
        requested: String,
        /// The certificate's names.
        presented: Vec<String>,
    },
}

impl ClientVerifier {
    /// Requires a certificate that leads to `trust`; if `names` is not empty, one of its names must match one of them.
    pub fn new(trust: Arc<Live<Trust>>, names: Vec<SanMatcher>) -> Self {
        Self {
            trust,
            names,
            required: true,
            algorithms: crypto::provider().signature_verification_algorithms,
        }
    }

    /// Also admits clients that show no certificate. One that is shown must still be good.
    #[must_use]
    pub fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }

    /// Who is at the other end of a connection whose handshake is complete; `None` if it may stay anonymous and did. To be
    /// called once per connection, before anything is done for the peer: see the module's words on resumption.
    pub fn peer(&self, connection: &ServerConnection, now: SystemTime) -> Result<Option<Peer>, rustls::Error> {
        match connection.peer_certificates() {
            Some([leaf, intermediates @ ..]) if is_resumed(connection.handshake_kind()) => {
                self.check(leaf, intermediates, unix(now)).map(Some)
            }
            Some([leaf, ..]) => Ok(Some(admit(&self.trust.load(), leaf)?.1)),
            _ if self.required => Err(PeerError::NoCertificate.into()),
            _ => Ok(None),
        }
    }

    pub(crate) fn trust(&self) -> &Arc<Live<Trust>> {
        &self.trust
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, rustls::Error> {
        let trust = self.trust.load();
        let (roots, peer) = admit(&trust, leaf)?;
        roots
            .clients()
            .verify_client_cert(leaf, intermediates, now)
            .map_err(of_another_authority)?;
        check_names(&self.names, &peer.certificate)?;
        Ok(peer)
    }
}

impl ServerVerifier {
    /// Requires a certificate that leads to `trust` and has an accepted name.
    pub fn new(trust: Arc<Live<Trust>>, names: Names) -> Self {
        Self {
            check: Some((trust, names)),
            algorithms: crypto::provider().signature_verification_algorithms,
        }
    }

    /// Accepts every server, as Envoy does without a validation context: the connection is private, but with anybody.
    pub fn insecure() -> Self {
        Self {
            check: None,
            algorithms: crypto::provider().signature_verification_algorithms,
        }
    }

    /// Who is at the other end of a connection, opened with the name `requested`, whose handshake is complete. To be called
    /// once per connection, before anything is sent: see the module's words on resumption.
    pub fn peer(
        &self,
        connection: &ClientConnection,
        requested: &ServerName<'_>,
        now: SystemTime,
    ) -> Result<Peer, rustls::Error> {
        let Some([leaf, intermediates @ ..]) = connection.peer_certificates() else {
            return Err(PeerError::NoCertificate.into());
        };
        if is_resumed(connection.handshake_kind()) {
            self.check(leaf, intermediates, requested, unix(now))?;
        }
        match &self.check {
            Some((trust, _)) => Ok(admit(&trust.load(), leaf)?.1),
            None => Ok(Peer {
                id: None,
                certificate: Certificate::parse(leaf)
                    .map_err(SvidError::from)
                    .map_err(PeerError::from)?,
            }),
        }
    }

    pub(crate) fn trust(&self) -> Option<&Arc<Live<Trust>>> {
        self.check.as_ref().map(|(trust, _)| trust)
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        requested: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some((trust, names)) = &self.check else {
            return Ok(());
        };
        let trust = trust.load();
        let (roots, peer) = admit(&trust, leaf)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots.anchors(), intermediates, now, self.algorithms.all)
            .map_err(of_another_authority)?;
        match names {
            Names::Listed(accepted) => Ok(check_names(accepted, &peer.certificate)?),
            Names::Requested => verify_server_name(&parsed, requested).map_err(|error| match error {
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ) => PeerError::Requested {
                    requested: requested.to_str().into_owned(),
                    presented: names_of(&peer.certificate),
                }
                .into(),
                error => error,
            }),
        }
    }
}

impl PeerError {
    /// The reason inside a failed handshake's error, if it is one of ours.
    pub fn of(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
            _ => None,
        }
    }
}

/// Why verification or a handshake failed, for the person on call.
pub fn tls_failure_reason(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::NoCertificatesPresented => "the peer showed no certificate",
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate does not lead to a trusted root: its authority is another one, perhaps of the same name, or an intermediate is missing"
        }
        _ => return PeerError::of(error).map_or_else(|| error.to_string(), ToString::to_string),
    };
    text.to_owned()
}

/// The TLS library's error inside the one that an asynchronous handshake returns.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the peer ended the session with an alert.
pub fn ended_by_alert(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::AlertReceived(_)))
}

/// Checks an identity against the trust of its own workload: what we show should convince a peer who trusts what we trust.
pub(crate) fn check_own(
    trust: &Trust,
    chain: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), rustls::Error> {
    let [leaf, intermediates @ ..] = chain else {
        return Err(PeerError::NoCertificate.into());
    };
    let (roots, _) = admit(trust, leaf)?;
    roots
        .clients()
        .verify_client_cert(leaf, intermediates, unix(now))
        .map(drop)
}

/// The roots that a peer's certificate must lead to, and what it says of itself.
fn admit<'t>(trust: &'t Trust, leaf: &CertificateDer<'_>) -> Result<(&'t Roots, Peer), PeerError> {
    let certificate = Certificate::parse(leaf).map_err(SvidError::from)?;
    match trust {
        Trust::Roots(roots) => Ok((roots, Peer { id: None, certificate })),
        Trust::Mesh(bundle) => {
            let id = Svid::try_from(certificate.clone())?.id().clone();
            match bundle.roots(id.trust_domain()) {
                Some(roots) => Ok((
                    roots,
                    Peer {
                        id: Some(id),
                        certificate,
                    },
                )),
                None => Err(PeerError::ForeignTrustDomain {
                    id,
                    accepted: bundle.trust_domains().cloned().collect(),
                }),
            }
        }
    }
}

/// A chain that ends at a root's name but not at its key comes from another authority, which is what its owner should hear.
fn of_another_authority(error: rustls::Error) -> rustls::Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        error => error,
    }
}

fn check_names(accepted: &[SanMatcher], certificate: &Certificate) -> Result<(), PeerError> {
    if accepted.is_empty() || accepted.iter().any(|matcher| matches(matcher, certificate)) {
        return Ok(());
    }
    Err(PeerError::Name {
        presented: names_of(certificate),
        accepted: accepted.iter().map(describe).collect(),
    })
}

fn names_of(certificate: &Certificate) -> Vec<String> {
    let names = certificate.uri_sans.iter().chain(&certificate.dns_sans).cloned();
    let addresses = certificate.ip_sans.iter().map(ToString::to_string);
    names.chain(addresses).collect()
}

/// A matcher as an operator would write it.
fn describe(matcher: &SanMatcher) -> String {
    match &matcher.name.pattern {
        StringPattern::Exact(text) => text.clone(),
        StringPattern::Prefix(text) => format!("{text}*"),
        StringPattern::Suffix(text) => format!("*{text}"),
        StringPattern::Contains(text) => format!("*{text}*"),
        StringPattern::Regex(regex) => format!("/{}/", regex.source()),
    }
}

fn matches(matcher: &SanMatcher, certificate: &Certificate) -> bool {
    match matcher.kind {
        SanKind::Uri => certificate.uri_sans.iter().any(|uri| matcher.name.matches(uri)),
        SanKind::Ip => certificate
            .ip_sans
            .iter()
            .any(|ip| matcher.name.matches(&ip.to_string())),
        SanKind::Dns => match &matcher.name.pattern {
            StringPattern::Exact(host) => covers(certificate, host),
            _ => certificate.dns_sans.iter().any(|name| matcher.name.matches(name)),
        },
    }
}

/// Whether a certificate is for a host. A wildcard stands for one label; DNS names have no case.
fn covers(certificate: &Certificate, host: &str) -> bool {
    let literally = certificate.dns_sans.iter().any(|name| name.eq_ignore_ascii_case(host));
    let by_wildcard = || {
        let parsed = ParsedCertificate::try_from(&certificate.der).ok()?;
        verify_server_name(&parsed, &ServerName::try_from(host).ok()?).ok()
    };
    literally || by_wildcard().is_some()
}

fn is_resumed(kind: Option<HandshakeKind>) -> bool {
    kind == Some(HandshakeKind::Resumed)
}

/// A time before 1970 becomes 1970, when no certificate was valid.
fn unix(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

fn list(items: &[impl fmt::Display]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: the list could not follow a change of roots, and clients of a mesh have one certificate anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(leaf, intermediates, now)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        requested: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf, intermediates, requested, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
