//! The tutorial's mesh on a real network: network namespaces, a firewall, iptables redirection, real ports, one process per part,
//! curl as the application. Gateway and sidecars are ours, or real Envoys.
//!
//! Needs root, and [`Network::missing`] says what else. Every process ends with its owner, every namespace with its [`Network`].

pub mod application;
mod credentials;
mod mesh;
mod network;
mod process;
mod proxy;
mod surroundings;

pub use credentials::Member;
pub use mesh::{Mesh, Setup};
pub use network::{Network, Place};
pub use process::Process;
pub use proxy::Program;
pub use surroundings::Surroundings;

/// The user of everything that is part of the mesh; capture leaves its connections alone.
pub const PROXY_USER: u32 = sidecar::capture::USER;
/// The user of applications.
pub const APPLICATION_USER: u32 = 1000;
/// The user of what stands outside the mesh.
const ROOT: u32 = 0;
