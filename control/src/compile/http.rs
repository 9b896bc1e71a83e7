//! What every HTTP connection manager and TCP proxy has: the settings of Istio's gateways and sidecars.

use std::time::Duration;

use mesh::{
    authz::RbacFilter,
    listener::{
        ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, Http, Http2Settings, HttpLimits, HttpTimeouts,
        Protocol, RouteSource, ServerHeader, TcpProxy, Underscores,
    },
    log::AccessLog,
    route::WeightedClusters,
};

use super::Context;
use crate::{mesh_config::PathNormalization, world::Settings};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Other proxies of the mesh: this is an edge, which trusts no header and says who called.
    Mesh,
    /// The application beside us, by redirection.
    Application,
    /// The application beside us, which knows that it talks to a proxy.
    ProxyUser,
}

/// An HTTP connection manager.
pub(super) fn connection_manager(
    cx: Context<'_>,
    peer: Peer,
    stat_prefix: String,
    routes: RouteSource,
    rbac: Vec<RbacFilter>,
) -> Protocol {
    let edge = peer == Peer::Mesh;
    let paths = cx.mesh.path_normalization;
    let decode = paths == PathNormalization::DecodeAndMergeSlashes;
    Protocol::Http(Box::new(Http {
        stat_prefix,
        codec: Codec::Auto,
        routes,
        rbac,
        use_remote_address: edge,
        xff_trusted_hops: 0,
        client_cert: if edge {
            ForwardClientCert::SanitizeSet(EVERY_FACT)
        } else {
            ForwardClientCert::Sanitize
        },
        server_name: edge.then(|| "istio-envoy".to_owned()),
        server_header: ServerHeader::Overwrite,
        normalize_path: paths != PathNormalization::None,
        merge_slashes: decode || paths == PathNormalization::MergeSlashes,
        escaped_slashes: if decode {
            EscapedSlashes::UnescapeAndForward
        } else {
            EscapedSlashes::Keep
        },
        underscores: Underscores::Allow,
        upgrades: match peer {
            Peer::Mesh | Peer::Application => vec![WEBSOCKET.into()],
            Peer::ProxyUser => vec![WEBSOCKET.into(), "connect".into()],
        },
        generate_request_id: None,
        preserve_external_request_id: false,
        proxy_100_continue: true,
        accept_http_10: false,
        allow_absolute_url: (peer == Peer::ProxyUser).then_some(true),
        http2: Http2Settings::default(),
        limits: HttpLimits::default(),
        timeouts: HttpTimeouts {
            stream_idle: Some(Duration::ZERO),
            ..HttpTimeouts::default()
        },
        access_logs: access_logs(cx),
    }))
}

/// The one protocol, besides CONNECT, that a connection may leave HTTP for.
pub(super) const WEBSOCKET: &str = "websocket";

/// Everything but the chain; in Envoy's `x-forwarded-client-cert`.
const EVERY_FACT: ClientCertDetails = ClientCertDetails {
    subject: true,
    cert: true,
    chain: false,
    dns: true,
    uri: true,
};

/// A TCP proxy. Its counters are named after the first cluster.
pub(super) fn tcp_proxy(cx: Context<'_>, clusters: WeightedClusters, settings: Settings<'_>) -> Protocol {
    let tcp = settings.connection_pool.and_then(|pool| pool.tcp.as_ref());
    Protocol::Tcp(TcpProxy {
        stat_prefix: clusters.first().to_string(),
        clusters,
        idle_timeout: tcp.and_then(|tcp| tcp.idle_timeout).map(|timeout| timeout.get()),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).map(|bound| bound.get()),
        access_logs: access_logs(cx),
    })
}

/// The records of requests and connections.
pub(super) fn access_logs(cx: Context<'_>) -> Vec<AccessLog> {
    cx.mesh.access_log.clone().into_iter().collect()
}

/// The records of connections that no filter chain took.
pub(super) fn listener_logs(cx: Context<'_>) -> Vec<AccessLog> {
    let only_flags = vec!["NR".to_owned()];
    let log = cx.mesh.access_log.clone().map(|log| AccessLog { only_flags, ..log });
    log.into_iter().collect()
}
