//! A whole mesh in one process, on loopback: what the demo walks through and what integration tests run in.
//!
//! The parts are real: real sockets, real DNS, real TLS, real HTTP. Only the addresses are made up, by [`network`].

pub mod client;
pub mod cluster;
pub mod dns;
pub mod door;
pub mod log;
pub mod manifests;
pub mod mesh;
pub mod network;
pub mod outside;
pub mod pki;
mod resolve;
mod serve;
