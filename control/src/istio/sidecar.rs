//! `Sidecar`: what the sidecars of a namespace may reach.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scope::ScopedHost;

/// `networking.istio.io` Sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// Which workloads of the namespace. `None`: all that no other Sidecar selects.
    pub workload_selector: Option<SidecarSelector>,
    /// What they may reach. Empty: everything exported to the namespace.
    pub egress: Vec<EgressListener>,
    /// What happens to other destinations. `None`: as the mesh has it.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Labels that choose workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarSelector {
    /// All of these must be on the workload.
    pub labels: BTreeMap<String, String>,
}

/// Hosts that may be reached, on every port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    /// `namespace/host`.
    pub hosts: Vec<ScopedHost>,
}

/// What happens to destinations that are not in the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// The mode.
    pub mode: OutboundMode,
}

/// What happens to destinations that are not in the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    /// They are refused.
    #[default]
    RegistryOnly,
    /// They are connected to as they are.
    AllowAny,
}
