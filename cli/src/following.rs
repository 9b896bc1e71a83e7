//! How a proxy of ours follows its control plane.

use certs::Workload;
use gateway::ads::{Security, Settings, Wants};
use mesh::{
    id::SpiffeId,
    matcher::StringMatcher,
    tls::{SanKind, SanMatcher},
    xds::bootstrap::Node,
};
use sidecar::Control;

/// Mutual TLS with a control plane that must be `server`.
pub(crate) fn mutual_tls(workload: Workload, server: &SpiffeId) -> Security {
    let name = SanMatcher {
        kind: SanKind::Uri,
        name: StringMatcher::exact(server.as_str()),
    };
    Security::MutualTls {
        workload,
        server: vec![name],
    }
}

/// Following a control plane as `node`.
pub(crate) fn settings(node: Node, control: Control) -> Settings {
    Settings {
        server: control.server,
        security: control.security,
        protocol: control.protocol,
        wants: Wants::default(),
        node_id: node.id,
        node_cluster: node.cluster,
        metadata: node.metadata,
    }
}
