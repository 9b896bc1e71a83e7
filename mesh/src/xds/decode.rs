//! Proto to model. One file per resource or shared message; each declares the messages it reads and decodes them.

mod bootstrap;
mod cluster;
mod common;
mod dns;
mod endpoint;
mod hosts;
mod http;
mod listener;
mod log;
mod matcher;
mod rbac;
mod route;
mod secret;
mod structure;
mod tcp;
mod tls;

use super::{DecodeError, ResourceType, bootstrap::Bootstrap, pb, scope::decode_root};
use crate::{
    ClusterName,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
    secret::Secret,
};

pub(crate) use self::{
    bootstrap::{IGNORED_EXTENSIONS as IGNORED_BOOTSTRAP_EXTENSIONS, MESSAGES as BOOTSTRAP},
    cluster::MESSAGES as CLUSTER,
    common::MESSAGES as COMMON,
    dns::MESSAGES as DNS,
    endpoint::MESSAGES as ENDPOINT,
    http::{IGNORED_FILTERS as IGNORED_HTTP_FILTERS, MESSAGES as HTTP},
    listener::{IGNORED_FILTERS as IGNORED_NETWORK_FILTERS, MESSAGES as LISTENER},
    log::MESSAGES as LOG,
    matcher::MESSAGES as MATCHER,
    rbac::MESSAGES as RBAC,
    route::MESSAGES as ROUTE,
    secret::MESSAGES as SECRET,
    tcp::MESSAGES as TCP,
    tls::MESSAGES as TLS,
};

pub use self::hosts::{KnownHosts, route_config_after};

/// Decodes a cluster.
///
/// # Errors
/// It uses something that is not supported; every field is named.
pub fn cluster(message: &pb::cluster::Cluster) -> Result<Cluster, DecodeError> {
    decode_root(Some(ResourceType::Cluster), &message.name, |scope| {
        cluster::cluster(scope, message)
    })
}

/// Decodes endpoints and the name clusters ask for them by.
///
/// # Errors
/// As for [`cluster`](self::cluster()).
pub fn endpoints(message: &pb::endpoint::ClusterLoadAssignment) -> Result<(ClusterName, Endpoints), DecodeError> {
    decode_root(Some(ResourceType::Endpoints), &message.cluster_name, |scope| {
        endpoint::resource(scope, message)
    })
}

/// Decodes a listener.
///
/// # Errors
/// As for [`cluster`](self::cluster()).
pub fn listener(message: &pb::listener::Listener) -> Result<Listener, DecodeError> {
    decode_root(Some(ResourceType::Listener), &message.name, |scope| {
        listener::listener(scope, message)
    })
}

/// Decodes a route configuration.
///
/// # Errors
/// As for [`cluster`](self::cluster()).
pub fn route_config(message: &pb::route::RouteConfiguration) -> Result<RouteConfig, DecodeError> {
    decode_root(Some(ResourceType::RouteConfig), &message.name, |scope| {
        route::route_config(scope, message)
    })
}

/// Decodes a secret.
///
/// # Errors
/// As for [`cluster`](self::cluster()).
pub fn secret(message: &pb::tls::Secret) -> Result<Secret, DecodeError> {
    decode_root(Some(ResourceType::Secret), &message.name, |scope| {
        secret::secret(scope, message)
    })
}

/// Decodes a bootstrap.
///
/// # Errors
/// As for [`cluster`](self::cluster()).
pub fn bootstrap(message: &pb::bootstrap::Bootstrap) -> Result<Bootstrap, DecodeError> {
    decode_root(None, "", |scope| bootstrap::bootstrap(scope, message))
}
