//! `http_connection_manager` and its HTTP filters.

use crate::{
    authz::RbacFilter,
    listener::{
        ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, Http, Http2Settings, RouteSource, ServerHeader,
        Underscores,
    },
    xds::{
        Any,
        encode::{common, log, rbac, route},
        pb::{
            core::{
                Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
                http_protocol_options::HeadersWithUnderscoresAction,
            },
            hcm::{
                self,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                    ServerHeaderTransformation, SetCurrentClientCertDetails, UpgradeConfig,
                },
                http_filter::ConfigType,
            },
            router::Router,
        },
    },
};

/// The filter.
pub(super) fn connection_manager(value: &Http) -> hcm::HttpConnectionManager {
    let (forward, details) = client_cert(&value.client_cert);
    hcm::HttpConnectionManager {
        stat_prefix: value.stat_prefix.clone(),
        codec_type: codec(value.codec).into(),
        route_specifier: Some(routes(&value.routes)),
        http_filters: filters(&value.rbac),
        use_remote_address: common::boolean(value.use_remote_address),
        xff_num_trusted_hops: value.xff_trusted_hops,
        forward_client_cert_details: forward.into(),
        set_current_client_cert_details: details,
        server_name: value.server_name.clone().unwrap_or_default(),
        server_header_transformation: server_header(value.server_header).into(),
        normalize_path: common::boolean(value.normalize_path),
        merge_slashes: value.merge_slashes,
        path_with_escaped_slashes_action: escaped_slashes(value.escaped_slashes).into(),
        common_http_protocol_options: Some(common_options(value)),
        http_protocol_options: http1_options(value),
        http2_protocol_options: http2_options(&value.http2),
        upgrade_configs: value.upgrades.iter().map(|upgrade| upgrade_config(upgrade)).collect(),
        generate_request_id: value.generate_request_id.and_then(common::boolean),
        preserve_external_request_id: value.preserve_external_request_id,
        proxy_100_continue: value.proxy_100_continue,
        max_request_headers_kb: common::uint32(value.limits.headers_kib),
        stream_idle_timeout: value.timeouts.stream_idle.map(common::duration),
        request_timeout: value.timeouts.request.map(common::duration),
        request_headers_timeout: value.timeouts.request_headers.map(common::duration),
        drain_timeout: value.timeouts.drain.map(common::duration),
        delayed_close_timeout: value.timeouts.delayed_close.map(common::duration),
        access_log: value.access_logs.iter().map(log::access_log).collect(),
        ..Default::default()
    }
}

fn codec(value: Codec) -> CodecType {
    match value {
        Codec::Auto => CodecType::Auto,
        Codec::Http1 => CodecType::Http1,
        Codec::Http2 => CodecType::Http2,
    }
}

fn routes(value: &RouteSource) -> RouteSpecifier {
    match value {
        RouteSource::Rds(name, source) => RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(common::config_source(source)),
            route_config_name: name.to_string(),
        }),
        RouteSource::Inline(config) => RouteSpecifier::RouteConfig(route::route_config(config)),
    }
}

fn filters(rbac: &[RbacFilter]) -> Vec<hcm::HttpFilter> {
    let filter = |name: &str, config: Any| hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let rbac = rbac
        .iter()
        .map(|value| filter("envoy.filters.http.rbac", rbac::http_filter(value)));
    let router = filter("envoy.filters.http.router", common::any(&Router::default()));
    rbac.chain([router]).collect()
}

fn client_cert(value: &ForwardClientCert) -> (ForwardClientCertDetails, Option<SetCurrentClientCertDetails>) {
    match value {
        ForwardClientCert::Sanitize => (ForwardClientCertDetails::Sanitize, None),
        ForwardClientCert::SanitizeSet(details) => (ForwardClientCertDetails::SanitizeSet, cert_details(details)),
        ForwardClientCert::AppendForward(details) => (ForwardClientCertDetails::AppendForward, cert_details(details)),
        ForwardClientCert::ForwardOnly => (ForwardClientCertDetails::ForwardOnly, None),
        ForwardClientCert::AlwaysForwardOnly => (ForwardClientCertDetails::AlwaysForwardOnly, None),
    }
}

fn cert_details(value: &ClientCertDetails) -> Option<SetCurrentClientCertDetails> {
    Some(SetCurrentClientCertDetails {
        subject: common::boolean(value.subject),
        cert: value.cert,
        chain: value.chain,
        dns: value.dns,
        uri: value.uri,
        ..Default::default()
    })
}

fn server_header(value: ServerHeader) -> ServerHeaderTransformation {
    match value {
        ServerHeader::Overwrite => ServerHeaderTransformation::Overwrite,
        ServerHeader::AppendIfAbsent => ServerHeaderTransformation::AppendIfAbsent,
        ServerHeader::PassThrough => ServerHeaderTransformation::PassThrough,
    }
}

fn escaped_slashes(value: EscapedSlashes) -> PathWithEscapedSlashesAction {
    match value {
        EscapedSlashes::Keep => PathWithEscapedSlashesAction::KeepUnchanged,
        EscapedSlashes::Reject => PathWithEscapedSlashesAction::RejectRequest,
        EscapedSlashes::UnescapeAndRedirect => PathWithEscapedSlashesAction::UnescapeAndRedirect,
        EscapedSlashes::UnescapeAndForward => PathWithEscapedSlashesAction::UnescapeAndForward,
    }
}

fn common_options(value: &Http) -> HttpProtocolOptions {
    let underscores = match value.underscores {
        Underscores::Allow => HeadersWithUnderscoresAction::Allow,
        Underscores::RejectRequest => HeadersWithUnderscoresAction::RejectRequest,
        Underscores::DropHeader => HeadersWithUnderscoresAction::DropHeader,
    };
    HttpProtocolOptions {
        idle_timeout: value.timeouts.idle.map(common::duration),
        max_connection_duration: value.timeouts.max_connection_duration.map(common::duration),
        max_headers_count: common::uint32(value.limits.header_count),
        headers_with_underscores_action: underscores.into(),
        ..Default::default()
    }
}

fn http1_options(value: &Http) -> Option<Http1ProtocolOptions> {
    (value.accept_http_10 || value.allow_absolute_url.is_some()).then(|| Http1ProtocolOptions {
        accept_http_10: value.accept_http_10,
        allow_absolute_url: value.allow_absolute_url.and_then(common::boolean),
        ..Default::default()
    })
}

fn http2_options(value: &Http2Settings) -> Option<Http2ProtocolOptions> {
    (*value != Http2Settings::default()).then(|| Http2ProtocolOptions {
        max_concurrent_streams: common::uint32(value.max_concurrent_streams),
        initial_stream_window_size: common::uint32(value.initial_stream_window),
        initial_connection_window_size: common::uint32(value.initial_connection_window),
        allow_connect: value.allow_connect,
        ..Default::default()
    })
}

/// Envoy knows CONNECT in capitals only.
fn upgrade_config(upgrade: &str) -> UpgradeConfig {
    let upgrade_type = if upgrade == "connect" {
        "CONNECT".to_owned()
    } else {
        upgrade.to_owned()
    };
    UpgradeConfig {
        upgrade_type,
        ..Default::default()
    }
}
