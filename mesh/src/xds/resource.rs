//! A resource of any type, as ADS carries it.

use std::sync::Arc;

use super::{
    Any, DecodeError,
    decode::{self, KnownHosts},
    encode, pb,
    scope::{Decoded, Scope, decode_root},
};
use crate::{
    ClusterName,
    bundle::Bundle,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
};

/// The types of resource, in the order in which they are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS: `ClusterLoadAssignment`.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS: `RouteConfiguration`.
    RouteConfig,
    /// SDS.
    Secret,
}

/// A decoded resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// CDS.
    Cluster(Arc<Cluster>),
    /// EDS, with the name clusters ask for.
    Endpoints(ClusterName, Arc<Endpoints>),
    /// LDS.
    Listener(Arc<Listener>),
    /// RDS.
    RouteConfig(Arc<RouteConfig>),
}

/// Largest resource accepted, in bytes of its `Any`.
pub const MAX_RESOURCE: usize = 32 << 20;

impl ResourceType {
    /// All of them, in push order.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::RouteConfig,
        Self::Secret,
    ];

    /// The type URL ADS uses.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfig => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The type of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// How a path in an error begins.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Cluster => "clusters",
            Self::Endpoints => "endpoints",
            Self::Listener => "listeners",
            Self::RouteConfig => "route_configs",
            Self::Secret => "secrets",
        }
    }
}

impl Resource {
    /// Its type.
    pub fn resource_type(&self) -> ResourceType {
        match self {
            Self::Cluster(_) => ResourceType::Cluster,
            Self::Endpoints(..) => ResourceType::Endpoints,
            Self::Listener(_) => ResourceType::Listener,
            Self::RouteConfig(_) => ResourceType::RouteConfig,
        }
    }

    /// Its name, unique among resources of its type.
    pub fn name(&self) -> &str {
        match self {
            Self::Cluster(cluster) => cluster.name.as_str(),
            Self::Endpoints(name, _) => name.as_str(),
            Self::Listener(listener) => listener.name.as_str(),
            Self::RouteConfig(routes) => routes.name.as_str(),
        }
    }

    /// Decodes what a response for `type_url` carries.
    ///
    /// # Errors
    /// The type is not one we decode, `any` is of another type or too large, or its content is not supported.
    pub fn decode(type_url: &str, any: &Any) -> Result<Self, DecodeError> {
        match ResourceType::from_type_url(type_url) {
            Some(kind @ ResourceType::Cluster) => {
                decode::cluster(&unpack::<pb::cluster::Cluster>(kind, any)?).map(Self::from)
            }
            Some(kind @ ResourceType::Endpoints) => {
                decode::endpoints(&unpack::<pb::endpoint::ClusterLoadAssignment>(kind, any)?)
                    .map(|(name, endpoints)| Self::Endpoints(name, Arc::new(endpoints)))
            }
            Some(kind @ ResourceType::Listener) => {
                decode::listener(&unpack::<pb::listener::Listener>(kind, any)?).map(Self::from)
            }
            Some(kind @ ResourceType::RouteConfig) => {
                decode::route_config(&unpack::<pb::route::RouteConfiguration>(kind, any)?).map(Self::from)
            }
            Some(ResourceType::Secret) | None => decode_root(None, "", |scope| {
                Err(scope.field("type_url").refuse(
                    type_url,
                    "Cluster, ClusterLoadAssignment, Listener or RouteConfiguration",
                ))
            }),
        }
    }

    /// Decodes a route configuration, sharing what is `known` of its virtual hosts. Returns what is known then.
    ///
    /// # Errors
    /// As for [`Self::decode`].
    pub(super) fn decode_routes(any: &Any, known: &KnownHosts) -> Result<(Self, KnownHosts), DecodeError> {
        let kind = ResourceType::RouteConfig;
        check(kind, any)?;
        let (routes, known) = decode::route_config_after(&any.value, known)?;
        Ok((routes.into(), known))
    }

    /// Encodes it as ADS carries it; equal resources give equal bytes.
    pub fn encode(&self) -> Any {
        match self {
            Self::Cluster(cluster) => encode::any(&encode::cluster(cluster)),
            Self::Endpoints(name, endpoints) => encode::any(&encode::endpoints(name, endpoints)),
            Self::Listener(listener) => encode::any(&encode::listener(listener)),
            Self::RouteConfig(routes) => encode::any(&encode::route_config(routes)),
        }
    }
}

impl Bundle {
    /// Adds a resource, in place of one of its type and name.
    pub fn insert(&mut self, resource: Resource) {
        match resource {
            Resource::Cluster(cluster) => drop(self.clusters.insert(cluster.name.clone(), cluster)),
            Resource::Endpoints(name, endpoints) => drop(self.endpoints.insert(name, endpoints)),
            Resource::Listener(listener) => drop(self.listeners.insert(listener.name.clone(), listener)),
            Resource::RouteConfig(routes) => drop(self.routes.insert(routes.name.clone(), routes)),
        }
    }
}

impl From<Cluster> for Resource {
    fn from(cluster: Cluster) -> Self {
        Self::Cluster(Arc::new(cluster))
    }
}

impl From<Listener> for Resource {
    fn from(listener: Listener) -> Self {
        Self::Listener(Arc::new(listener))
    }
}

impl From<RouteConfig> for Resource {
    fn from(routes: RouteConfig) -> Self {
        Self::RouteConfig(Arc::new(routes))
    }
}

/// That it is of the right type and size.
fn check(kind: ResourceType, any: &Any) -> Result<(), DecodeError> {
    decode_root(Some(kind), "", |scope| {
        if any.type_url != kind.type_url() {
            return Err(scope.field("@type").refuse(&any.type_url, kind.type_url()));
        }
        in_size(scope, any)
    })
}

fn in_size(scope: &Scope<'_>, any: &Any) -> Decoded<()> {
    if any.value.len() > MAX_RESOURCE {
        return Err(scope.refuse(
            format_args!("{} bytes", any.value.len()),
            format_args!("at most {MAX_RESOURCE} are accepted"),
        ));
    }
    Ok(())
}

/// A message of a resource, if it is of the right type and size.
pub(super) fn unpack<M: prost::Message + prost::Name + Default>(
    kind: ResourceType,
    any: &Any,
) -> Result<M, DecodeError> {
    decode_root(Some(kind), "", |scope| {
        in_size(scope, any)?;
        scope.unpack(any)
    })
}
