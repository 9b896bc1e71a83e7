//! References that may name a namespace: hosts with a scope, export lists, gateway names.

use std::{fmt, net::IpAddr, str::FromStr};

use mesh::host::HostPattern;

use super::scalar::deserialize_from_str;

/// A host as configuration writes it: exact, `*.suffix` or `*`. A name without a dot is short for a Service of the
/// namespace it is written in; see [`HostText::in_namespace`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostText(HostPattern);

/// A namespace as written before the `/` of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceScope {
    /// `*`: every namespace.
    Any,
    /// `.`: the namespace of the object that says so.
    Own,
    /// `~`: no namespace.
    Nowhere,
    /// One namespace.
    Named(String),
}

/// A host with the namespaces it is taken from: `istio-egress/*`, `./a.example.com`, `example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopedHost {
    /// Where it is taken from. A plain host is taken from [`NamespaceScope::Any`].
    pub namespace: NamespaceScope,
    /// The host.
    pub host: HostText,
    /// Whether the namespace was written.
    pub explicit: bool,
}

/// One entry of `exportTo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Export(pub NamespaceScope);

/// One entry of a VirtualService's `gateways`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GatewayRef {
    /// `mesh`: the sidecars.
    Mesh,
    /// A Gateway; without a namespace it is one of the VirtualService's own.
    Named {
        /// The namespace, if written.
        namespace: Option<String>,
        /// The Gateway's name.
        name: String,
    },
}

/// What short host names are completed with, after the namespace.
pub const SERVICE_DOMAIN: &str = "svc.cluster.local";

impl HostText {
    /// The host as written, in canonical form.
    pub fn pattern(&self) -> &HostPattern {
        &self.0
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.0 {
            HostPattern::Exact(host) => host.ip(),
            HostPattern::Suffix(_) | HostPattern::Any => None,
        }
    }

    /// The full host: a single label is a Service of `namespace`, everything else stays as it is.
    pub fn in_namespace(&self, namespace: &str) -> HostPattern {
        match &self.0 {
            HostPattern::Exact(host) if !host.as_str().contains('.') && host.ip().is_none() => {
                HostPattern::parse(&format!("{host}.{namespace}.{SERVICE_DOMAIN}")).unwrap_or_else(|_| self.0.clone())
            }
            HostPattern::Exact(_) | HostPattern::Suffix(_) | HostPattern::Any => self.0.clone(),
        }
    }
}

impl NamespaceScope {
    /// Whether `namespace` is in the scope of an object of namespace `own`.
    pub fn contains(&self, namespace: &str, own: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Own => namespace == own,
            Self::Nowhere => false,
            Self::Named(name) => name == namespace,
        }
    }
}

impl GatewayRef {
    /// `namespace` and `name` of the Gateway, seen from namespace `own`. `None`: the sidecars.
    pub fn resolve<'a>(&'a self, own: &'a str) -> Option<(&'a str, &'a str)> {
        match self {
            Self::Mesh => None,
            Self::Named { namespace, name } => Some((namespace.as_deref().unwrap_or(own), name)),
        }
    }
}

/// Whether an object of namespace `own` with this `exportTo` is visible in `namespace`. No entry at all is `*`.
pub fn exported_to(exports: &[Export], namespace: &str, own: &str) -> bool {
    exports.is_empty() || exports.iter().any(|export| export.0.contains(namespace, own))
}

/// A DNS-1123 label: what namespaces, ports and subsets are called.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| inner(b) || b == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().next_back().is_some_and(inner)
}

impl FromStr for HostText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        HostPattern::parse(text).map(Self).map_err(|error| error.to_string())
    }
}

impl FromStr for NamespaceScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            "." => Ok(Self::Own),
            "~" => Ok(Self::Nowhere),
            name if is_dns_label(name) => Ok(Self::Named(name.to_owned())),
            _ => Err(format!(
                "{text:?} is not a namespace: a name of a-z, 0-9 and '-', or '*', '.' or '~'"
            )),
        }
    }
}

impl FromStr for ScopedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, host) = match text.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, text),
        };
        Ok(Self {
            explicit: namespace.is_some(),
            namespace: namespace.map_or(Ok(NamespaceScope::Any), str::parse)?,
            host: host.parse()?,
        })
    }
}

impl FromStr for Export {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for GatewayRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None if text == "mesh" => return Ok(Self::Mesh),
            None => (None, text),
        };
        if namespace.is_none_or(is_dns_label) && is_dns_label(name) {
            Ok(Self::Named {
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
            })
        } else {
            Err(format!("{text:?} is not a gateway: name, namespace/name or mesh"))
        }
    }
}

deserialize_from_str! {
    HostText => "use a host name, *.suffix or *",
    ScopedHost => "use a host, or namespace/host",
    Export => "use a namespace, '.' for the object's own, or '*' for all",
    GatewayRef => "use the name of a Gateway, namespace/name, or mesh",
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NamespaceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Own => ".",
            Self::Nowhere => "~",
            Self::Named(name) => name,
        })
    }
}

impl fmt::Display for GatewayRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => f.write_str("mesh"),
            Self::Named {
                namespace: Some(namespace),
                name,
            } => write!(f, "{namespace}/{name}"),
            Self::Named { namespace: None, name } => f.write_str(name),
        }
    }
}
