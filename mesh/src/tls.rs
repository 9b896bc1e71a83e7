//! What a connection's TLS must be: whose certificate we show, whom we trust, which names we accept.
//!
//! Holds references to secrets, never the secrets.

use std::path::PathBuf;

use crate::{matcher::StringMatcher, secret::SecretRef};

/// TLS versions we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// `DownstreamTlsContext`: the server side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamTls {
    /// The certificate we show.
    pub certificate: CertificateSource,
    /// How the peer's certificate is checked. `None`: none is asked for.
    pub validation: Option<Validation>,
    /// A peer without a certificate is refused.
    pub require_client_certificate: bool,
    /// Protocols we choose from, ours first.
    pub alpn: Vec<String>,
    /// Lowest version; `None` is Envoy's default for servers, TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// Highest version; `None` is TLS 1.3.
    pub max_version: Option<TlsVersion>,
}

/// `UpstreamTlsContext`: the client side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The server name we ask for, unless [`crate::cluster::Cluster::auto_sni`] makes it the request's host.
    pub sni: Option<String>,
    /// The certificate we show when asked.
    pub certificate: Option<CertificateSource>,
    /// How the peer's certificate is checked. `None`: it is not, which must have been spelled out.
    pub validation: Option<Validation>,
    /// Protocols we offer, best first.
    pub alpn: Vec<String>,
    /// Lowest version; `None` is Envoy's default for clients, TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// Highest version; `None` is TLS 1.3.
    pub max_version: Option<TlsVersion>,
}

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateSource {
    /// By name; `default` of the identity agent is the workload's own SVID.
    Sds(SecretRef),
    /// PEM files.
    Files {
        /// Leaf first.
        chain: PathBuf,
        /// PKCS #8, SEC1 or PKCS #1.
        key: PathBuf,
    },
}

/// Where trusted roots come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrustSource {
    /// By name. Of the identity agent, `ROOTCA` is the mesh's bundle, `file-root:system` the system's, `file-root:<path>` a
    /// file.
    Sds(SecretRef),
    /// A PEM file.
    File(PathBuf),
}

/// How a peer's certificate is checked: the chain always, the names if any are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The roots a chain must end at.
    pub trust: TrustSource,
    /// At least one subject alternative name must match one of these. Empty: any name will do, as Envoy has it.
    pub sans: Vec<SanMatcher>,
}

/// `SubjectAltNameMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanMatcher {
    /// Which kind of name.
    pub kind: SanKind,
    /// What it must be. An exact DNS matcher also accepts a certificate's wildcard name that covers it, as Envoy does.
    pub name: StringMatcher,
}

/// Kinds of subject alternative name we can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// A DNS name.
    Dns,
    /// A URI, such as a SPIFFE ID.
    Uri,
    /// An IP address, in text form.
    Ip,
}
