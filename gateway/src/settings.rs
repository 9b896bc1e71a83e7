//! What a data plane is started with.

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, thread::available_parallelism,
};

use certs::Workload;
use mesh::{ClusterName, SecretName, bundle::Bundle, secret::SecretContent, source::FileSource, xds::bootstrap::Node};

use crate::{
    Overflow,
    network::{Kernel, Network},
};

/// What a data plane is started with. What changes while it runs comes as bundles.
pub struct Settings {
    /// Sockets. Default: the operating system's.
    pub network: Arc<dyn Network>,
    /// Threads that serve connections. Default: one per core.
    pub workers: NonZeroUsize,
    /// Who this proxy is and whom it believes: the secrets `default` and `ROOTCA`. Without it, what names them is refused.
    pub workload: Option<Workload>,
    /// The bootstrap's secrets, by name. Of an identity agent that is not among `secret_services`, they come before those of
    /// the workload.
    pub secrets: BTreeMap<SecretName, SecretContent>,
    /// Secret discovery services, by the static cluster that configuration names them by: `unix:<path>`, or `host:port` on
    /// loopback. Without the identity agent's, `sds-grpc`, `secrets` and `workload` stand in for it.
    pub secret_services: BTreeMap<ClusterName, String>,
    /// Who asks them.
    pub node: Node,
    /// Servers to ask for names. Empty (the default): those of `/etc/resolv.conf`.
    pub name_servers: Vec<SocketAddr>,
    /// A PEM file that stands for the operating system's roots (`file-root:system`).
    pub system_roots: Option<PathBuf>,
    /// A file that stands for `/dev/stdout` in access logs, for several data planes in one process.
    pub stdout: Option<PathBuf>,
    /// What happens when an access log is slower than the traffic. Default: workers wait.
    pub access_log_overflow: Overflow,
    /// Configuration that is there from the beginning and is never replaced.
    pub fixed: Bundle,
    /// A file of further listeners.
    pub listeners_from: Option<FileSource>,
    /// A file of further clusters.
    pub clusters_from: Option<FileSource>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: Arc::new(Kernel),
            workers: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            workload: None,
            secrets: BTreeMap::new(),
            secret_services: BTreeMap::new(),
            node: Node::default(),
            name_servers: Vec::new(),
            system_roots: None,
            stdout: None,
            access_log_overflow: Overflow::default(),
            fixed: Bundle::default(),
            listeners_from: None,
            clusters_from: None,
        }
    }
}
