//! `http_connection_manager` and its HTTP filters.

use crate::{
    RouteConfigName,
    authz::RbacFilter,
    listener::{
        ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, Http, Http2Settings, HttpLimits, HttpTimeouts,
        RouteSource, ServerHeader, Underscores,
    },
    xds::{
        decode::{common, log, rbac, route},
        pb::{
            core::{self, http_protocol_options::HeadersWithUnderscoresAction},
            cors::Cors,
            fault::HttpFault,
            hcm::{
                self,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, InternalAddressConfig, PathWithEscapedSlashesAction,
                    RouteSpecifier, ServerHeaderTransformation, SetCurrentClientCertDetails, UpgradeConfig,
                },
                http_filter::ConfigType,
            },
            http_rbac,
            protobuf::{Any, BoolValue, UInt32Value},
            router::Router,
            stateful_session::StatefulSession,
        },
        scope::{Decoded, Scope},
        support::{IgnoredExtension, messages},
    },
};

messages! {
    /// Messages of HTTP.
    MESSAGES:
    hcm::HttpConnectionManager {
        supported {
            codec_type = "AUTO, HTTP1, HTTP2",
            stat_prefix,
            http_filters = "rbac, the filters listed above, and router as the last",
            common_http_protocol_options,
            http_protocol_options,
            http2_protocol_options,
            server_name,
            server_header_transformation,
            max_request_headers_kb,
            stream_idle_timeout,
            request_timeout,
            request_headers_timeout,
            drain_timeout,
            delayed_close_timeout,
            access_log,
            use_remote_address,
            xff_num_trusted_hops,
            internal_address_config = "empty: no address is internal",
            generate_request_id,
            preserve_external_request_id,
            forward_client_cert_details,
            set_current_client_cert_details,
            proxy_100_continue,
            upgrade_configs,
            normalize_path,
            merge_slashes,
            path_with_escaped_slashes_action,
            add_user_agent = "false",
            stream_error_on_invalid_http_message = "false",
            route_specifier = "rds, route_config",
        }
        ignored {
            tracing = "no spans are reported; trace headers pass through",
            request_id_extension = "request ids are random UUIDs; trace decisions are not packed into them",
        }
        rejected {
            http1_safe_max_connection_duration, http3_protocol_options, scheme_header_transformation, stream_flush_timeout,
            drain_timeout_jitter, access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
            original_ip_detection_extensions, early_header_mutation_extensions, skip_xff_append, via,
            always_set_request_id_in_response, forward_client_cert_matcher,
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6, local_reply_config, strip_matching_host_port,
            path_normalization_options, strip_trailing_host_dot, proxy_status_config, typed_header_validation_config,
            append_x_forwarded_port, append_local_overload, add_proxy_protocol_connection_state, forward_proto_config,
            strip_port_mode,
        }
    }
    hcm::Rds {
        supported { config_source, route_config_name }
    }
    hcm::HttpFilter {
        supported { config_type = "typed_config" }
        ignored {
            name = "the type decides",
            is_optional = "an unknown filter is refused even if it is optional",
        }
        rejected { disabled }
    }
    UpgradeConfig {
        supported { upgrade_type, enabled = "true" }
        rejected { filters }
    }
    SetCurrentClientCertDetails {
        supported { subject, cert, chain, dns, uri }
        rejected { issuer, format }
    }
    InternalAddressConfig {
        rejected { unix_sockets, cidr_ranges }
    }
    Router {
        ignored {
            dynamic_stats = "statistics of Envoy",
            start_child_span = "no spans are reported",
            suppress_grpc_request_failure_code_stats = "a statistic",
        }
        rejected {
            upstream_log, upstream_log_options, suppress_envoy_headers, strict_check_headers, respect_expected_rq_timeout,
            upstream_http_filters, reject_connect_request_early_data,
        }
    }
    HttpFault {
        rejected {
            delay = "faults are not injected", abort = "faults are not injected", upstream_cluster, headers,
            downstream_nodes, max_active_faults, response_rate_limit = "faults are not injected", delay_percent_runtime,
            abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime, max_active_faults_runtime,
            response_rate_limit_percent_runtime, abort_grpc_status_runtime, disable_downstream_cluster_stats,
            filter_metadata,
        }
    }
    Cors {}
    StatefulSession {
        ignored { stat_prefix = "a statistic" }
        rejected { session_state = "sessions are not kept", strict, status_on_strict_destination_not_found }
    }
}

