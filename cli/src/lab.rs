//! A whole mesh to try things on: what the demo walks through and what integration tests run in.
//!
//! The parts are real: real sockets, real DNS, real TLS, real HTTP. There are two networks. On [`network`], in one process and on
//! loopback, only the addresses are made up; [`namespaces`] is the kernel's own, with a process per part.

pub mod client;
pub mod cluster;
pub mod dns;
pub mod door;
pub mod envoy;
pub(crate) mod handout;
pub mod log;
pub mod manifests;
pub mod mesh;
pub mod namespaces;
pub mod network;
pub mod outside;
mod part;
pub mod pki;
mod resolve;
pub(crate) mod scene;
mod serve;
