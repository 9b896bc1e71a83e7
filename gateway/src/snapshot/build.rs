//! What is desired becomes a snapshot, off the data path.
//!
//! Resources are judged one by one: what cannot be taken is named, and its last good version stays. What did not change is
//! carried over as it is, so that work is proportional to the change and run-time state (hosts, breakers, TLS sessions)
//! survives it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh::{
    cluster,
    listener::{self as model, FilterChain, FilterChainMatch, Protocol},
    route::RouteConfig,
    source::Source,
};

use super::{Chain, ChainId, ChainIndex, Listener, Routes, RoutesKey, Serve, Snapshot};
use crate::{
    Rejected, Resource,
    access_log::{Loggers, Sinks},
    authz::Engine,
    catalog::{Desired, Origin},
    http::{Former, HttpChain, RouteTable},
    tcp::TcpChain,
    tls::{
        accept::Acceptor,
        secrets::{self, Reference},
    },
    upstream::cluster::{Cluster, Environment},
};

/// Gives filter chains their ids.
#[derive(Debug, Default)]
pub(crate) struct ChainIds(AtomicU64);

/// Builds one snapshot.
pub(crate) struct Builder<'a> {
    /// The snapshot in force.
    pub(crate) previous: &'a Snapshot,
    /// What clusters need.
    pub(crate) environment: Environment<'a>,
    /// Open log files.
    pub(crate) sinks: &'a Sinks,
    /// Ids of filter chains.
    pub(crate) ids: &'a ChainIds,
    /// What could not be taken, and where it comes from if that is not its kind's only source.
    pub(crate) rejected: Vec<(Source, Rejected)>,
}

impl ChainIds {
    fn next(&self) -> ChainId {
        ChainId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Builder<'_> {
    /// Builds the snapshot of what is desired.
    pub(crate) fn build(mut self, desired: &Desired<'_>) -> (Snapshot, Vec<(Source, Rejected)>) {
        let mut next = Snapshot::default();
        next.clusters.reserve(desired.clusters.len());
        for settings in desired.clusters.values() {
            if let Some(cluster) = self.cluster(settings, desired) {
                next.clusters.insert(settings.name.clone(), cluster);
            }
        }
        for ((name, origin), settings) in &desired.routes {
            let key = ((*name).clone(), origin.source());
            if let Some(routes) = self.routes(&key, settings) {
                next.routes.insert(key, routes);
            }
        }
        // Those that stay as they are come first: nobody else gets their addresses.
        let (same, changed): (Vec<_>, Vec<_>) = desired.listeners.values().partition(|settings| {
            let previous = self.previous.listener(&settings.name);
            previous.is_some_and(|previous| previous.settings == ***settings)
        });
        for settings in same.into_iter().chain(changed) {
            if let Some(listener) = self.listener(settings, &next) {
                next.insert(listener);
            }
        }
        (next, self.rejected)
    }

    fn reject(&mut self, resource: Resource, name: &impl ToString, reason: String) {
        self.reject_of(&Source::Ads, resource, name, reason);
    }

    fn reject_of(&mut self, source: &Source, resource: Resource, name: &impl ToString, reason: String) {
        let rejected = Rejected {
            resource,
            name: name.to_string(),
            reason,
        };
        self.rejected.push((source.clone(), rejected));
    }

    fn cluster(&mut self, settings: &Arc<cluster::Cluster>, desired: &Desired<'_>) -> Option<Arc<Cluster>> {
        let previous = self.previous.cluster(&settings.name);
        let pointer = settings.endpoints();
        let endpoints = pointer.and_then(|(name, source)| desired.endpoints.get(&(name, Origin::of(source))).copied());
        if let Some(same) = previous.filter(|previous| previous.settings() == settings) {
            if let (Some((name, source)), Err(reason)) = (pointer, same.update(endpoints)) {
                self.reject_of(source, Resource::Endpoints, name, reason);
            }
            return Some(same.clone());
        }
        let waits = pointer.is_some() && endpoints.is_none();
        // Nothing is lost by letting an unknown cluster in without endpoints, but without its secrets it cannot be built.
        if waits && previous.is_some() || self.lacks(secrets::of_cluster(settings)) {
            return previous.cloned();
        }
        match Cluster::start(settings, endpoints, &self.environment) {
            Ok(cluster) => Some(Arc::new(cluster)),
            Err(reason) => {
                self.reject(Resource::Cluster, &settings.name, reason);
                previous.cloned()
            }
        }
    }

    fn routes(&mut self, key: &RoutesKey, settings: &Arc<RouteConfig>) -> Option<Routes> {
        let previous = self.previous.routes.get(key);
        if let Some(same) = previous.filter(|previous| previous.settings == *settings) {
            return Some(same.clone());
        }
        let former = previous.map(|previous| Former {
            config: &previous.settings,
            table: &previous.table,
        });
        match RouteTable::build_after(settings, former) {
            Ok(table) => Some(Routes {
                settings: settings.clone(),
                table: Arc::new(table),
            }),
            Err(reason) => {
                self.reject_of(&key.1, Resource::Routes, &key.0, reason);
                previous.cloned()
            }
        }
    }

    /// A listener whose routes or secrets are not there yet waits for them: its last version stays, a new one is not opened.
    fn listener(&mut self, settings: &Arc<model::Listener>, next: &Snapshot) -> Option<Arc<Listener>> {
        let previous = self.previous.listener(&settings.name);
        let same = previous.filter(|previous| previous.settings == *settings);
        if same.is_some() || lacks_routes(settings, next) || self.lacks(secrets::of_listener(settings)) {
            return same.or(previous).cloned();
        }
        let built = no_conflict(settings, next).and_then(|()| self.build_listener(settings, previous));
        match built {
            Ok(listener) => Some(Arc::new(listener)),
            Err(reason) => {
                self.reject(Resource::Listener, &settings.name, reason);
                previous.cloned()
            }
        }
    }

    /// Whether a secret has not arrived. All of them are asked for.
    fn lacks<'a>(&self, references: impl Iterator<Item = Reference<'a>>) -> bool {
        let awaited = references.filter(|reference| self.environment.secrets.is_awaited(*reference));
        awaited.count() > 0
    }

