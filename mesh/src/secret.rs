//! Secrets: certificates with their keys, and trusted roots, as they are handed to a proxy by name.
//!
//! Not a part of a [`Bundle`](crate::bundle::Bundle): configuration names secrets and can be shown to anybody, a secret cannot.
//! Invariant: what is inline never appears in `Debug` output.

use std::{fmt, path::PathBuf};

use crate::{ClusterName, SecretName, source::FileSource};

/// A secret by name, and who has it, as `SdsSecretConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// What it is asked for by.
    pub name: SecretName,
    /// Whom it is asked of.
    pub source: SecretSource,
}

/// Who has a secret. The same name from two sources is two secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretSource {
    /// The bootstrap's own secrets.
    Static,
    /// The secret discovery service of a static cluster.
    Service {
        /// The cluster.
        cluster: ClusterName,
        /// The incremental protocol instead of the state of the world.
        delta: bool,
    },
    /// The control plane, over the one ADS stream.
    Ads,
    /// A file of the proxy's own system.
    File(FileSource),
}

/// The static cluster behind which Istio's agent serves the workload's secrets.
pub const AGENT_CLUSTER: &str = "sds-grpc";

impl SecretRef {
    /// From the identity agent beside the proxy, as istiod has it.
    pub fn of_agent(name: SecretName) -> Self {
        let cluster = ClusterName::parse(AGENT_CLUSTER).expect("neither empty nor long");
        Self {
            name,
            source: SecretSource::Service { cluster, delta: false },
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.source)
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("the bootstrap"),
            Self::Service { cluster, .. } => write!(f, "cluster {cluster}"),
            Self::Ads => f.write_str("the control plane"),
            Self::File(file) => write!(f, "file {file}"),
        }
    }
}

/// A secret under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What configuration asks for it by.
    pub name: SecretName,
    /// What it is.
    pub content: SecretContent,
}

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretContent {
    /// A certificate to show.
    Certificate {
        /// PEM, leaf first.
        chain: Material,
        /// PEM: PKCS #8, SEC1 or PKCS #1.
        key: Material,
    },
    /// Roots to trust: PEM.
    Trust(Material),
}

/// PEM text, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// In place.
    Inline(Vec<u8>),
    /// In a file of the proxy's own system.
    File(PathBuf),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
