//! The vocabulary every other crate speaks: who calls ([`id`]), what they ask for ([`host`]), and the
//! resources a proxy is configured with ([`bundle`] and the modules it draws on).
//!
//! Invariants: no I/O, no async, no TLS library. A value of a type defined here is valid by construction;
//! nothing downstream re-checks, lower-cases or trims it. [`xds`] depends on the model, never the reverse.

pub mod authz;
pub mod bundle;
pub mod cluster;
pub mod host;
pub mod id;
pub mod listener;
pub mod log;
pub mod matcher;
mod name;
pub mod path_template;
pub mod route;
pub mod secret;
pub mod source;
pub mod tls;
pub mod xds;

pub use name::{ClusterName, ListenerName, MAX_NAME, NameError, PolicyName, RouteConfigName, SecretName};
