//! A bundle in encoded form, made from the one before it: what did not change is neither encoded nor kept twice.
//!
//! Invariant: the resources are those of [`ResourceSet::encode`], byte for byte.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use super::{Entry, ResourceSet, set::resources};
use crate::{
    RouteConfigName,
    bundle::Bundle,
    route::RouteConfig,
    xds::{Any, Resource, ResourceType, encode},
};

/// A bundle and its encoding.
#[derive(Debug, Default)]
pub struct Encoding {
    bundle: Bundle,
    set: Arc<ResourceSet>,
    hosts: BTreeMap<RouteConfigName, Places>,
}

/// Where each virtual host is in its encoded route configuration, by the address of the host, which the bundle keeps from being
/// used again.
type Places = HashMap<usize, Range<usize>>;

impl Encoding {
    /// The encoded resources.
    pub fn set(&self) -> &Arc<ResourceSet> {
        &self.set
    }

    /// The encoding of the bundle that follows.
    #[must_use]
    pub fn followed_by(&self, mut bundle: Bundle) -> Self {
        share(&mut bundle.clusters, &self.bundle.clusters);
        share(&mut bundle.endpoints, &self.bundle.endpoints);
        share(&mut bundle.listeners, &self.bundle.listeners);
        for (name, config) in &mut bundle.routes {
            if let Some(former) = self.bundle.routes.get(name) {
                share_hosts(config, former);
            }
        }
        let mut hosts = BTreeMap::new();
        let entries: Vec<_> = resources(bundle.clone())
            .map(|resource| (resource.resource_type(), self.entry(&resource, &mut hosts)))
            .collect();
        Self {
            bundle,
            set: Arc::new(ResourceSet::new(entries)),
            hosts,
        }
    }

    fn entry(&self, resource: &Resource, hosts: &mut BTreeMap<RouteConfigName, Places>) -> Arc<Entry> {
        let known = self.set.get(resource.resource_type(), resource.name());
        if let Some(known) = known.filter(|_| self.has(resource)) {
            if let Resource::RouteConfig(config) = resource {
                let places = self.hosts.get(&config.name).cloned().unwrap_or_default();
                hosts.insert(config.name.clone(), places);
            }
            return Arc::clone(known);
        }
        let any = match resource {
            Resource::RouteConfig(config) => {
                let (any, places) = self.route_config(config);
                hosts.insert(config.name.clone(), places);
                any
            }
            Resource::Cluster(_) | Resource::Endpoints(..) | Resource::Listener(_) => resource.encode(),
        };
        Arc::new(Entry::new(resource, any))
    }

    /// Whether this very resource is in the bundle.
    fn has(&self, resource: &Resource) -> bool {
        let Bundle {
            listeners,
            routes,
            clusters,
            endpoints,
        } = &self.bundle;
        match resource {
            Resource::Cluster(it) => clusters.get(&it.name).is_some_and(|known| Arc::ptr_eq(known, it)),
            Resource::Endpoints(name, it) => endpoints.get(name).is_some_and(|known| Arc::ptr_eq(known, it)),
            Resource::Listener(it) => listeners.get(&it.name).is_some_and(|known| Arc::ptr_eq(known, it)),
            Resource::RouteConfig(it) => routes.get(&it.name).is_some_and(|known| Arc::ptr_eq(known, it)),
        }
    }

    /// A route configuration, of which what was encoded before is copied.
    fn route_config(&self, config: &RouteConfig) -> (Any, Places) {
        let former = self.hosts.get(&config.name);
        let bytes = self.set.get(ResourceType::RouteConfig, config.name.as_str());
        let former = former.zip(bytes.map(|entry| entry.any.value.as_slice()));
        let mut places = Places::with_capacity(config.virtual_hosts.len());
        let value = encode::route_config_in_parts(config, |host, out| {
            let (address, start) = (Arc::as_ptr(host).addr(), out.len());
            let known = former.and_then(|(places, bytes)| bytes.get(places.get(&address)?.clone()));
            match known {
                Some(known) => out.extend_from_slice(known),
                None => encode::put_virtual_host(host, out),
            }
            places.insert(address, start..out.len());
        });
        let any = Any {
            type_url: ResourceType::RouteConfig.type_url().to_owned(),
            value,
        };
        (any, places)
    }
}

/// Puts what was there before in place of what equals it.
fn share<K: Ord, V: Eq>(new: &mut BTreeMap<K, Arc<V>>, former: &BTreeMap<K, Arc<V>>) {
    let mut former = former.iter().peekable();
    for (name, value) in new {
        while former.next_if(|(other, _)| *other < name).is_some() {}
        if let Some((_, same)) = former.next_if(|(other, same)| *other == name && *same == value) {
            *value = Arc::clone(same);
        }
    }
}

/// The same for the virtual hosts of a route configuration, and for all of it.
fn share_hosts(config: &mut Arc<RouteConfig>, former: &Arc<RouteConfig>) {
    let known = former.virtual_hosts.iter().map(|host| (host.name.as_str(), host));
    let known: HashMap<_, _> = known.collect();
    for host in &mut Arc::make_mut(config).virtual_hosts {
        if let Some(same) = known.get(host.name.as_str()).filter(|known| **known == host) {
            *host = Arc::clone(same);
        }
    }
    if config == former {
        *config = Arc::clone(former);
    }
}
