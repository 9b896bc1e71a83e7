//! `AuthorizationPolicy`: who may ask what of a workload.

use std::str::FromStr;

use serde::Deserialize;

use super::{
    metadata::{Metadata, WorkloadSelector},
    scalar::{IpBlock, Port, deserialize_from_str},
};

/// `security.istio.io` AuthorizationPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// Which workloads. `None`: all of the namespace, or of the mesh if it is the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// What a match means.
    pub action: Action,
    /// Any of these. Empty: matches nothing, which for [`Action::Allow`] denies everything.
    pub rules: Vec<Rule>,
}

/// What a match means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// The request may pass; without a match in any such policy it may not.
    #[default]
    Allow,
    /// The request may not pass.
    Deny,
    /// The request is marked.
    Audit,
}

/// One of `from`, one of `to` and all of `when` must match; an absent list matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Who asks.
    pub from: Option<Vec<From>>,
    /// What is asked.
    pub to: Option<Vec<To>>,
    /// Further conditions.
    pub when: Vec<Condition>,
}

/// Wraps a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct From {
    /// The source.
    pub source: Source,
}

/// Wraps an operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// The operation.
    pub operation: Operation,
}

/// Who asks: every list that is not empty must have a match, and no `not…` list may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Identities without `spiffe://`.
    pub principals: Vec<String>,
    /// Identities that must not match.
    pub not_principals: Vec<String>,
    /// Subjects of a JSON web token.
    pub request_principals: Vec<String>,
    /// Subjects that must not match.
    pub not_request_principals: Vec<String>,
    /// Namespaces of the identity.
    pub namespaces: Vec<String>,
    /// Namespaces that must not match.
    pub not_namespaces: Vec<String>,
    /// Service accounts, `name` or `namespace/name`.
    pub service_accounts: Vec<String>,
    /// Service accounts that must not match.
    pub not_service_accounts: Vec<String>,
    /// Trust domains of the identity.
    pub trust_domains: Vec<String>,
    /// Trust domains that must not match.
    pub not_trust_domains: Vec<String>,
    /// Addresses of the connected peer.
    pub ip_blocks: Vec<IpBlock>,
    /// Addresses that must not match.
    pub not_ip_blocks: Vec<IpBlock>,
    /// Addresses of the client, after `x-forwarded-for`.
    pub remote_ip_blocks: Vec<IpBlock>,
    /// Addresses that must not match.
    pub not_remote_ip_blocks: Vec<IpBlock>,
}

/// What is asked: every list that is not empty must have a match, and no `not…` list may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// Authorities.
    pub hosts: Vec<String>,
    /// Authorities that must not match.
    pub not_hosts: Vec<String>,
    /// Ports the connection arrived at.
    pub ports: Vec<PortText>,
    /// Ports that must not match.
    pub not_ports: Vec<PortText>,
    /// Methods.
    pub methods: Vec<String>,
    /// Methods that must not match.
    pub not_methods: Vec<String>,
    /// Paths or path templates.
    pub paths: Vec<String>,
    /// Paths that must not match.
    pub not_paths: Vec<String>,
}

/// A port, which policies write as text: `"8080"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortText(pub Port);