/// HTTP filters that change nothing here.
pub(crate) const IGNORED_FILTERS: &[IgnoredExtension] = &[
    IgnoredExtension {
        message: "io.istio.http.peer_metadata.Config",
        reason: "exchanges labels for telemetry; no telemetry of ours uses them",
    },
    IgnoredExtension {
        message: "stats.PluginConfig",
        reason: "counts requests; there are no metrics yet",
    },
    IgnoredExtension {
        message: "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        reason: "counts gRPC messages; there are no metrics yet",
    },
    IgnoredExtension {
        message: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        reason: "rewrites the offered ALPN to Istio's names; the cluster's alpn_protocols are offered instead",
    },
];

/// What a filter of the chain is to us.
enum Filter {
    Rbac(Box<RbacFilter>),
    Router,
    Inert,
}

/// The filter.
pub(super) fn connection_manager(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<Http> {
    scope.check(message);
    scope.off("add_user_agent", message.add_user_agent);
    scope.off(
        "stream_error_on_invalid_http_message",
        message.stream_error_on_invalid_http_message,
    );
    if let Some(internal) = &message.internal_address_config {
        scope.field("internal_address_config").check(internal);
    }
    let common = common_options(scope, message)?;
    let http1 = http1_options(scope, message.http_protocol_options.as_ref());
    Ok(Http {
        stat_prefix: message.stat_prefix.clone(),
        codec: codec(scope, message)?,
        routes: routes(scope, message)?,
        rbac: filters(scope, message)?,
        use_remote_address: is_on(message.use_remote_address),
        xff_trusted_hops: message.xff_num_trusted_hops,
        client_cert: client_cert(scope, message)?,
        server_name: common::non_empty(&message.server_name),
        server_header: server_header(scope, message)?,
        normalize_path: is_on(message.normalize_path),
        merge_slashes: message.merge_slashes,
        escaped_slashes: escaped_slashes(scope, message)?,
        underscores: common.underscores,
        upgrades: scope.list("upgrade_configs", &message.upgrade_configs, upgrade)?,
        generate_request_id: message.generate_request_id.map(|value| value.value),
        preserve_external_request_id: message.preserve_external_request_id,
        proxy_100_continue: message.proxy_100_continue,
        accept_http_10: http1.accept_http_10,
        allow_absolute_url: http1.allow_absolute_url.map(|value| value.value),
        http2: http2_settings(scope, message.http2_protocol_options.as_ref()),
        limits: HttpLimits {
            headers_kib: number(message.max_request_headers_kb),
            header_count: common.header_count,
        },
        timeouts: timeouts(scope, message, &common)?,
        access_logs: scope.list("access_log", &message.access_log, log::access_log)?,
    })
}

fn is_on(value: Option<BoolValue>) -> bool {
    value.is_some_and(|value| value.value)
}

fn number(value: Option<UInt32Value>) -> Option<u32> {
    value.map(|value| value.value)
}

fn codec(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<Codec> {
    let at = scope.field("codec_type");
    match at.enumeration(message.codec_type)? {
        CodecType::Auto => Ok(Codec::Auto),
        CodecType::Http1 => Ok(Codec::Http1),
        CodecType::Http2 => Ok(Codec::Http2),
        CodecType::Http3 => Err(at.refuse("HTTP3", "AUTO, HTTP1 or HTTP2")),
    }
}

fn routes(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<RouteSource> {
    match scope.required("route_specifier", &message.route_specifier)? {
        RouteSpecifier::Rds(rds) => {
            let scope = scope.field("rds");
            scope.check(rds);
            let source = common::config_source(
                &scope.field("config_source"),
                scope.required("config_source", &rds.config_source)?,
            )?;
            let name = scope
                .field("route_config_name")
                .parse(&rds.route_config_name, RouteConfigName::parse)?;
            Ok(RouteSource::Rds(name, source))
        }
        RouteSpecifier::RouteConfig(config) => {
            route::inline(&scope.field("route_config"), config).map(RouteSource::Inline)
        }
        RouteSpecifier::ScopedRoutes(_) => Err(scope.field("scoped_routes").refuse("set", "rds or route_config")),
    }
}

/// The router must be the last filter, as Envoy requires, or requests would be answered by nobody.
fn filters(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<Vec<RbacFilter>> {
    let filters = scope.list("http_filters", &message.http_filters, filter)?;
    let router = filters.iter().position(|filter| matches!(filter, Filter::Router));
    if router.map(|index| index + 1) != Some(filters.len()) {
        return Err(scope.field("http_filters").refuse(
            "no router at the end",
            "envoy.filters.http.router once, as the last filter",
        ));
    }
    let rbac = filters.into_iter().filter_map(|filter| match filter {
        Filter::Rbac(filter) => Some(*filter),
        Filter::Router | Filter::Inert => None,
    });
    Ok(rbac.collect())
}

fn filter(scope: &Scope<'_>, message: &hcm::HttpFilter) -> Decoded<Filter> {
    scope.check(message);
    match scope.required("typed_config", &message.config_type)? {
        ConfigType::TypedConfig(any) => filter_config(&scope.field("typed_config"), any),
        ConfigType::ConfigDiscovery(_) => Err(scope
            .field("config_discovery")
            .refuse("set", "only typed_config is supported")),
    }
}

fn filter_config(scope: &Scope<'_>, any: &Any) -> Decoded<Filter> {
    let name = common::message_name(scope, any)?;
    match name.as_str() {
        "envoy.extensions.filters.http.rbac.v3.RBAC" => {
            let config: http_rbac::Rbac = scope.unpack(any)?;
            return Ok(Filter::Rbac(Box::new(rbac::http_filter(scope, &config)?)));
        }
        "envoy.extensions.filters.http.router.v3.Router" => {
            scope.check(&scope.unpack::<Router>(any)?);
            return Ok(Filter::Router);
        }
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => scope.check(&scope.unpack::<HttpFault>(any)?),
        "envoy.extensions.filters.http.cors.v3.Cors" => scope.check(&scope.unpack::<Cors>(any)?),
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSession" => {
            scope.check(&scope.unpack::<StatefulSession>(any)?);
        }
        known if IGNORED_FILTERS.iter().any(|ignored| ignored.message == known) => {}
        unknown => {
            return Err(scope.refuse(unknown, "not a supported HTTP filter; docs/xds-lite.md lists them"));
        }
    }
    Ok(Filter::Inert)
}

fn client_cert(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<ForwardClientCert> {
    let details = match &message.set_current_client_cert_details {
        Some(details) => cert_details(&scope.field("set_current_client_cert_details"), details),
        None => ClientCertDetails::default(),
    };
    let at = scope.field("forward_client_cert_details");
    Ok(match at.enumeration(message.forward_client_cert_details)? {
        ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward(details),
        ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet(details),
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    })
}

fn cert_details(scope: &Scope<'_>, message: &SetCurrentClientCertDetails) -> ClientCertDetails {
    scope.check(message);
    ClientCertDetails {
        subject: is_on(message.subject),
        cert: message.cert,
        chain: message.chain,
        dns: message.dns,
        uri: message.uri,
    }
}

fn server_header(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<ServerHeader> {
    let at = scope.field("server_header_transformation");
    Ok(match at.enumeration(message.server_header_transformation)? {
        ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn escaped_slashes(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<EscapedSlashes> {
    let at = scope.field("path_with_escaped_slashes_action");
    Ok(match at.enumeration(message.path_with_escaped_slashes_action)? {
        PathWithEscapedSlashesAction::ImplementationSpecificDefault | PathWithEscapedSlashesAction::KeepUnchanged => {
            EscapedSlashes::Keep
        }
        PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
        PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
        PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
    })
}

fn upgrade(scope: &Scope<'_>, message: &UpgradeConfig) -> Decoded<String> {
    scope.check(message);
    if message.enabled.is_some_and(|enabled| !enabled.value) {
        return Err(scope.field("enabled").refuse("false", "only true is supported"));
    }
    if message.upgrade_type.is_empty() {
        return Err(scope.field("upgrade_type").missing());
    }
    Ok(message.upgrade_type.to_ascii_lowercase())
}

/// What of `common_http_protocol_options` is not a field of its own in the model.
#[derive(Default)]
struct CommonOptions {
    underscores: Underscores,
    header_count: Option<u32>,
    idle: Option<std::time::Duration>,
    max_connection_duration: Option<std::time::Duration>,
}

fn common_options(scope: &Scope<'_>, message: &hcm::HttpConnectionManager) -> Decoded<CommonOptions> {
    let Some(options) = &message.common_http_protocol_options else {
        return Ok(CommonOptions::default());
    };
    let scope = scope.field("common_http_protocol_options");
    scope.check(options);
    if options.max_requests_per_connection.is_some() {
        scope.field("max_requests_per_connection").refuse(
            "set",
            "connections of clients serve any number of requests; leave it unset",
        );
    }
    let at = scope.field("headers_with_underscores_action");
    Ok(CommonOptions {
        underscores: match at.enumeration(options.headers_with_underscores_action)? {
            HeadersWithUnderscoresAction::Allow => Underscores::Allow,
            HeadersWithUnderscoresAction::RejectRequest => Underscores::RejectRequest,
            HeadersWithUnderscoresAction::DropHeader => Underscores::DropHeader,
        },
        header_count: number(options.max_headers_count),
        idle: scope.duration("idle_timeout", &options.idle_timeout)?,
        max_connection_duration: scope.duration("max_connection_duration", &options.max_connection_duration)?,
    })
}

fn http1_options(scope: &Scope<'_>, message: Option<&core::Http1ProtocolOptions>) -> core::Http1ProtocolOptions {
    let options = message.cloned().unwrap_or_default();
    let scope = scope.field("http_protocol_options");
    scope.check(&options);
    scope.off(
        "override_stream_error_on_invalid_http_message",
        options.override_stream_error_on_invalid_http_message,
    );
    options
}

fn http2_settings(scope: &Scope<'_>, message: Option<&core::Http2ProtocolOptions>) -> Http2Settings {
    let Some(options) = message else {
        return Http2Settings::default();
    };
    let scope = scope.field("http2_protocol_options");
    scope.check(options);
    scope.off(
        "override_stream_error_on_invalid_http_message",
        options.override_stream_error_on_invalid_http_message,
    );
    let bounded = |name: &'static str, value: Option<u32>, least: u32| {
        if let Some(value) = value.filter(|value| !(least..=0x7fff_ffff).contains(value)) {
            scope
                .field(name)
                .refuse(value, format_args!("from {least} to 2147483647"));
        }
        value
    };
    let streams = number(options.max_concurrent_streams);
    let stream_window = number(options.initial_stream_window_size);
    let connection_window = number(options.initial_connection_window_size);
    Http2Settings {
        max_concurrent_streams: bounded("max_concurrent_streams", streams, 1),
        initial_stream_window: bounded("initial_stream_window_size", stream_window, 65535),
        initial_connection_window: bounded("initial_connection_window_size", connection_window, 65535),
        allow_connect: options.allow_connect,
    }
}

fn timeouts(scope: &Scope<'_>, message: &hcm::HttpConnectionManager, common: &CommonOptions) -> Decoded<HttpTimeouts> {
    Ok(HttpTimeouts {
        stream_idle: scope.duration("stream_idle_timeout", &message.stream_idle_timeout)?,
        request: scope.duration("request_timeout", &message.request_timeout)?,
        request_headers: scope.duration("request_headers_timeout", &message.request_headers_timeout)?,
        idle: common.idle,
        max_connection_duration: common.max_connection_duration,
        drain: scope.duration("drain_timeout", &message.drain_timeout)?,
        delayed_close: scope.duration("delayed_close_timeout", &message.delayed_close_timeout)?,
    })
}
