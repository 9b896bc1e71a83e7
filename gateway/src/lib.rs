//! The data plane as a library: [`Gateway::start`] it, give it [bundles](mesh::bundle::Bundle), [drain](Handle::drain) it.
//!
//! Invariants: a request sees exactly one snapshot; every request and connection leaves exactly one record; what cannot be
//! authorized is denied; nothing is dialled that no accepted resource names; no input panics a worker or makes it grow
//! without bound.

mod access_log;
pub mod ads;
pub mod agent;
mod authz;
pub mod bootstrap;
mod catalog;
mod clock;
mod connection;
#[doc(hidden)]
pub mod cores;
mod drain;
mod error;
mod flags;
mod gateway;
mod http;
mod limits;
mod listener;
mod map;
pub mod network;
mod publish;
mod settings;
mod snapshot;
mod sniff;
mod stream;
mod tcp;
mod tls;
mod upstream;
mod worker;

pub use access_log::Overflow;
pub use gateway::{Following, Gateway, Handle, Rejected, Resource, StartError};
pub use settings::Settings;
