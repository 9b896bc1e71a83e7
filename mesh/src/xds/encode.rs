//! Model to proto, as istiod would write it. The inverse of [`decode`](super::decode), file by file.
//!
//! Equal values give equal bytes: nothing here depends on the order of a hash map.

mod cluster;
mod common;
mod dns;
mod endpoint;
mod http;
mod listener;
mod log;
mod matcher;
mod rbac;
mod route;
mod secret;
mod tcp;
mod tls;

pub(crate) use self::route::{VIRTUAL_HOSTS, put_virtual_host, route_config_in_parts};
pub use self::{
    cluster::cluster, common::any, endpoint::endpoints, listener::listener, route::route_config, secret::secret,
};
