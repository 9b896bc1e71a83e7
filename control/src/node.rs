//! Who is asking: the proxy behind a stream, as Istio writes it into the node's id and metadata.
//!
//! The id is `<type>~<address>~<pod>.<namespace>~<namespace>.svc.<domain>`. Invariant: everything that decides what a proxy gets
//! is read here, strictly; what concerns other parts of Istio is not looked at.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use mesh::{id::SpiffeId, xds::ads};
use serde_json::Value;

use metadata::Metadata;

mod metadata;

/// A proxy, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// What it does.
    pub role: Role,
    /// Its namespace.
    pub namespace: String,
    /// Its service account; empty if it does not say.
    pub service_account: String,
    /// Its workload's labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, the first is the main one; their family decides what it listens on and resolves to.
    pub ips: Vec<IpAddr>,
    /// How its workload's connections reach it.
    pub interception: Interception,
    /// The explicit proxy's port, if it wants another one than the mesh's.
    pub http_proxy_port: Option<u16>,
}

/// What a proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `router`: serves Gateways.
    Gateway,
    /// `sidecar`: serves one workload.
    Sidecar,
}

/// How a workload's connections reach its sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Interception {
    /// The kernel redirects them.
    #[default]
    Redirect,
    /// Not at all: only through the explicit proxy. Istio would bind a port per service on loopback; we do not.
    None,
}

/// Why a stream's node cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The first request describes nobody.
    #[error("the first request has no node, it must say who is asking")]
    Missing,
    /// The id has another form.
    #[error("node id {0:?} is not <type>~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>")]
    Id(String),
    /// A part or metadata has a value that is not accepted.
    #[error("node {id}: {field} is {value:?}, {accepted}")]
    Field {
        /// The node's id.
        id: String,
        /// What is wrong.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        accepted: &'static str,
    },
}

/// The caller is not who it says it is. Istio's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authorization failed: no identities ([{identity}]) matched {namespace}/{service_account}")]
pub struct Unauthorized {
    identity: SpiffeId,
    namespace: String,
    service_account: String,
}

/// Longest id accepted. Kubernetes bounds its parts to 253 bytes each.
const MAX_ID: usize = 1024;

impl Node {
    /// Reads the description in a stream's first request.
    ///
    /// # Errors
    /// It says too little or what nobody serves.
    pub fn parse(node: &ads::Node) -> Result<Self, NodeError> {
        let id = Id::parse(&node.id)?;
        let metadata = Metadata::parse(&node.id, node.metadata.as_ref())?;
        let namespace = metadata.namespace.unwrap_or_else(|| id.namespace.to_owned());
        if namespace.is_empty() {
            return Err(field(
                &node.id,
                "namespace",
                "",
                "give NAMESPACE in its metadata or in the last part of its id",
            ));
        }
        Ok(Self {
            role: id.role,
            namespace,
            service_account: metadata.service_account,
            labels: metadata.labels,
            ips: if metadata.ips.is_empty() {
                vec![id.ip]
            } else {
                metadata.ips
            },
            interception: metadata.interception,
            http_proxy_port: metadata.http_proxy_port,
        })
    }

    /// Checks that an authenticated caller may have what this node gets: it must be of the node's namespace and, if the node
    /// names one, of its service account.
    ///
    /// # Errors
    /// It may not.
    pub fn authorize(&self, identity: &SpiffeId) -> Result<(), Unauthorized> {
        let account = self.service_account.as_str();
        if identity.namespace() == self.namespace && ["", identity.service_account()].contains(&account) {
            return Ok(());
        }
        Err(Unauthorized {
            identity: identity.clone(),
            namespace: self.namespace.clone(),
            service_account: account.to_owned(),
        })
    }
}

/// The parts of an id.
struct Id<'a> {
    role: Role,
    ip: IpAddr,
    namespace: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Result<Self, NodeError> {
        let shown = || id.chars().take(MAX_ID).collect::<String>();
        let parts: Vec<_> = id.split('~').collect();
        let ([role, ip, name, domain], 1..=MAX_ID) = (parts.as_slice(), id.len()) else {
            return Err(NodeError::Id(shown()));
        };
        if name.is_empty() {
            return Err(NodeError::Id(shown()));
        }
        Ok(Self {
            role: Role::parse(role).ok_or_else(|| field(id, "type", role, "only router and sidecar are served"))?,
            ip: ip
                .parse()
                .map_err(|_| field(id, "ip", ip, "an IP address is required"))?,
            namespace: domain.split('.').next().unwrap_or_default(),
        })
    }
}

