//! The bootstrap: what a proxy knows before it speaks to a control plane, in Envoy's own file format.

use std::{collections::BTreeMap, net::SocketAddr};

use prost::Message as _;
use serde_json::{Map, Value};

use super::{
    DecodeError, decode,
    json::{self, JsonError},
};
use crate::{ClusterName, SecretName, cluster::Cluster, listener::Listener, secret::SecretContent, source::Source};

/// What a bootstrap file says, as far as it is supported.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bootstrap {
    /// Who this proxy is.
    pub node: Node,
    /// Where the admin interface listens. `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Listeners that are there from the start.
    pub listeners: Vec<Listener>,
    /// Clusters that are there from the start, such as the control plane's.
    pub clusters: Vec<Cluster>,
    /// Secrets by name.
    pub secrets: BTreeMap<SecretName, SecretContent>,
    /// Where further listeners come from. `None`: there are no others.
    pub listeners_from: Option<Source>,
    /// Where further clusters come from. `None`: there are no others.
    pub clusters_from: Option<Source>,
    /// The control plane. `None`: nothing comes from one.
    pub ads: Option<Ads>,
    /// DNS servers. Empty: the system's.
    pub resolvers: Vec<SocketAddr>,
}

/// Who a proxy is, for the control plane.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// `router~10.1.4.12~egress-0.istio-egress~istio-egress.svc.cluster.local`.
    pub id: String,
    /// The service it belongs to.
    pub cluster: String,
    /// Labels and namespace, by Istio's keys.
    pub metadata: Map<String, Value>,
}

/// How the control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ads {
    /// The cluster to call.
    pub cluster: ClusterName,
    /// The incremental protocol instead of the state of the world.
    pub delta: bool,
}

/// Why a bootstrap file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// It is not a bootstrap message.
    #[error(transparent)]
    Text(#[from] JsonError),
    /// It says something that is not supported.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

impl Bootstrap {
    /// Reads a bootstrap file, JSON or YAML.
    ///
    /// # Errors
    /// The text is malformed, or uses something that is not supported; every field is named.
    pub fn parse(text: &str) -> Result<Self, BootstrapError> {
        Ok(decode::bootstrap(&json::parse_bootstrap(text)?)?)
    }

    /// Reads a bootstrap file and what is laid over it, as protobuf merges messages: single values of the latter win, lists
    /// are joined. What each says alone need not be complete.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn merge(text: &str, over: &str) -> Result<Self, BootstrapError> {
        let _descriptors = json::Descriptors::hold();
        let mut message = json::parse_bootstrap(text)?;
        let over = json::parse_bootstrap(over)?.encode_to_vec();
        let merged = message.merge(over.as_slice());
        merged.map_err(|error| JsonError::Syntax(error.to_string()))?;
        Ok(decode::bootstrap(&message)?)
    }
}
