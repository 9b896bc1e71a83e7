//! What every object carries: which one it is, its labels and annotations.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// The name of an object, unique in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectId {
    /// The kind as written: `VirtualService`.
    pub kind: String,
    /// The namespace; empty for cluster-scoped kinds (`Namespace`).
    pub namespace: String,
    /// The name within kind and namespace.
    pub name: String,
}

/// `metadata` of a Kubernetes object, as far as proxies depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// The object's namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Annotations; some change how a Service or a policy is read.
    pub annotations: BTreeMap<String, String>,
    /// When the API server accepted the object (RFC 3339, UTC). Istio orders competing objects by it, oldest first.
    pub creation_timestamp: Option<String>,
}

/// Labels that choose workloads, as security policies write them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// All of these must be on the workload.
    pub match_labels: BTreeMap<String, String>,
}

impl ObjectId {
    /// Names an object.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Whether a selector's labels are all on a workload. An empty selector chooses every workload.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
