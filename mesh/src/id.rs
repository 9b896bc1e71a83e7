//! SPIFFE identities in the form Istio gives them.
//!
//! Source: the SPIFFE ID standard, narrowed to Istio's path layout
//! `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::{fmt, sync::Arc};

/// The name of a trust domain: lower-case letters, digits, `.`, `-` and `_`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A workload's identity. Equality is equality of the whole URI.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    /// Byte offsets in `uri` where the trust domain and the namespace end.
    trust_domain_end: usize,
    namespace_end: usize,
}

/// Why a text is not an identity we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The trust domain is empty, too long or has a character outside `[a-z0-9._-]`.
    #[error("{0:?} is not a trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// The URI does not follow Istio's layout.
    #[error("{0:?} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Layout(String),
}

const SCHEME: &str = "spiffe://";
const NAMESPACE: &str = "/ns/";
const SERVICE_ACCOUNT: &str = "/sa/";
/// SPIFFE ID section 2.3: an implementation must support URIs up to 2048 bytes and need not support longer.
const MAX_URI: usize = 2048;

impl TrustDomain {
    /// Parses the bare name, without the `spiffe://` scheme.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let valid = (1..=255).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(IdError::TrustDomain(text.to_owned()))
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// The identity of a service account.
    pub fn new(trust_domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdError> {
        Self::parse(&format!(
            "{SCHEME}{trust_domain}{NAMESPACE}{namespace}{SERVICE_ACCOUNT}{service_account}"
        ))
    }

    /// Parses a URI, as found in a certificate's URI SAN.
    pub fn parse(uri: &str) -> Result<Self, IdError> {
        let layout = || IdError::Layout(uri.chars().take(MAX_URI).collect());
        if uri.len() > MAX_URI {
            return Err(layout());
        }
        let rest = uri.strip_prefix(SCHEME).ok_or_else(layout)?;
        let (domain, rest) = rest.split_once(NAMESPACE).ok_or_else(layout)?;
        let (namespace, account) = rest.split_once(SERVICE_ACCOUNT).ok_or_else(layout)?;
        TrustDomain::parse(domain)?;
        if !is_segment(namespace) || !is_segment(account) {
            return Err(layout());
        }
        let trust_domain_end = SCHEME.len() + domain.len();
        Ok(Self {
            uri: uri.into(),
            trust_domain_end,
            namespace_end: trust_domain_end + NAMESPACE.len() + namespace.len(),
        })
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain's bare name.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..self.trust_domain_end]
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.uri[self.trust_domain_end + NAMESPACE.len()..self.namespace_end]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.uri[self.namespace_end + SERVICE_ACCOUNT.len()..]
    }
}

/// A path segment as SPIFFE allows it: letters, digits, `.`, `-`, `_`, and neither `.` nor `..`.
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_parts_of_an_istio_identity() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/team-x/sa/test").unwrap();
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.service_account()),
            ("cluster.local", "team-x", "test")
        );
        let domain = TrustDomain::parse("cluster.local").unwrap();
        assert_eq!(SpiffeId::new(&domain, "team-x", "test").unwrap(), id);
    }

    #[test]
    fn refuses_everything_else() {
        for uri in [
            "",
            "spiffe://",
            "spiffe:///ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "spiffe://td/ns/a",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/ns/a/b/sa/c",
            "spiffe://td/ns/../sa/b",
            "spiffe://TD/ns/a/sa/b",
            "spiffe://td:1/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td/ns/a/sa/b%2f",
        ] {
            assert!(SpiffeId::parse(uri).is_err(), "{uri}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://td/ns/a/sa/{}", "b".repeat(MAX_URI))).is_err());
    }
}
