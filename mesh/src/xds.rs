//! xDS-lite: the wire form of the resource model, a strict subset of Envoy's v3 xDS.
//!
//! [`encode`] and [`decode`] are inverse functions. What is written is what istiod would write, so a real Envoy takes it;
//! what is read is what istiod and Envoy users write, as far as we implement it. Invariants: a field of a supported message
//! that we do not implement is an error naming it, never dropped ([`support`] is the table, and the checks are made from the
//! same lines); no input panics or recurses without bound; nothing here does I/O.

pub mod ads;
pub mod bootstrap;
pub mod decode;
pub mod encode;
mod error;
pub mod file;
pub mod json;
mod pb;
pub mod proxy;
pub mod render;
mod resource;
mod scope;
pub mod secret;
pub mod support;
#[cfg(test)]
mod tests;

pub use envoy_types::pb::google::protobuf::Any;
pub use error::{DecodeError, Problem};
pub use resource::{MAX_RESOURCE, Resource, ResourceType};