/// A further condition: one of `values` if there are any, and none of `not_values`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is looked at.
    pub key: Key,
    /// Accepted values.
    #[serde(default)]
    pub values: Vec<String>,
    /// Refused values.
    #[serde(default)]
    pub not_values: Vec<String>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `request.headers[name]`.
    RequestHeader(String),
    /// `source.ip`: the connected peer.
    SourceIp,
    /// `remote.ip`: the client, after `x-forwarded-for`.
    RemoteIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `source.trustDomain`.
    SourceTrustDomain,
    /// `request.auth.principal`.
    RequestPrincipal,
    /// `request.auth.audiences`.
    RequestAudiences,
    /// `request.auth.presenter`.
    RequestPresenter,
    /// `request.auth.claims[a][b]`: the names from the outermost inwards.
    RequestClaims(Vec<String>),
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`: the port the proxy listens on.
    DestinationPort,
    /// `connection.sni`.
    ConnectionSni,
    /// `experimental.envoy.filters.<filter>[key]`: dynamic metadata of a filter.
    Metadata {
        /// `envoy.filters.<filter>`.
        filter: String,
        /// Its key.
        key: String,
    },
}

/// The annotation that asks to try a policy without effect.
pub const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

const CLAIMS: &str = "request.auth.claims";
const HEADERS: &str = "request.headers";
const METADATA: &str = "experimental.";

impl AuthorizationPolicy {
    /// Whether it can be tried without effect.
    pub fn can_be_dry_run(&self) -> bool {
        match self.action {
            Action::Allow | Action::Deny => true,
            Action::Audit => false,
        }
    }

    /// Whether the annotation `istio.io/dry-run` asks to try it without effect.
    pub fn is_dry_run(metadata: &Metadata) -> bool {
        metadata
            .annotations
            .get(DRY_RUN_ANNOTATION)
            .is_some_and(|value| value == "true")
    }
}

impl Rule {
    /// Whether it looks at HTTP requests and at nothing that a TCP connection has besides its source.
    pub fn is_http_only(&self) -> bool {
        let to = self.to.iter().flatten().map(|to| &to.operation);
        let (mut http, mut tcp) = (false, false);
        for operation in to {
            http |= operation.texts().iter().any(|(_, values)| !values.is_empty());
            tcp |= !operation.ports.is_empty() || !operation.not_ports.is_empty();
        }
        for condition in &self.when {
            http |= condition.key.is_http_only();
            tcp |= !condition.key.is_http_only();
        }
        http && !tcp && self.from.is_none()
    }
}

impl Source {
    /// The lists of texts, by field.
    pub(super) fn texts(&self) -> [(&'static str, &[String]); 10] {
        [
            ("principals", &self.principals),
            ("notPrincipals", &self.not_principals),
            ("requestPrincipals", &self.request_principals),
            ("notRequestPrincipals", &self.not_request_principals),
            ("namespaces", &self.namespaces),
            ("notNamespaces", &self.not_namespaces),
            ("serviceAccounts", &self.service_accounts),
            ("notServiceAccounts", &self.not_service_accounts),
            ("trustDomains", &self.trust_domains),
            ("notTrustDomains", &self.not_trust_domains),
        ]
    }
}

impl Operation {
    /// The lists of texts, by field; all of them are about HTTP.
    pub(super) fn texts(&self) -> [(&'static str, &[String]); 6] {
        [
            ("hosts", &self.hosts),
            ("notHosts", &self.not_hosts),
            ("methods", &self.methods),
            ("notMethods", &self.not_methods),
            ("paths", &self.paths),
            ("notPaths", &self.not_paths),
        ]
    }
}

impl Key {
    /// Keys without a part in brackets.
    const PLAIN: [(&'static str, Self); 12] = [
        ("source.ip", Self::SourceIp),
        ("remote.ip", Self::RemoteIp),
        ("source.namespace", Self::SourceNamespace),
        ("source.principal", Self::SourcePrincipal),
        ("source.serviceAccount", Self::SourceServiceAccount),
        ("source.trustDomain", Self::SourceTrustDomain),
        ("request.auth.principal", Self::RequestPrincipal),
        ("request.auth.audiences", Self::RequestAudiences),
        ("request.auth.presenter", Self::RequestPresenter),
        ("destination.ip", Self::DestinationIp),
        ("destination.port", Self::DestinationPort),
        ("connection.sni", Self::ConnectionSni),
    ];

    /// Whether it is read from a JSON web token.
    pub fn is_token(&self) -> bool {
        self.is_http_only() && !matches!(self, Self::RequestHeader(_))
    }

    /// Whether only an HTTP request has it, so that a TCP connection cannot be judged by it.
    pub fn is_http_only(&self) -> bool {
        match self {
            Self::RequestHeader(_)
            | Self::RequestPrincipal
            | Self::RequestAudiences
            | Self::RequestPresenter
            | Self::RequestClaims(_) => true,
            Self::SourceIp
            | Self::RemoteIp
            | Self::SourceNamespace
            | Self::SourcePrincipal
            | Self::SourceServiceAccount
            | Self::SourceTrustDomain
            | Self::DestinationIp
            | Self::DestinationPort
            | Self::ConnectionSni
            | Self::Metadata { .. } => false,
        }
    }

    fn parse_bracketed(text: &str) -> Option<Self> {
        let (base, rest) = text.split_at(text.find('[')?);
        let parts = bracketed(rest)?;
        match (base, parts.as_slice()) {
            (HEADERS, [name]) => Some(Self::RequestHeader((*name).to_owned())),
            (CLAIMS, names) => Some(Self::RequestClaims(
                names.iter().map(|name| (*name).to_owned()).collect(),
            )),
            (base, [key]) if base.starts_with("experimental.envoy.filters.") => Some(Self::Metadata {
                filter: base[METADATA.len()..].to_owned(),
                key: (*key).to_owned(),
            }),
            _ => None,
        }
    }
}

/// The texts of `[a][b]`. `None` if one is empty or anything stands between.
fn bracketed(mut text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (part, rest) = text.strip_prefix('[')?.split_once(']')?;
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        text = rest;
    }
    Some(parts)
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = Self::PLAIN
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, key)| key);
        plain.or_else(|| Self::parse_bracketed(text)).ok_or_else(|| {
            let names = Self::PLAIN.map(|(name, _)| name).join(", ");
            format!(
                "unknown attribute {text:?}: accepted are {names}, {HEADERS}[name], {CLAIMS}[name] and \
                 {METADATA}envoy.filters.<filter>[key]"
            )
        })
    }
}

impl FromStr for PortText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.parse().ok().and_then(Port::new);
        port.map(Self)
            .ok_or_else(|| format!("{text:?} is not a port: 1 to 65535"))
    }
}

deserialize_from_str!(Key => "use one of them", PortText => "use a port number in quotes");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_a_closed_list() {
        for (text, key) in [
            ("destination.port", Key::DestinationPort),
            ("request.headers[x-a]", Key::RequestHeader("x-a".into())),
            (
                "request.auth.claims[a][b]",
                Key::RequestClaims(vec!["a".into(), "b".into()]),
            ),
            (
                "experimental.envoy.filters.network.mysql_proxy[db.table]",
                Key::Metadata {
                    filter: "envoy.filters.network.mysql_proxy".into(),
                    key: "db.table".into(),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
        for text in [
            "",
            "source.user",
            "request.headers",
            "request.headers[]",
            "request.headers[a]b",
            "request.headers[a][b]",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
