//! `PeerAuthentication`: whether a workload's clients must use mutual TLS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{metadata::WorkloadSelector, scalar::Port};

/// `security.istio.io` PeerAuthentication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// Which workloads. `None`: all of the namespace, or of the mesh if it is the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// For all ports.
    pub mtls: Option<MutualTls>,
    /// For single ports of the workload.
    pub port_level_mtls: BTreeMap<Port, MutualTls>,
}

/// Wraps the mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MutualTls {
    /// The mode.
    pub mode: MutualTlsMode,
}

/// Whether mutual TLS is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// As the wider scope says; PERMISSIVE if none does.
    #[default]
    Unset,
    /// No TLS.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
