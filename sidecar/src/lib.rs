//! The data plane beside an application: the gateway's, under the name of a sidecar, and [`capture`], which leads the
//! application's connections to it.
//!
//! Everything else that makes a sidecar is configuration that control compiles for this role: what is captured, the explicit
//! proxy, and the scope of its namespace.
//!
//! Invariant: a sidecar serves nothing before its control plane has said what.

pub mod capture;
mod plane;

pub use plane::{Control, Handle, Settings, Sidecar, StartError};
