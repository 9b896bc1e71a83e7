//! Who a proxy says it is to its control plane, in Istio's words: the node id and the metadata keys that are read there.
//!
//! Invariant: [`Pod::node`] says everything that decides what the proxy gets, and nothing else.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};

use super::bootstrap::Node;

/// Where a proxy runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The name, unique in the namespace.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The service account, which its certificate must carry.
    pub service_account: String,
    /// The labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// The address that others reach it at.
    pub address: IpAddr,
}

/// What a proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves the `Gateway` resources that select its pod.
    Gateway,
    /// Serves the connections that its pod's application makes.
    Sidecar {
        /// How they reach it.
        interception: Interception,
        /// The loopback port of the explicit proxy. `None`: the mesh's, if the mesh has one.
        http_proxy_port: Option<u16>,
    },
}

/// How an application's connections reach its sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interception {
    /// The kernel redirects them.
    #[default]
    Redirect,
    /// Not at all: only through the explicit proxy.
    None,
}

/// The domain of a cluster's services.
const CLUSTER_DOMAIN: &str = "cluster.local";

impl Pod {
    /// The node of an ADS stream's first request, for the pod's proxy.
    pub fn node(&self, role: Role) -> Node {
        let namespace = &self.namespace;
        Node {
            id: format!(
                "{}~{}~{}.{namespace}~{namespace}.svc.{CLUSTER_DOMAIN}",
                role.word(),
                self.address,
                self.name
            ),
            cluster: format!("{}.{namespace}", self.application()),
            metadata: self.metadata(role),
        }
    }

    /// Istio's canonical name of a workload: that of its `app` label, if it has one.
    fn application(&self) -> &str {
        self.labels.get("app").unwrap_or(&self.name)
    }

    fn metadata(&self, role: Role) -> Map<String, Value> {
        let labels: Map<_, _> = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let mut metadata = Map::new();
        metadata.insert("NAMESPACE".into(), self.namespace.clone().into());
        metadata.insert("SERVICE_ACCOUNT".into(), self.service_account.clone().into());
        metadata.insert("LABELS".into(), labels.into());
        metadata.insert("INSTANCE_IPS".into(), self.address.to_string().into());
        if let Role::Sidecar {
            interception,
            http_proxy_port,
        } = role
        {
            metadata.insert("INTERCEPTION_MODE".into(), interception.word().into());
            if let Some(port) = http_proxy_port {
                // A string, as everything that Istio takes from a pod's environment.
                metadata.insert("HTTP_PROXY_PORT".into(), port.to_string().into());
            }
        }
        metadata
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Gateway => "router",
            Self::Sidecar { .. } => "sidecar",
        }
    }
}

impl Interception {
    fn word(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::None => "NONE",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        Pod {
            name: "test-1".into(),
            namespace: "team-x".into(),
            service_account: "test".into(),
            labels: BTreeMap::from([("app".into(), "shop".into())]),
            address: IpAddr::from([10, 1, 0, 17]),
        }
    }

    #[test]
    fn a_sidecar_says_how_connections_reach_it() {
        let node = pod().node(Role::Sidecar {
            interception: Interception::Redirect,
            http_proxy_port: Some(15080),
        });
        let expected = json!({
            "NAMESPACE": "team-x", "SERVICE_ACCOUNT": "test", "LABELS": {"app": "shop"}, "INSTANCE_IPS": "10.1.0.17",
            "INTERCEPTION_MODE": "REDIRECT", "HTTP_PROXY_PORT": "15080",
        });
        assert_eq!(node.id, "sidecar~10.1.0.17~test-1.team-x~team-x.svc.cluster.local");
        assert_eq!(node.cluster, "shop.team-x");
        assert_eq!(Value::Object(node.metadata), expected);
    }

    #[test]
    fn a_gateway_says_nothing_about_interception() {
        let node = pod().node(Role::Gateway);
        let expected = json!({
            "NAMESPACE": "team-x", "SERVICE_ACCOUNT": "test", "LABELS": {"app": "shop"}, "INSTANCE_IPS": "10.1.0.17",
        });
        assert_eq!(node.id, "router~10.1.0.17~test-1.team-x~team-x.svc.cluster.local");
        assert_eq!(Value::Object(node.metadata), expected);
    }
}
