//! `ServiceEntry`: hosts outside the service registry, or additional ones inside the mesh.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    scalar::{IpBlock, Port, Protocol},
    scope::{Export, HostText},
};

/// `networking.istio.io` ServiceEntry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// The hosts; each is a service of its own.
    pub hosts: Vec<HostText>,
    /// Virtual addresses of the hosts.
    pub addresses: Vec<IpBlock>,
    /// The ports.
    pub ports: Vec<ServiceEntryPort>,
    /// Whether the hosts are part of the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints written in place.
    pub endpoints: Vec<WorkloadEntry>,
    /// Namespaces that see it. Empty: all.
    pub export_to: Vec<Export>,
    /// Names one of which an endpoint's certificate must carry.
    pub subject_alt_names: Vec<String>,
}

/// A port of a ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntryPort {
    /// The number that clients use.
    pub number: Port,
    /// The name, unique in the entry.
    pub name: String,
    /// What is spoken. `None`: bytes.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// The endpoints' port. `None`: `number`.
    #[serde(default)]
    pub target_port: Option<Port>,
}

/// Whether hosts are part of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside: never mesh mutual TLS by itself.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// Already resolved: the address the client connects to.
    #[default]
    None,
    /// Those of `endpoints`.
    Static,
    /// By DNS, all addresses.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// IP address or, with DNS, a host name.
    pub address: String,
    /// Its ports where they differ, by the name of the entry's port.
    #[serde(default)]
    pub ports: BTreeMap<String, Port>,
    /// Its labels, for subsets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its share of the requests. `None`: 1.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Its service account; empty: unknown.
    #[serde(default)]
    pub service_account: String,
}

impl ServiceEntry {
    /// Whether the hosts themselves are what DNS is asked for.
    pub fn needs_names(&self) -> bool {
        match self.resolution {
            Resolution::Dns | Resolution::DnsRoundRobin => self.endpoints.is_empty(),
            Resolution::None | Resolution::Static => false,
        }
    }
}