    fn build_listener(
        &self,
        settings: &Arc<model::Listener>,
        previous: Option<&Arc<Listener>>,
    ) -> Result<Listener, String> {
        let known = Known::of(previous);
        let matching = settings.filter_chains.iter();
        let matching = matching.map(|chain| self.named_chain(chain, known.matching.get(&chain.matches).copied()));
        let default = settings.default_filter_chain.iter();
        let default = default.map(|chain| self.named_chain(chain, known.default));
        let logs = Loggers::build(&settings.access_logs, self.sinks).map_err(|error| error.to_string())?;
        Ok(Listener {
            settings: settings.clone(),
            index: ChainIndex::build(&settings.filter_chains)?,
            chains: matching.chain(default).collect::<Result<_, _>>()?,
            logs: Arc::new(logs),
        })
    }

    fn named_chain(&self, settings: &FilterChain, known: Option<&Arc<Chain>>) -> Result<Arc<Chain>, String> {
        let name = settings.name.as_deref().unwrap_or("without a name");
        self.chain(settings, known)
            .map_err(|reason| format!("filter chain {name}: {reason}"))
    }

    fn chain(&self, settings: &FilterChain, known: Option<&Arc<Chain>>) -> Result<Arc<Chain>, String> {
        if let Some(same) = known.filter(|known| known.settings == *settings) {
            return Ok(same.clone());
        }
        let same_tls = known.filter(|known| known.settings.tls == settings.tls);
        let (id, tls) = match (same_tls, &settings.tls) {
            (Some(known), _) => (known.id, known.tls.clone()),
            (None, None) => (self.ids.next(), None),
            (None, Some(tls)) => {
                let acceptor = Acceptor::build(tls, self.environment.secrets)?;
                (self.ids.next(), Some(Arc::new(acceptor)))
            }
        };
        Ok(Arc::new(Chain {
            id,
            name: settings.name.as_deref().map(Into::into),
            settings: settings.clone(),
            tls,
            authz: Engine::build(&settings.rbac),
            serve: match &settings.protocol {
                Protocol::Http(http) => Serve::Http(Arc::new(HttpChain::build(http, self.sinks)?)),
                Protocol::Tcp(tcp) => Serve::Tcp(Arc::new(TcpChain::build(tcp, self.sinks)?)),
            },
        }))
    }
}

impl Snapshot {
    fn insert(&mut self, listener: Arc<Listener>) {
        let place = (listener.settings.address, listener.settings.bind_to_port);
        self.by_address.insert(place, listener.clone());
        self.chains
            .extend(listener.chains.iter().map(|chain| (chain.id, chain.clone())));
        self.listeners.insert(listener.settings.name.clone(), listener);
    }
}

/// The chains of a listener's last version, by what they match.
#[derive(Default)]
struct Known<'a> {
    matching: HashMap<&'a FilterChainMatch, &'a Arc<Chain>>,
    default: Option<&'a Arc<Chain>>,
}

impl<'a> Known<'a> {
    fn of(listener: Option<&'a Arc<Listener>>) -> Self {
        let Some(listener) = listener else {
            return Self::default();
        };
        let matching = listener
            .chains
            .get(..listener.settings.filter_chains.len())
            .unwrap_or_default();
        Self {
            matching: matching.iter().map(|chain| (&chain.settings.matches, chain)).collect(),
            default: listener.chains.get(matching.len()),
        }
    }
}

impl Clone for Routes {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            table: self.table.clone(),
        }
    }
}

fn lacks_routes(settings: &model::Listener, next: &Snapshot) -> bool {
    let mut routes = settings.routes();
    routes.any(|(name, source)| next.routes(&(name.clone(), source.clone())).is_none())
}

/// Two listeners on one address would share its connections between them at random.
fn no_conflict(settings: &model::Listener, next: &Snapshot) -> Result<(), String> {
    let place = (settings.address, settings.bind_to_port);
    match next.by_address.get(&place) {
        Some(other) if place.0.port() != 0 => Err(format!(
            "listener {} has the same address {}",
            other.settings.name, place.0
        )),
        _ => Ok(()),
    }
}
