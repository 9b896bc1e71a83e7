//! Requests to leave HTTP, such as a WebSocket's, on routes whose next hop speaks HTTP/2.
//!
//! There they would have to go on as extended CONNECT (RFC 8441), which neither Istio's gateways nor ours accept: a sidecar that is
//! an Envoy tries, and loses its connection to the gateway with everybody's requests on it. So such a route refuses upgrades:
//! 403, `upgrade_failed`.

use std::{collections::BTreeSet, sync::Arc};

use mesh::{
    ClusterName,
    bundle::Bundle,
    cluster::UpstreamHttp,
    route::{Forward, RouteAction, VirtualHost},
};

use super::http::WEBSOCKET;

/// Has every route to an HTTP/2 cluster refuse upgrades.
pub(super) fn refuse(bundle: &mut Bundle) {
    let clusters = bundle.clusters.values();
    let http2: BTreeSet<_> = clusters
        .filter(|cluster| cluster.http == UpstreamHttp::Http2)
        .map(|cluster| cluster.name.clone())
        .collect();
    if http2.is_empty() {
        return;
    }
    for config in bundle.routes.values_mut() {
        let hosts = Arc::make_mut(config).virtual_hosts.iter_mut();
        for host in hosts.filter(|host| host.routes.iter().any(|route| is_concerned(&route.action, &http2))) {
            refuse_in(Arc::make_mut(host), &http2);
        }
    }
}

fn refuse_in(host: &mut VirtualHost, http2: &BTreeSet<ClusterName>) {
    for action in host.routes.iter_mut().map(|route| &mut route.action) {
        if is_concerned(action, http2)
            && let RouteAction::Forward(forward) = action
        {
            forward.refused_upgrades = vec![WEBSOCKET.to_owned()];
        }
    }
}

fn is_concerned(action: &RouteAction, http2: &BTreeSet<ClusterName>) -> bool {
    match action {
        RouteAction::Forward(forward) => !forward.terminate_connect && leads_to(forward, http2),
        RouteAction::Redirect(_) | RouteAction::Direct(_) => false,
    }
}

fn leads_to(forward: &Forward, clusters: &BTreeSet<ClusterName>) -> bool {
    forward
        .clusters
        .entries()
        .iter()
        .any(|(name, _)| clusters.contains(name))
}
