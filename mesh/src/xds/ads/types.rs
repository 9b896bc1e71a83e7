//! What ADS needs to know of the types of resource: how they are subscribed to and which points at which.

use std::fmt;

use crate::{
    ClusterName, RouteConfigName,
    cluster::Cluster,
    listener::Listener,
    source::Source,
    xds::{Resource, ResourceType},
};

/// One value for each type of resource.
#[derive(Debug, Clone, Default)]
pub(super) struct ByType<T>([T; ResourceType::ALL.len()]);

impl<T> ByType<T> {
    pub(super) fn get(&self, resource_type: ResourceType) -> &T {
        &self.0[index(resource_type)]
    }

    pub(super) fn get_mut(&mut self, resource_type: ResourceType) -> &mut T {
        &mut self.0[index(resource_type)]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ResourceType, &T)> {
        ResourceType::ALL.into_iter().zip(&self.0)
    }
}

const fn index(resource_type: ResourceType) -> usize {
    match resource_type {
        ResourceType::Cluster => 0,
        ResourceType::Endpoints => 1,
        ResourceType::Listener => 2,
        ResourceType::RouteConfig => 3,
        ResourceType::Secret => 4,
    }
}

impl ResourceType {
    /// Whether a client that names nothing means everything.
    pub(super) fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// The type that resources of this type point at by name.
    pub(super) fn dependents(self) -> Option<Self> {
        match self {
            Self::Cluster => Some(Self::Endpoints),
            Self::Listener => Some(Self::RouteConfig),
            Self::Endpoints | Self::RouteConfig | Self::Secret => None,
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Listener => "listener",
            Self::RouteConfig => "route configuration",
            Self::Secret => "secret",
        })
    }
}

/// The endpoint resource of the same control plane that a cluster waits for.
pub(super) fn endpoints_of(cluster: &Cluster) -> Option<&ClusterName> {
    let (name, source) = cluster.endpoints()?;
    (*source == Source::Ads).then_some(name)
}

/// The route configurations of the same control plane that a listener waits for.
pub(super) fn routes_of(listener: &Listener) -> impl Iterator<Item = &RouteConfigName> {
    let routes = listener.routes().filter(|(_, source)| **source == Source::Ads);
    routes.map(|(name, _)| name)
}

/// The names a resource points at, of the type [`ResourceType::dependents`] says.
pub(super) fn requires(resource: &Resource) -> Vec<&str> {
    match resource {
        Resource::Cluster(cluster) => endpoints_of(cluster).map(ClusterName::as_str).into_iter().collect(),
        Resource::Listener(listener) => routes_of(listener).map(RouteConfigName::as_str).collect(),
        Resource::Endpoints(..) | Resource::RouteConfig(_) => Vec::new(),
    }
}
