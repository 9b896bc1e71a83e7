//! Leads an application's connections to its sidecar, with the kernel's packet filter: every outbound TCP connection is
//! redirected to [`Capture::port`], except the sidecar's own and those that stay on the machine.
//!
//! The rules are Istio's, in chains of our own. Invariants: [`Capture::rules`] is a pure function; applying twice is applying
//! once; removing leaves nothing of ours and touches nothing else. IPv6 connections, which no listener would get, are refused
//! rather than let past the sidecar.
//!
//! Does not stop UDP, nor a process that runs as the sidecar's user: that is for the network's own firewall.

mod own;
mod rules;
mod run;

pub use run::CaptureError;

/// What is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The sidecar's port for redirected connections.
    pub port: u16,
    /// The user that the sidecar runs as; its connections go where they are going.
    pub user: u32,
    /// The group that the sidecar runs as; likewise.
    pub group: u32,
    /// The family that the sidecar listens on.
    pub family: Family,
}

/// A family of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Istio's port for redirected connections.
pub const PORT: u16 = 15001;
/// Istio's user and group for sidecars.
pub const USER: u32 = 1337;

impl Default for Capture {
    fn default() -> Self {
        Self {
            port: PORT,
            user: USER,
            group: USER,
            family: Family::V4,
        }
    }
}
