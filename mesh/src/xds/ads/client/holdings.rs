//! What a client has accepted, and which of it can run.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    ClusterName, RouteConfigName,
    bundle::Bundle,
    cluster::Cluster,
    listener::Listener,
    xds::{
        Resource, ResourceType,
        ads::{
            Name,
            types::{ByType, endpoints_of, routes_of},
        },
    },
};

/// The accepted resources of every type, with their versions.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    bundle: Bundle,
    versions: ByType<BTreeMap<Name, String>>,
    /// Accepted, but what runs could not take them: their earlier version runs.
    unfit: ByType<BTreeSet<Name>>,
    /// What is pointed at from outside.
    outside: Arc<Outside>,
}

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
        self.versions.get(kind).get(name).map(String::as_str)
    }

    /// Versions by name, as a reconnecting client lists them.
    pub(super) fn versions(&self, kind: ResourceType) -> HashMap<String, String> {
        let versions = self.versions.get(kind).iter();
        versions
            .map(|(name, version)| (name.to_string(), version.clone()))
            .collect()
    }

    pub(super) fn names(&self, kind: ResourceType) -> impl Iterator<Item = &Name> {
        self.versions.get(kind).keys()
    }

    pub(super) fn len(&self, kind: ResourceType) -> usize {
        self.versions.get(kind).len()
    }

    pub(super) fn insert(&mut self, resource: Resource, version: String) {
        let (kind, name) = (resource.resource_type(), Name::from(resource.name()));
        self.unfit.get_mut(kind).remove(&name);
        self.versions.get_mut(kind).insert(name, version);
        match resource {
            Resource::Cluster(cluster) => drop(self.bundle.clusters.insert(cluster.name.clone(), cluster)),
            Resource::Endpoints(name, endpoints) => drop(self.bundle.endpoints.insert(name, endpoints)),
            Resource::Listener(listener) => drop(self.bundle.listeners.insert(listener.name.clone(), listener)),
            Resource::RouteConfig(routes) => drop(self.bundle.routes.insert(routes.name.clone(), routes)),
        }
    }

    pub(super) fn remove(&mut self, kind: ResourceType, name: &str) {
        self.versions.get_mut(kind).remove(name);
        self.unfit.get_mut(kind).remove(name);
        match kind {
            ResourceType::Cluster => drop(self.bundle.clusters.remove(name)),
            ResourceType::Endpoints => drop(self.bundle.endpoints.remove(name)),
            ResourceType::Listener => drop(self.bundle.listeners.remove(name)),
            ResourceType::RouteConfig => drop(self.bundle.routes.remove(name)),
            ResourceType::Secret => {}
        }
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
            self.insert(resource, version.to_owned());
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
        let clusters = self.choose(
            ResourceType::Cluster,
            &self.bundle.clusters,
            &active.clusters,
            |cluster| self.is_warm_cluster(cluster),
        );
        let listeners = self.choose(
            ResourceType::Listener,
            &self.bundle.listeners,
            &active.listeners,
            |listener| self.is_warm_listener(listener),
        );
        let endpoints = self.choose(
            ResourceType::Endpoints,
            &self.bundle.endpoints,
            &active.endpoints,
            |_| true,
        );
        let routes = self.choose(ResourceType::RouteConfig, &self.bundle.routes, &active.routes, |_| true);
        let mut bundle = Bundle {
            listeners,
            routes,
            clusters,
            endpoints,
        };
        self.drop_unused(&mut bundle);
        bundle
    }

    /// The accepted version where it is fit and warm, else the one that runs.
    fn choose<K, V>(
        &self,
        kind: ResourceType,
        accepted: &BTreeMap<K, V>,
        running: &BTreeMap<K, V>,
        is_warm: impl Fn(&V) -> bool,
    ) -> BTreeMap<K, V>
    where
        K: Ord + Clone + Borrow<str>,
        V: Clone,
    {
        let unfit = self.unfit.get(kind);
        let chosen = accepted.iter().filter_map(|(name, value)| {
            let takes = !unfit.contains(name.borrow()) && is_warm(value);
            let value = if takes { Some(value) } else { running.get(name.borrow()) };
            Some((name.clone(), value?.clone()))
        });
        chosen.collect()
    }

    /// Drops endpoints and route configurations that nothing points at.
    fn drop_unused(&self, bundle: &mut Bundle) {
        let used = bundle.clusters.values().filter_map(|cluster| endpoints_of(cluster));
        let used: BTreeSet<&ClusterName> = used.chain(&self.outside.endpoints).collect();
        bundle.endpoints.retain(|name, _| used.contains(name));
        let used = bundle.listeners.values().flat_map(|listener| routes_of(listener));
        let used: BTreeSet<&RouteConfigName> = used.chain(&self.outside.routes).collect();
        bundle.routes.retain(|name, _| used.contains(name));
    }
}
