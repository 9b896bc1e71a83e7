//! One immutable picture of the configuration, and the one cell that holds the current one.
//!
//! Invariants: a snapshot is complete when it is published and never changes; a request or connection loads it once.

mod build;
mod index;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use mesh::{ClusterName, ListenerName, RouteConfigName, listener as model, route::RouteConfig, source::Source};
use tokio::sync::watch;

pub(crate) use build::{Builder, ChainIds};
use index::ChainIndex;

use crate::{
    access_log::Loggers,
    authz::Engine,
    http::{HttpChain, RouteTable},
    map::Map,
    sniff::Inspected,
    tcp::TcpChain,
    tls::accept::Acceptor,
    upstream::cluster::Cluster,
};

/// Identifies a filter chain over snapshots: the same listener, match and TLS settings keep their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChainId(u64);

impl ChainId {
    /// Of a connection that no chain matches. No chain has it.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// The configuration in force.
#[derive(Default)]
pub(crate) struct Snapshot {
    listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// By address, and whether they have a socket of their own.
    by_address: HashMap<(SocketAddr, bool), Arc<Listener>>,
    chains: Map<ChainId, Arc<Chain>>,
    clusters: Map<ClusterName, Arc<Cluster>>,
    /// By name and source: the same name from two sources is two route configurations.
    routes: Map<RoutesKey, Routes>,
}

/// A listener.
pub(crate) struct Listener {
    settings: Arc<model::Listener>,
    index: ChainIndex,
    /// In the order of the settings; the default chain, if there is one, comes last.
    chains: Vec<Arc<Chain>>,
    logs: Arc<Loggers>,
}

/// A filter chain.
pub(crate) struct Chain {
    /// Identifies it over snapshots.
    pub(crate) id: ChainId,
    /// `%FILTER_CHAIN_NAME%`.
    pub(crate) name: Option<Arc<str>>,
    /// Its settings.
    pub(crate) settings: model::FilterChain,
    /// Ends TLS. `None`: bytes are taken as they come.
    pub(crate) tls: Option<Arc<Acceptor>>,
    /// Network authorization.
    pub(crate) authz: Engine,
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

/// What a route configuration is known by.
pub(crate) type RoutesKey = (RouteConfigName, Source);

struct Routes {
    settings: Arc<RouteConfig>,
    table: Arc<RouteTable>,
}

/// The one cell that holds the current snapshot, with notice of every change.
pub(crate) struct SnapshotCell {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<()>,
}

impl Snapshot {
    /// A cluster.
    pub(crate) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// All clusters.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// A route configuration.
    pub(crate) fn routes(&self, key: &RoutesKey) -> Option<&Arc<RouteTable>> {
        self.routes.get(key).map(|routes| &routes.table)
    }

    /// A listener.
    pub(crate) fn listener(&self, name: &ListenerName) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// All listeners, in order of their names.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values()
    }

    /// The listener that takes over a redirected connection: that of its exact original destination, or of its port on any
    /// address.
    pub(crate) fn redirected(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let any = match destination.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let at = |address| self.by_address.get(&(address, false));
        at(destination).or_else(|| at(SocketAddr::new(any, destination.port())))
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

impl Listener {
    /// Its settings.
    pub(crate) fn settings(&self) -> &Arc<model::Listener> {
        &self.settings
    }

    /// The filter chain for a connection to `port` of which `inspected` is known.
    pub(crate) fn choose(&self, port: u16, inspected: &Inspected) -> Option<&Arc<Chain>> {
        let default = self.settings.filter_chains.len();
        self.chains.get(self.index.choose(port, inspected).unwrap_or(default))
    }

    /// Its own access logs.
    pub(crate) fn logs(&self) -> &Arc<Loggers> {
        &self.logs
    }
}

impl SnapshotCell {
    /// Holds an empty snapshot.
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwap::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// The current snapshot, for a short look.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current snapshot, to keep for the life of a request or connection.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes a snapshot, then wakes whoever [subscribed](Self::subscribe).
    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
        self.changed.send_replace(());
    }

    /// Resolves `changed()` after each publication that follows. Several may be seen as one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