impl Role {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "router" => Some(Self::Gateway),
            "sidecar" => Some(Self::Sidecar),
            _ => None,
        }
    }
}

fn field(id: &str, field: &'static str, value: impl fmt::Display, accepted: &'static str) -> NodeError {
    NodeError::Field {
        id: id.to_owned(),
        field,
        value: value.to_string(),
        accepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, metadata: &Value) -> ads::Node {
        ads::Node {
            id: id.to_owned(),
            metadata: Some(metadata::tests::to_struct(metadata)),
            ..ads::Node::default()
        }
    }

    const ID: &str = "router~10.0.0.1~gateway-1.istio-egress~istio-egress.svc.cluster.local";

    #[test]
    fn reads_what_istio_writes() {
        let metadata = serde_json::json!({
            "NAMESPACE": "egress", "SERVICE_ACCOUNT": "gateway", "CLUSTER_ID": "Kubernetes",
            "LABELS": {"istio": "egressgateway"}, "INSTANCE_IPS": "10.0.0.2,fd00::2",
            "INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": "15002",
        });
        let parsed = Node::parse(&node(ID, &metadata)).unwrap();
        let expected = Node {
            role: Role::Gateway,
            namespace: "egress".to_owned(),
            service_account: "gateway".to_owned(),
            labels: BTreeMap::from([("istio".to_owned(), "egressgateway".to_owned())]),
            ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            interception: Interception::None,
            http_proxy_port: Some(15002),
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_metadata_does_not_say_is_in_the_id() {
        let parsed = Node::parse(&ads::Node {
            id: ID.to_owned(),
            ..ads::Node::default()
        })
        .unwrap();
        assert_eq!(parsed.namespace, "istio-egress");
        assert_eq!(parsed.ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(parsed.interception, Interception::Redirect);
    }

    #[test]
    fn names_what_is_wrong() {
        for (id, metadata, expected) in [
            ("", serde_json::json!({}), "node id \"\" is not"),
            ("router~10.0.0.1~a", serde_json::json!({}), "is not <type>"),
            ("router~10.0.0.1~a.b~b.svc~c", serde_json::json!({}), "is not <type>"),
            (
                "waypoint~10.0.0.1~a.b~b.svc",
                serde_json::json!({}),
                "type is \"waypoint\", only router and sidecar",
            ),
            ("router~10.0.0~a.b~b.svc", serde_json::json!({}), "ip is \"10.0.0\""),
            ("router~10.0.0.1~a.b~", serde_json::json!({}), "namespace is \"\""),
            (ID, serde_json::json!({"NAMESPACE": true}), "NAMESPACE is \"true\""),
            (ID, serde_json::json!({"LABELS": ["a"]}), "LABELS is"),
            (ID, serde_json::json!({"LABELS": {"a": true}}), "LABELS is"),
            (
                ID,
                serde_json::json!({"INSTANCE_IPS": "10.0.0.1;10.0.0.2"}),
                "INSTANCE_IPS is",
            ),
            (
                ID,
                serde_json::json!({"INTERCEPTION_MODE": "TPROXY"}),
                "INTERCEPTION_MODE is",
            ),
            (
                ID,
                serde_json::json!({"HTTP_PROXY_PORT": "99999"}),
                "HTTP_PROXY_PORT is",
            ),
        ] {
            let error = Node::parse(&node(id, &metadata)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_caller_gets_only_what_its_own_namespace_and_account_get() {
        let account = |account: &str| serde_json::json!({"SERVICE_ACCOUNT": account});
        for (metadata, identity, allowed) in [
            (serde_json::json!({}), "spiffe://td/ns/istio-egress/sa/any", true),
            (serde_json::json!({}), "spiffe://td/ns/team-x/sa/any", false),
            (account("gateway"), "spiffe://td/ns/istio-egress/sa/gateway", true),
            (account("gateway"), "spiffe://td/ns/istio-egress/sa/other", false),
        ] {
            let node = Node::parse(&node(ID, &metadata)).unwrap();
            let result = node.authorize(&SpiffeId::parse(identity).unwrap());
            assert_eq!(result.is_ok(), allowed, "{identity}");
        }
        let node = Node::parse(&node(ID, &serde_json::json!({}))).unwrap();
        let error = node
            .authorize(&SpiffeId::parse("spiffe://td/ns/team-x/sa/a").unwrap())
            .unwrap_err();
        let expected = "authorization failed: no identities ([spiffe://td/ns/team-x/sa/a]) matched istio-egress/";
        assert_eq!(error.to_string(), expected);
    }
}
