//! What the tests of the parts share.

use std::{net::SocketAddr, time::Duration};

use mesh::{
    ListenerName, RouteConfigName,
    listener::{
        Codec, EscapedSlashes, ForwardClientCert, Http, Http2Settings, HttpLimits, HttpTimeouts, RouteSource,
        ServerHeader, Underscores,
    },
    source::Source,
};

use crate::{clock::Moment, connection::Connection, snapshot::ChainId};

/// As istiod configures a gateway.
pub(super) fn settings() -> Http {
    Http {
        stat_prefix: "s".to_owned(),
        codec: Codec::Auto,
        routes: RouteSource::Rds(RouteConfigName::parse("r").unwrap(), Source::Ads),
        rbac: Vec::new(),
        use_remote_address: true,
        xff_trusted_hops: 0,
        client_cert: ForwardClientCert::Sanitize,
        server_name: Some("istio-envoy".to_owned()),
        server_header: ServerHeader::Overwrite,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Allow,
        upgrades: vec!["websocket".to_owned()],
        generate_request_id: None,
        preserve_external_request_id: false,
        proxy_100_continue: true,
        accept_http_10: false,
        allow_absolute_url: None,
        http2: Http2Settings::default(),
        limits: HttpLimits::default(),
        timeouts: HttpTimeouts {
            stream_idle: Some(Duration::ZERO),
            ..HttpTimeouts::default()
        },
        access_logs: Vec::new(),
    }
}

/// A connection without TLS, from loopback.
pub(super) fn plain() -> Connection {
    let local = SocketAddr::from(([127, 0, 0, 1], 8080));
    Connection {
        id: 0,
        started: Moment::now(),
        listener: ListenerName::parse("l").unwrap(),
        chain: ChainId::NONE,
        chain_name: None,
        local,
        remote: local,
        original_destination: None,
        sni: None,
        alpn: None,
        tls: None,
    }
}
