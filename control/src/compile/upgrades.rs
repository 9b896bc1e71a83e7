//! Requests to leave HTTP, such as a WebSocket's, on routes whose next hop speaks HTTP/2.
//!
//! There they would have to go on as extended CONNECT (RFC 8441), which neither Istio's gateways nor ours accept: a sidecar that is
//! an Envoy tries, and loses its connection to the gateway with everybody's requests on it. So such a route refuses upgrades:
//! 403, `upgrade_failed`.

use std::collections::BTreeSet;

use mesh::{
    ClusterName,
    bundle::Bundle,
    cluster::UpstreamHttp,
    route::{Forward, RouteAction, RouteConfig},
};

use super::http::WEBSOCKET;

/// Has every route to an HTTP/2 cluster refuse upgrades.
pub(super) fn refuse(bundle: &mut Bundle) {
    let clusters = bundle.clusters.values();
    let http2: BTreeSet<_> = clusters
        .filter(|cluster| cluster.http == UpstreamHttp::Http2)
        .map(|cluster| cluster.name.clone())
        .collect();
    for forward in bundle.routes.values_mut().flat_map(forwards) {
        if leads_to(forward, &http2) {
            forward.refused_upgrades = vec![WEBSOCKET.to_owned()];
        }
    }
}

fn forwards(config: &mut RouteConfig) -> impl Iterator<Item = &mut Forward> {
    let routes = config.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes);
    routes.filter_map(|route| match &mut route.action {
        RouteAction::Forward(forward) if !forward.terminate_connect => Some(&mut **forward),
        RouteAction::Forward(_) | RouteAction::Redirect(_) | RouteAction::Direct(_) => None,
    })
}

fn leads_to(forward: &Forward, clusters: &BTreeSet<ClusterName>) -> bool {
    forward
        .clusters
        .entries()
        .iter()
        .any(|(name, _)| clusters.contains(name))
}
