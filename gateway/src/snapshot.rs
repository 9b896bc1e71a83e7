//! One immutable picture of the configuration, and the one cell that holds the current one.
//!
//! Invariants: a snapshot is complete when it is published and never changes; a request or connection loads it once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use mesh::{ClusterName, ListenerName, RouteConfigName, authz::RbacFilter, listener as model};

use crate::{http::HttpChain, tcp::TcpChain, upstream::cluster::Cluster};

/// Identifies a filter chain over snapshots: the same listener, match and TLS settings keep their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChainId(pub(crate) u64);

/// The configuration in force.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// Counts publications.
    pub(crate) version: u64,
    pub(crate) listeners: BTreeMap<ListenerName, Arc<Listener>>,
    pub(crate) chains: HashMap<ChainId, Arc<Chain>>,
    pub(crate) clusters: HashMap<ClusterName, Arc<Cluster>>,
    pub(crate) routes: HashMap<RouteConfigName, Arc<mesh::route::RouteConfig>>,
}

/// A listener.
pub(crate) struct Listener {
    /// Its settings.
    pub(crate) settings: model::Listener,
}

/// A filter chain.
pub(crate) struct Chain {
    /// Identifies it over snapshots.
    pub(crate) id: ChainId,
    /// `%FILTER_CHAIN_NAME%`.
    pub(crate) name: Option<Arc<str>>,
    /// Bound on the TLS handshake.
    pub(crate) handshake_timeout: Option<Duration>,
    /// Network RBAC filters, in order.
    pub(crate) rbac: Vec<RbacFilter>,
    /// What becomes of a connection.
    pub(crate) serve: Serve,
}

/// What becomes of a connection.
pub(crate) enum Serve {
    /// Requests are read from it.
    Http(Arc<HttpChain>),
    /// Its bytes are relayed.
    Tcp(Arc<TcpChain>),
}

/// The one cell that holds the current snapshot.
#[derive(Default)]
pub(crate) struct SnapshotCell(ArcSwap<Snapshot>);

impl Snapshot {
    /// A cluster.
    pub(crate) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// A route configuration.
    pub(crate) fn routes(&self, name: &RouteConfigName) -> Option<&Arc<mesh::route::RouteConfig>> {
        self.routes.get(name)
    }

    /// A filter chain as it is now. `None`: it was removed or its TLS settings changed, so that what it serves should end.
    pub(crate) fn chain(&self, id: ChainId) -> Option<&Arc<Chain>> {
        self.chains.get(&id)
    }

    /// The same, if the chain serves HTTP.
    pub(crate) fn http_chain(&self, id: ChainId) -> Option<&Arc<HttpChain>> {
        match &self.chain(id)?.serve {
            Serve::Http(http) => Some(http),
            Serve::Tcp(_) => None,
        }
    }
}

impl SnapshotCell {
    /// The current snapshot, for a short look.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The current snapshot, to keep for the life of a request or connection.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Publishes a snapshot.
    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }
}
