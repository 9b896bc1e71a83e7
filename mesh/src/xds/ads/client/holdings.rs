//! What a client has accepted, and which of it can run.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    ClusterName, ListenerName, RouteConfigName,
    bundle::Bundle,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
    xds::{
        Resource, ResourceType,
        ads::{
            Name,
            types::{ByType, endpoints_of, routes_of},
        },
        decode::KnownHosts,
    },
};

/// The accepted resources of every type, with their versions.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    bundle: Bundle,
    versions: ByType<BTreeMap<Name, Name>>,
    /// What the virtual hosts of each route configuration were read from.
    hosts: BTreeMap<Name, KnownHosts>,
    /// Accepted, but what runs could not take them: their earlier version runs.
    unfit: ByType<BTreeSet<Name>>,
    /// What is pointed at from outside.
    outside: Arc<Outside>,
    /// That has changed since it was last chosen what can run.
    outside_is_news: bool,
}

/// Resources of a type.
type ByName<K, V> = BTreeMap<K, Arc<V>>;

/// What listeners and clusters that are not the control plane's point at, and it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// Route configurations, as static listeners and those from files name them.
    pub routes: BTreeSet<RouteConfigName>,
    /// Endpoint resources, as static clusters and those from files name them.
    pub endpoints: BTreeSet<ClusterName>,
}

impl Holdings {
    pub(super) fn version(&self, kind: ResourceType, name: &str) -> Option<&str> {
        self.versions.get(kind).get(name).map(|version| &**version)
    }

    /// Versions by name, as a reconnecting client lists them.
    pub(super) fn versions(&self, kind: ResourceType) -> HashMap<String, String> {
        let versions = self.versions.get(kind).iter();
        versions
            .map(|(name, version)| (name.to_string(), version.to_string()))
            .collect()
    }

    pub(super) fn names(&self, kind: ResourceType) -> impl Iterator<Item = &Name> {
        self.versions.get(kind).keys()
    }

    pub(super) fn len(&self, kind: ResourceType) -> usize {
        self.versions.get(kind).len()
    }

    pub(super) fn insert(&mut self, resource: Resource, version: Name) {
        let (kind, name) = (resource.resource_type(), Name::from(resource.name()));
        self.unfit.get_mut(kind).remove(&name);
        self.versions.get_mut(kind).insert(name, version);
        self.bundle.insert(resource);
    }

    pub(super) fn remove(&mut self, kind: ResourceType, name: &str) {
        self.versions.get_mut(kind).remove(name);
        self.unfit.get_mut(kind).remove(name);
        match kind {
            ResourceType::Cluster => drop(self.bundle.clusters.remove(name)),
            ResourceType::Endpoints => drop(self.bundle.endpoints.remove(name)),
            ResourceType::Listener => drop(self.bundle.listeners.remove(name)),
            ResourceType::RouteConfig => {
                self.bundle.routes.remove(name);
                self.hosts.remove(name);
            }
            ResourceType::Secret => {}
        }
    }

    /// What the virtual hosts of a route configuration were read from.
    pub(super) fn hosts_of(&self, routes: &str) -> KnownHosts {
        self.hosts.get(routes).cloned().unwrap_or_default()
    }

    /// Notes the same.
    pub(super) fn note_hosts(&mut self, routes: &str, hosts: KnownHosts) {
        self.hosts.insert(routes.into(), hosts);
    }

    /// Gives a resource the version that `former` has of it.
    pub(super) fn restore(&mut self, kind: ResourceType, name: &str, former: &Self) {
        self.remove(kind, name);
        let resource = match kind {
            ResourceType::Cluster => former.bundle.clusters.get(name).cloned().map(Resource::Cluster),
            ResourceType::Listener => former.bundle.listeners.get(name).cloned().map(Resource::Listener),
            ResourceType::RouteConfig => former.bundle.routes.get(name).cloned().map(Resource::RouteConfig),
            ResourceType::Endpoints => {
                let known = former.bundle.endpoints.get_key_value(name);
                known.map(|(name, endpoints)| Resource::Endpoints(name.clone(), endpoints.clone()))
            }
            ResourceType::Secret => None,
        };
        if let (Some(resource), Some(version)) = (resource, former.version(kind, name)) {
            self.insert(resource, version.into());
        }
        if former.unfit.get(kind).contains(name) {
            self.unfit.get_mut(kind).insert(name.into());
        }
    }

    /// Notes that what runs cannot take a resource; `false` if that is known, or there is no such resource.
    pub(super) fn mark_unfit(&mut self, kind: ResourceType, name: &Name) -> bool {
        self.versions.get(kind).contains_key(name) && self.unfit.get_mut(kind).insert(name.clone())
    }

    /// What is pointed at from outside.
    pub(super) fn set_outside(&mut self, outside: Arc<Outside>) {
        self.outside_is_news |= *self.outside != *outside;
        self.outside = outside;
    }

    /// Drops what is not in `names`.
    pub(super) fn retain(&mut self, kind: ResourceType, names: &BTreeSet<Name>) {
        let dropped: Vec<_> = self
            .names(kind)
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in dropped {
            self.remove(kind, &name);
        }
    }

