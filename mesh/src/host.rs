//! Names of hosts: what is configured, what a client said, what a certificate must say.
//!
//! Invariant: a [`Host`] and the text inside a [`HostPattern`] are lower-case and have no trailing dot, so equality
//! needs no normalising. What a client *said* ([`Sni`]) and what we *verify* are different types and do not compare.

use std::{fmt, net::IpAddr, sync::Arc};

/// A DNS name or IP address in canonical form: lower-case, no trailing dot, 1 to 253 bytes of `[a-z0-9._-]`, or an IP
/// address (IPv6 without brackets).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

/// Which hosts a configured object is for, as in Envoy's `domains` and `server_names`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One host.
    Exact(Host),
    /// `*` followed by this non-empty suffix: `.example.com` for `*.example.com`. Matches any depth, not the bare domain.
    Suffix(Arc<str>),
    /// `*`: every host.
    Any,
}

/// The server name a client asked for in its `ClientHello`, lower-cased as Envoy's `tls_inspector` stores it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sni(Arc<str>);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name: labels of letters, digits, '-' and '_' joined by dots, at most 253 bytes")]
pub struct HostError(String);

const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

impl Host {
    /// Parses a DNS name or IP address; lower-cases and drops one trailing dot.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if is_dns_name(name) || name.parse::<IpAddr>().is_ok() {
            Ok(Self(name.to_ascii_lowercase().into()))
        } else {
            Err(HostError(text.chars().take(MAX_HOST).collect()))
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl HostPattern {
    /// Parses `*`, `*.suffix` (any text after the star that ends a host name) or an exact host.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let Some(suffix) = text.strip_prefix('*') else {
            return Host::parse(text).map(Self::Exact);
        };
        if suffix.is_empty() {
            return Ok(Self::Any);
        }
        let suffix = suffix.strip_suffix('.').unwrap_or(suffix);
        if is_dns_name(&format!("x{suffix}")) {
            Ok(Self::Suffix(suffix.to_ascii_lowercase().into()))
        } else {
            Err(HostError(text.chars().take(MAX_HOST).collect()))
        }
    }

    /// Whether a canonical (lower-case) name is covered.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(host) => host.as_str() == name,
            Self::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(&**suffix),
            Self::Any => true,
        }
    }

    /// Whether every host that `other` covers is covered.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Suffix(suffix), Self::Suffix(other)) => other.ends_with(&**suffix),
            (pattern, Self::Exact(host)) => pattern.matches(host.as_str()),
            (Self::Exact(_), Self::Suffix(_)) => false,
        }
    }
}

impl Sni {
    /// Takes what a client sent: 1 to 255 bytes of visible ASCII, lower-cased. RFC 6066 allows DNS names only; what is
    /// not one matches no configured name, but is still worth a log line.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(HostError(text.chars().take(MAX_HOST).collect()))
        }
    }

    /// The lower-cased text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_dns_name(name: &str) -> bool {
    name.len() <= MAX_HOST
        && name.split('.').all(|label| {
            (1..=MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host.as_str()),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Sni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_canonical_form() {
        for (text, canonical) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("::1", "::1"),
            ("a_b.c", "a_b.c"),
        ] {
            assert_eq!(Host::parse(text).unwrap().as_str(), canonical);
        }
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "*.a",
            "a/b",
            "a:80",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_matches_any_depth_but_not_the_bare_domain() {
        let check = |pattern: &str, name: &str, expect: bool| {
            assert_eq!(
                HostPattern::parse(pattern).unwrap().matches(name),
                expect,
                "{pattern} {name}"
            );
        };
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "a.b.example.com", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*-x.example.com", "a-x.example.com", true);
        check("*", "anything", true);
        check("Example.com", "example.com", true);
    }

    #[test]
    fn coverage_follows_matching() {
        let check = |wide: &str, narrow: &str, expect: bool| {
            let (wide, narrow) = (HostPattern::parse(wide).unwrap(), HostPattern::parse(narrow).unwrap());
            assert_eq!(wide.covers(&narrow), expect, "{wide} {narrow}");
        };
        check("*", "*", true);
        check("*", "a.b", true);
        check("*.b", "a.b", true);
        check("*.b", "*.a.b", true);
        check("*.a.b", "*.b", false);
        check("*.b", "*", false);
        check("a.b", "*.b", false);
        check("a.b", "a.b", true);
    }
}
