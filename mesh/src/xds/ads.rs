//! The aggregated discovery service as state machines without I/O: messages in, messages out.
//!
//! [`server`] decides what one stream must be sent next, [`client`] what a response means and how it is answered; both in
//! the delta and in the state-of-the-world protocol. Whoever owns the sockets moves the messages.
//!
//! Invariants: a machine never grows beyond the limits below, whatever its peer sends; a resource that cannot be taken
//! changes nothing but the answer, which names it; what something points at is sent before the thing that points, and
//! taken away after it.
//!
//! Source: Envoy's xDS protocol document and the comments of `envoy.service.discovery.v3`.

pub mod client;
mod encoding;
#[cfg(test)]
mod fixtures;
mod metadata;
pub mod server;
mod set;
#[cfg(test)]
mod simulation;
mod types;

pub use encoding::Encoding;
pub use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
};
pub use envoy_types::pb::google::protobuf::Struct;
pub use metadata::{json_of, struct_of};
pub use set::{Entry, ResourceSet};

use std::{fmt, sync::Arc};

use envoy_types::pb::google::rpc::Status;

use super::ResourceType;
use crate::MAX_NAME;

/// A resource's name as it travels.
pub type Name = Arc<str>;

/// Names of one type that a stream may subscribe to, and resources of one type that a client holds.
pub const MAX_RESOURCES: usize = 65_536;

/// Largest message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Bytes of resources after which a delta response is ended and the next one begun.
pub const RESPONSE_TARGET: usize = 1 << 20;

/// Longest error text that is kept or sent, in bytes.
pub const MAX_ERROR_TEXT: usize = 8 << 10;

/// The name that stands for all resources of a type.
const WILDCARD: &str = "*";

/// `google.rpc.Code.INVALID_ARGUMENT`, the code of a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// What ends a stream: the peer does not speak the protocol, or more of it than we allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A name that no resource can have.
    #[error("a {0} name of {1} bytes was sent, 1 to {MAX_NAME} are accepted")]
    Name(ResourceType, usize),
    /// More names than a stream may have.
    #[error("more than {MAX_RESOURCES} {0} names in one stream")]
    TooMany(ResourceType),
    /// A way of naming resources that we do not speak.
    #[error("{0} is set, which is not supported; name resources by their plain names")]
    Unsupported(&'static str),
    /// A response that cannot be acknowledged.
    #[error("a response with {0} resources carries no nonce")]
    NoNonce(ResourceType),
}

/// A resource that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: Name,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.resource_type, self.name, self.reason)
    }
}

/// Checks a name that arrived.
fn parse_name(resource_type: ResourceType, name: &str) -> Result<Name, ProtocolError> {
    match name.len() {
        1..=MAX_NAME => Ok(name.into()),
        len => Err(ProtocolError::Name(resource_type, len)),
    }
}

/// Cuts an error text to the length that is kept.
fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_ERROR_TEXT));
    text
}

/// What a NACK says: every refused resource by name.
fn nack(rejections: &[Rejection]) -> Option<Status> {
    let texts: Vec<_> = rejections.iter().map(Rejection::to_string).collect();
    (!texts.is_empty()).then(|| Status {
        code: INVALID_ARGUMENT,
        message: clip(texts.join("; ")),
        details: Vec::new(),
    })
}