    /// The names of a type that accepted or running resources point at.
    pub(super) fn pointed_at(&self, kind: ResourceType, active: &Bundle) -> BTreeSet<Name> {
        let bundles = [&self.bundle, active];
        match kind {
            ResourceType::Endpoints => {
                let clusters = bundles.into_iter().flat_map(|bundle| bundle.clusters.values());
                let names = clusters
                    .filter_map(|cluster| endpoints_of(cluster))
                    .chain(&self.outside.endpoints);
                names.map(|name| name.as_str().into()).collect()
            }
            ResourceType::RouteConfig => {
                let listeners = bundles.into_iter().flat_map(|bundle| bundle.listeners.values());
                let names = listeners
                    .flat_map(|listener| routes_of(listener))
                    .chain(&self.outside.routes);
                names.map(|name| name.as_str().into()).collect()
            }
            ResourceType::Cluster | ResourceType::Listener | ResourceType::Secret => BTreeSet::new(),
        }
    }

    pub(super) fn warming(&self) -> Vec<(ResourceType, Name)> {
        let clusters = self
            .bundle
            .clusters
            .values()
            .filter(|cluster| !self.is_warm_cluster(cluster));
        let listeners = self
            .bundle
            .listeners
            .values()
            .filter(|listener| !self.is_warm_listener(listener));
        let clusters = clusters.map(|cluster| (ResourceType::Cluster, cluster.name.as_str().into()));
        let listeners = listeners.map(|listener| (ResourceType::Listener, listener.name.as_str().into()));
        clusters.chain(listeners).chain(self.missing_outside()).collect()
    }

    fn missing_outside(&self) -> impl Iterator<Item = (ResourceType, Name)> {
        let routes = self.outside.routes.iter();
        let routes = routes.filter(|name| !self.bundle.routes.contains_key(*name));
        let endpoints = self.outside.endpoints.iter();
        let endpoints = endpoints.filter(|name| !self.bundle.endpoints.contains_key(*name));
        let routes = routes.map(|name| (ResourceType::RouteConfig, name.as_str().into()));
        routes.chain(endpoints.map(|name| (ResourceType::Endpoints, name.as_str().into())))
    }

    fn is_warm_cluster(&self, cluster: &Cluster) -> bool {
        endpoints_of(cluster).is_none_or(|name| self.bundle.endpoints.contains_key(name))
    }

    fn is_warm_listener(&self, listener: &Listener) -> bool {
        routes_of(listener).all(|name| self.bundle.routes.contains_key(name))
    }

    /// What can run: everything accepted that has what it points at; of the rest the version in `active`.
    pub(super) fn runnable(&self, active: &Bundle) -> Bundle {
        let (listeners, routes) = self.runnable_listeners(active);
        let (clusters, endpoints) = self.runnable_clusters(active);
        Bundle {
            listeners,
            routes,
            clusters,
            endpoints,
        }
    }

    /// The same where only resources of one type have changed since `active` was chosen. Clusters and their endpoints are
    /// nothing to listeners and their routes, and there may be tens of thousands of them.
    pub(super) fn runnable_after(&mut self, changed: ResourceType, active: &Bundle) -> Bundle {
        if std::mem::take(&mut self.outside_is_news) {
            return self.runnable(active);
        }
        let mut bundle = active.clone();
        match changed {
            ResourceType::Cluster | ResourceType::Endpoints => {
                (bundle.clusters, bundle.endpoints) = self.runnable_clusters(active);
            }
            ResourceType::Listener | ResourceType::RouteConfig => {
                (bundle.listeners, bundle.routes) = self.runnable_listeners(active);
            }
            ResourceType::Secret => {}
        }
        bundle
    }

    fn runnable_clusters(&self, active: &Bundle) -> (ByName<ClusterName, Cluster>, ByName<ClusterName, Endpoints>) {
        let (kind, accepted) = (ResourceType::Cluster, &self.bundle.clusters);
        let clusters = self.choose(kind, accepted, &active.clusters, |cluster| {
            self.is_warm_cluster(cluster)
        });
        let (kind, accepted) = (ResourceType::Endpoints, &self.bundle.endpoints);
        let mut endpoints = self.choose(kind, accepted, &active.endpoints, |_| true);
        let used = clusters.values().filter_map(|cluster| endpoints_of(cluster));
        let used: BTreeSet<&ClusterName> = used.chain(&self.outside.endpoints).collect();
        endpoints.retain(|name, _| used.contains(name));
        (clusters, endpoints)
    }

    fn runnable_listeners(
        &self,
        active: &Bundle,
    ) -> (ByName<ListenerName, Listener>, ByName<RouteConfigName, RouteConfig>) {
        let (kind, accepted) = (ResourceType::Listener, &self.bundle.listeners);
        let listeners = self.choose(kind, accepted, &active.listeners, |listener| {
            self.is_warm_listener(listener)
        });
        let (kind, accepted) = (ResourceType::RouteConfig, &self.bundle.routes);
        let mut routes = self.choose(kind, accepted, &active.routes, |_| true);
        let used = listeners.values().flat_map(|listener| routes_of(listener));
        let used: BTreeSet<&RouteConfigName> = used.chain(&self.outside.routes).collect();
        routes.retain(|name, _| used.contains(name));
        (listeners, routes)
    }

    /// The accepted version where it is fit and warm, else the one that runs.
    fn choose<K, V>(
        &self,
        kind: ResourceType,
        accepted: &ByName<K, V>,
        running: &ByName<K, V>,
        is_warm: impl Fn(&V) -> bool,
    ) -> ByName<K, V>
    where
        K: Ord + Clone + Borrow<str>,
    {
        let unfit = self.unfit.get(kind);
        let chosen = accepted.iter().filter_map(|(name, value)| {
            let takes = !unfit.contains(name.borrow()) && is_warm(value);
            let value = if takes { Some(value) } else { running.get(name.borrow()) };
            Some((name.clone(), value?.clone()))
        });
        chosen.collect()
    }
}
