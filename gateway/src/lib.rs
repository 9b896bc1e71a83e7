//! The data plane as a library.

mod access_log;
mod authz;
mod clock;
mod connection;
mod drain;
pub mod error;
pub mod flags;
mod http;
mod limits;
pub mod network;
mod snapshot;
mod sniff;
mod stream;
mod tcp;
mod tls;
mod upstream;
mod worker;
