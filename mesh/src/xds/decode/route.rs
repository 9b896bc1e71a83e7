//! `config.route.v3`: route configurations.

use std::{collections::HashSet, sync::Arc};

use crate::{
    ClusterName, RouteConfigName,
    host::{Host, HostPattern},
    matcher::{HeaderMatcher, QueryMatcher, Substitution},
    route::{
        DirectResponse, Domain, Forward, HeaderChange, HeaderChanges, Mirror, PathMatch, Redirect, RetryOn,
        RetryPolicy, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedClusters,
    },
    xds::{
        decode::{common, matcher},
        pb::{
            core::{
                HeaderValue, HeaderValueOption, RoutingPriority, RuntimeFractionalPercent,
                header_value_option::HeaderAppendAction,
            },
            percent::{FractionalPercent, fractional_percent::DenominatorType},
            previous_hosts::PreviousHostsPredicate,
            route::{
                self,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                retry_policy::{RetryHostPredicate, retry_host_predicate},
                route::Action,
                route_action::{
                    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
                    UpgradeConfig, upgrade_config::ConnectConfig,
                },
                route_match::{ConnectMatcher, PathSpecifier},
                virtual_host::TlsRequirementType,
                weighted_cluster::ClusterWeight,
            },
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of routes.
    MESSAGES:
    route::RouteConfiguration {
        supported { name, virtual_hosts, ignore_port_in_host_matching, validate_clusters = "false" }
        ignored {
            max_direct_response_body_size_bytes = "bodies may have up to 1 MiB whatever is written here",
            metadata = "labels for tools",
        }
        rejected {
            vhds, internal_only_headers, response_headers_to_add = "write it in the routes",
            response_headers_to_remove = "write it in the routes", request_headers_to_add = "write it in the routes",
            request_headers_to_remove = "write it in the routes", most_specific_header_mutations_wins,
            cluster_specifier_plugins, request_mirror_policies, vhost_header, ignore_path_parameters_in_path_matching,
            typed_per_filter_config, route_specifiers,
        }
    }
    route::VirtualHost {
        supported {
            name, domains = "example.com, *.example.com, *; each with an optional port", routes,
            require_tls = "NONE, ALL", include_request_attempt_count,
        }
        ignored { metadata = "labels for tools" }
        rejected {
            matcher, virtual_clusters, rate_limits, request_headers_to_add = "write it in the routes",
            request_headers_to_remove = "write it in the routes", response_headers_to_add = "write it in the routes",
            response_headers_to_remove = "write it in the routes", cors, typed_per_filter_config,
            include_attempt_count_in_response, retry_policy = "write it in the routes", retry_policy_typed_config,
            hedge_policy, include_is_timeout_retry_header, per_request_buffer_limit_bytes, request_body_buffer_limit,
            request_mirror_policies, route_specifiers,
        }
    }
    route::Route {
        supported {
            name, r#match, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, action = "route, redirect, direct_response",
        }
        ignored {
            metadata = "labels for tools",
            decorator = "names spans, and no spans are reported",
            tracing = "sampling of spans, and no spans are reported",
            stat_prefix = "a statistic",
        }
        rejected {
            typed_per_filter_config, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers,
        }
    }
    route::RouteMatch {
        supported {
            case_sensitive, headers, query_parameters, path_specifier = "prefix, path, safe_regex, connect_matcher",
        }
        rejected { runtime_fraction, cookies, grpc, tls_context, dynamic_metadata, filter_state }
    }
    ConnectMatcher {}
    route::RouteAction {
        supported {
            cluster_not_found_response_code = "SERVICE_UNAVAILABLE",
            prefix_rewrite, regex_rewrite, timeout, idle_timeout, retry_policy, request_mirror_policies,
            priority = "DEFAULT",
            upgrade_configs = "CONNECT with connect_config ends the tunnel here; another with enabled: false is refused here",
            cluster_specifier = "cluster, weighted_clusters",
            host_rewrite_specifier = "host_rewrite_literal",
        }
        ignored {
            max_grpc_timeout = "timeout bounds gRPC calls too; grpc-timeout is the endpoints' affair",
        }
        rejected {
            metadata_match, path_rewrite_policy, path_rewrite, append_x_forwarded_host, flush_timeout,
            early_data_policy, retry_policy_typed_config, rate_limits, include_vh_rate_limits,
            hash_policy, cors, grpc_timeout_offset, internal_redirect_policy, internal_redirect_action,
            max_internal_redirects, hedge_policy, max_stream_duration = "use timeout",
        }
    }
    RequestMirrorPolicy {
        supported { cluster, runtime_fraction }
        ignored { trace_sampled = "no spans are reported" }
        rejected {
            cluster_header, disable_shadow_host_suffix_append, request_headers_mutations, host_rewrite_literal,
        }
    }
    RuntimeFractionalPercent {
        supported { default_value }
        ignored { runtime_key = "there is no runtime that could override the share" }
    }
    FractionalPercent {
        supported { numerator, denominator }
    }
    UpgradeConfig {
        supported { upgrade_type, enabled = "true for CONNECT, false for others", connect_config }
    }
    ConnectConfig {
        rejected { proxy_protocol_config, allow_post }
    }
    route::WeightedCluster {
        supported { clusters }
        ignored {
            total_weight = "the sum of the weights counts, as in Envoy",
            runtime_key_prefix = "there is no runtime that could override weights",
        }
        rejected { random_value_specifier }
    }
    ClusterWeight {
        supported { name, weight }
        rejected {
            cluster_header, metadata_match, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, typed_per_filter_config, host_rewrite_specifier,
        }
    }
    route::RetryPolicy {
        supported {
            retry_on = "5xx, gateway-error, reset, reset-before-request, connect-failure, retriable-4xx, refused-stream, \
                retriable-status-codes, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable",
            num_retries, per_try_timeout, retry_host_predicate = "previous_hosts", host_selection_retry_max_attempts,
            retriable_status_codes,
        }
        rejected {
            per_try_idle_timeout, retry_priority, retry_options_predicates, retry_back_off, rate_limited_retry_back_off,
            retriable_headers, retriable_request_headers, refresh_cluster_on_retry,
        }
    }
    RetryHostPredicate {
        supported { config_type = "typed_config: previous_hosts" }
        ignored { name = "the type decides" }
    }
    PreviousHostsPredicate {}
    route::RedirectAction {
        supported {
            host_redirect, port_redirect, response_code, scheme_rewrite_specifier = "https_redirect, scheme_redirect",
            path_rewrite_specifier = "path_redirect",
        }
        rejected { strip_query }
    }
    route::DirectResponseAction {
        supported { status = "200 to 599", body = "inline, at most 1 MiB" }
        rejected { body_format }
    }
}

/// Longest body of a direct response.
const MAX_BODY: usize = 1 << 20;

/// What a route configuration is called that is written in place without a name. Nothing points at it.
const NAMELESS: &str = "inline";

/// A route configuration.
pub(super) fn route_config(scope: &Scope<'_>, message: &route::RouteConfiguration) -> Decoded<RouteConfig> {
    named(scope, message, &message.name)
}

/// A route configuration that is written in place, and needs no name.
pub(super) fn inline(scope: &Scope<'_>, message: &route::RouteConfiguration) -> Decoded<RouteConfig> {
    let name = if message.name.is_empty() {
        NAMELESS
    } else {
        &message.name
    };
    named(scope, message, name)
}

fn named(scope: &Scope<'_>, message: &route::RouteConfiguration, name: &str) -> Decoded<RouteConfig> {
    with_hosts(scope, message, name, |scope| {
        scope.list("virtual_hosts", &message.virtual_hosts, virtual_host)
    })
}

/// A route configuration whose virtual hosts are read by `hosts`.
pub(super) fn with_hosts(
    scope: &Scope<'_>,
    message: &route::RouteConfiguration,
    name: &str,
    hosts: impl FnOnce(&Scope<'_>) -> Decoded<Vec<Arc<VirtualHost>>>,
) -> Decoded<RouteConfig> {
    scope.check(message);
    scope.off("validate_clusters", message.validate_clusters);
    let virtual_hosts = hosts(scope)?;
    no_domain_twice(scope, &virtual_hosts);
    Ok(RouteConfig {
        name: scope.field("name").parse(name, RouteConfigName::parse)?,
        virtual_hosts,
        ignore_port_in_host_matching: message.ignore_port_in_host_matching,
    })
}

/// Which of two hosts would get the request, nobody said.
fn no_domain_twice(scope: &Scope<'_>, virtual_hosts: &[Arc<VirtualHost>]) {
    let mut seen = HashSet::new();
    for (index, host) in virtual_hosts.iter().enumerate() {
        for domain in host.domains.iter().filter(|domain| !seen.insert(*domain)) {
            scope
                .index("virtual_hosts", index)
                .field("domains")
                .refuse(&domain.host, "each domain in one virtual host, once");
        }
    }
}

pub(super) fn virtual_host(scope: &Scope<'_>, message: &route::VirtualHost) -> Decoded<Arc<VirtualHost>> {
    scope.check(message);
    if message.name.is_empty() {
        return Err(scope.field("name").missing());
    }
    if message.domains.is_empty() {
        return Err(scope.field("domains").missing());
    }
    let at = scope.field("require_tls");
    let require_tls = match at.enumeration(message.require_tls)? {
        TlsRequirementType::None => false,
        TlsRequirementType::All => true,
        TlsRequirementType::ExternalOnly => return Err(at.refuse("EXTERNAL_ONLY", "NONE or ALL")),
    };
    Ok(Arc::new(VirtualHost {
        name: message.name.clone(),
        domains: scope.list("domains", &message.domains, |scope, text| domain(scope, text))?,
        routes: scope.list("routes", &message.routes, route)?,
        require_tls,
        include_attempt_count: message.include_request_attempt_count,
    }))
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, and patterns.
fn domain(scope: &Scope<'_>, text: &str) -> Decoded<Domain> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else {
            return Err(scope.refuse(text, "a closing bracket after the IPv6 address"));
        };
        let host = Host::parse(address)
            .ok()
            .filter(|host| host.ip().is_some_and(|ip| ip.is_ipv6()));
        let host = host.ok_or_else(|| scope.refuse(text, "an IPv6 address inside the brackets"))?;
        (HostPattern::Exact(host), rest.strip_prefix(':'))
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        (scope.parse(host, HostPattern::parse)?, port)
    };
    let port = match port {
        None => None,
        Some(port) => Some(scope.parse(port, |port| match port.parse() {
            Ok(0) | Err(_) => Err("a port from 1 to 65535"),
            Ok(number) => Ok(number),
        })?),
    };
    Ok(Domain { host, port })
}

fn route(scope: &Scope<'_>, message: &route::Route) -> Decoded<Route> {
    scope.check(message);
    let matches = scope.required("match", &message.r#match)?;
    Ok(Route {
        name: common::non_empty(&message.name),
        matches: route_match(&scope.field("match"), matches)?,
        action: action(scope, message)?,
        request_headers: HeaderChanges {
            remove: names(scope, "request_headers_to_remove", &message.request_headers_to_remove)?,
            add: scope.list("request_headers_to_add", &message.request_headers_to_add, header_change)?,
        },
        response_headers: HeaderChanges {
            remove: names(scope, "response_headers_to_remove", &message.response_headers_to_remove)?,
            add: scope.list(
                "response_headers_to_add",
                &message.response_headers_to_add,
                header_change,
            )?,
        },
    })
}

fn route_match(scope: &Scope<'_>, message: &route::RouteMatch) -> Decoded<RouteMatch> {
    scope.check(message);
    let path = match scope.required("path_specifier", &message.path_specifier)? {
        PathSpecifier::Prefix(text) => PathMatch::Prefix(text.clone()),
        PathSpecifier::Path(text) => PathMatch::Exact(text.clone()),
        PathSpecifier::SafeRegex(expression) => {
            PathMatch::Regex(matcher::regex(&scope.field("safe_regex"), expression)?)
        }
        PathSpecifier::ConnectMatcher(ConnectMatcher {}) => PathMatch::Connect,
        PathSpecifier::PathSeparatedPrefix(_) => {
            return Err(scope
                .field("path_separated_prefix")
                .refuse("set", "prefix, path, safe_regex or connect_matcher"));
        }
        PathSpecifier::PathMatchPolicy(_) => {
            return Err(scope
                .field("path_match_policy")
                .refuse("set", "prefix, path, safe_regex or connect_matcher"));
        }
    };
    let headers: Vec<HeaderMatcher> = scope.list("headers", &message.headers, matcher::header)?;
    let query: Vec<QueryMatcher> = scope.list("query_parameters", &message.query_parameters, matcher::query)?;
    Ok(RouteMatch {
        path,
        case_sensitive: message.case_sensitive.is_none_or(|value| value.value),
        headers,
        query,
    })
}

fn action(scope: &Scope<'_>, message: &route::Route) -> Decoded<RouteAction> {
    match scope.required("action", &message.action)? {
        Action::Route(action) => Ok(RouteAction::Forward(Box::new(forward(&scope.field("route"), action)?))),
        Action::Redirect(action) => Ok(RouteAction::Redirect(redirect(&scope.field("redirect"), action)?)),
        Action::DirectResponse(action) => Ok(RouteAction::Direct(direct_response(
            &scope.field("direct_response"),
            action,
        )?)),
        Action::FilterAction(_) | Action::NonForwardingAction(_) => {
            Err(scope.refuse("another action", "route, redirect or direct_response"))
        }
    }
}

fn forward(scope: &Scope<'_>, message: &route::RouteAction) -> Decoded<Forward> {
    scope.check(message);
    if message.cluster_not_found_response_code != i32::from(ClusterNotFoundResponseCode::ServiceUnavailable) {
        scope
            .field("cluster_not_found_response_code")
            .refuse(message.cluster_not_found_response_code, "only SERVICE_UNAVAILABLE");
    }
    if message.priority != i32::from(RoutingPriority::Default) {
        scope.field("priority").refuse("HIGH", "only DEFAULT is supported");
    }
    let upgrades = scope.list("upgrade_configs", &message.upgrade_configs, upgrade)?;
    Ok(Forward {
        clusters: clusters(scope, message)?,
        timeout: scope.duration("timeout", &message.timeout)?,
        idle_timeout: scope.duration("idle_timeout", &message.idle_timeout)?,
        retry: match &message.retry_policy {
            Some(policy) => Some(retry_policy(&scope.field("retry_policy"), policy)?),
            None => None,
        },
        host_rewrite: host_rewrite(scope, message)?,
        prefix_rewrite: common::non_empty(&message.prefix_rewrite),
        regex_rewrite: regex_rewrite(scope, message)?,
        mirrors: scope.list("request_mirror_policies", &message.request_mirror_policies, mirror)?,
        terminate_connect: upgrades.contains(&Upgrade::Connect),
        refused_upgrades: upgrades.into_iter().filter_map(Upgrade::refused).collect(),
    })
}

fn clusters(scope: &Scope<'_>, message: &route::RouteAction) -> Decoded<WeightedClusters> {
    match scope.required("cluster_specifier", &message.cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => Ok(WeightedClusters::one(
            scope.field("cluster").parse(name, ClusterName::parse)?,
        )),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let scope = scope.field("weighted_clusters");
            scope.check(weighted);
            let entries = scope.list("clusters", &weighted.clusters, cluster_weight)?;
            WeightedClusters::parse(entries).map_err(|error| scope.field("clusters").refuse("weights", error))
        }
        ClusterSpecifier::ClusterHeader(_)
        | ClusterSpecifier::ClusterSpecifierPlugin(_)
        | ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            Err(scope.refuse("another way to choose a cluster", "cluster or weighted_clusters"))
        }
    }
}

fn cluster_weight(scope: &Scope<'_>, message: &ClusterWeight) -> Decoded<(ClusterName, u32)> {
    scope.check(message);
    let weight = scope.required("weight", &message.weight)?.value;
    Ok((scope.field("name").parse(&message.name, ClusterName::parse)?, weight))
}

fn regex_rewrite(scope: &Scope<'_>, message: &route::RouteAction) -> Decoded<Option<Substitution>> {
    let Some(rewrite) = &message.regex_rewrite else {
        return Ok(None);
    };
    let scope = scope.field("regex_rewrite");
    if !message.prefix_rewrite.is_empty() {
        return Err(scope.refuse("set beside prefix_rewrite", "one of the two"));
    }
    matcher::substitution(&scope, rewrite).map(Some)
}

fn mirror(scope: &Scope<'_>, message: &RequestMirrorPolicy) -> Decoded<Mirror> {
    scope.check(message);
    let per_million = match &message.runtime_fraction {
        Some(fraction) => share(&scope.field("runtime_fraction"), fraction)?,
        None => Mirror::ALL,
    };
    Ok(Mirror {
        cluster: scope.field("cluster").parse(&message.cluster, ClusterName::parse)?,
        per_million,
    })
}

/// Of a million; more than all is all, as in Envoy.
fn share(scope: &Scope<'_>, message: &RuntimeFractionalPercent) -> Decoded<u32> {
    scope.check(message);
    let percent = scope.required("default_value", &message.default_value)?;
    let scope = scope.field("default_value");
    scope.check(percent);
    let unit = match scope.field("denominator").enumeration(percent.denominator)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Ok(percent.numerator.saturating_mul(unit).min(Mirror::ALL))
}

fn host_rewrite(scope: &Scope<'_>, message: &route::RouteAction) -> Decoded<Option<String>> {
    match &message.host_rewrite_specifier {
        None => Ok(None),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Ok(common::non_empty(host)),
        Some(
            HostRewriteSpecifier::AutoHostRewrite(_)
            | HostRewriteSpecifier::HostRewriteHeader(_)
            | HostRewriteSpecifier::HostRewritePathRegex(_)
            | HostRewriteSpecifier::HostRewrite(_),
        ) => Err(scope.refuse("another host rewrite", "host_rewrite_literal")),
    }
}

/// What a route says about requests to leave HTTP.
#[derive(PartialEq)]
enum Upgrade {
    /// CONNECT ends here.
    Connect,
    /// This token is refused.
    Refused(String),
}

impl Upgrade {
    fn refused(self) -> Option<String> {
        match self {
            Self::Connect => None,
            Self::Refused(token) => Some(token),
        }
    }
}

fn upgrade(scope: &Scope<'_>, config: &UpgradeConfig) -> Decoded<Upgrade> {
    scope.check(config);
    let enabled = config.enabled.is_none_or(|enabled| enabled.value);
    let token = config.upgrade_type.to_ascii_lowercase();
    match (token.as_str(), enabled, &config.connect_config) {
        ("", ..) => Err(scope.field("upgrade_type").missing()),
        ("connect", true, connect) => {
            let connect = scope.required("connect_config", connect)?;
            scope.field("connect_config").check(connect);
            Ok(Upgrade::Connect)
        }
        ("connect", false, _) => Err(scope.field("enabled").refuse("false", "CONNECT can only be true")),
        (_, true, _) => Err(scope.field("upgrade_type").refuse(
            &config.upgrade_type,
            "only CONNECT; other upgrades are allowed per listener",
        )),
        (_, false, Some(_)) => Err(scope.field("connect_config").refuse("set", "only for CONNECT")),
        (_, false, None) => Ok(Upgrade::Refused(token)),
    }
}

fn retry_policy(scope: &Scope<'_>, message: &route::RetryPolicy) -> Decoded<RetryPolicy> {
    scope.check(message);
    let at = scope.field("retry_on");
    let conditions: Decoded<Vec<_>> = message
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| RetryOn::parse(name).ok_or_else(|| at.refuse(name, "a condition listed in docs/xds-lite.md")))
        .collect();
    let predicates = scope.list("retry_host_predicate", &message.retry_host_predicate, previous_hosts)?;
    Ok(RetryPolicy {
        retry_on: conditions?,
        num_retries: message.num_retries.map_or(1, |retries| retries.value),
        per_try_timeout: scope.duration("per_try_timeout", &message.per_try_timeout)?,
        status_codes: scope.list(
            "retriable_status_codes",
            &message.retriable_status_codes,
            |scope, code| status(scope, *code, 100),
        )?,
        avoid_previous_hosts: !predicates.is_empty(),
        host_selection_attempts: match message.host_selection_retry_max_attempts {
            0 => None,
            attempts => Some(u32::try_from(attempts).map_err(|_| {
                scope
                    .field("host_selection_retry_max_attempts")
                    .refuse(attempts, "from 0 to 4294967295")
            })?),
        },
    })
}

fn previous_hosts(scope: &Scope<'_>, message: &RetryHostPredicate) -> Decoded<()> {
    scope.check(message);
    let retry_host_predicate::ConfigType::TypedConfig(any) = scope.required("typed_config", &message.config_type)?;
    let PreviousHostsPredicate {} = scope.field("typed_config").unpack(any)?;
    Ok(())
}

fn status(scope: &Scope<'_>, code: u32, least: u16) -> Decoded<u16> {
    u16::try_from(code)
        .ok()
        .filter(|code| (least..=599).contains(code))
        .ok_or_else(|| scope.refuse(code, format_args!("a status from {least} to 599")))
}

fn redirect(scope: &Scope<'_>, message: &route::RedirectAction) -> Decoded<Redirect> {
    scope.check(message);
    let scheme = match &message.scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => common::non_empty(scheme),
    };
    let path = match &message.path_rewrite_specifier {
        None => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) => common::non_empty(path),
        Some(
            PathRewriteSpecifier::PrefixRewrite(_)
            | PathRewriteSpecifier::RegexRewrite(_)
            | PathRewriteSpecifier::PathRewrite(_),
        ) => return Err(scope.refuse("another path rewrite", "path_redirect")),
    };
    let status = match scope.field("response_code").enumeration(message.response_code)? {
        RedirectResponseCode::MovedPermanently => None,
        RedirectResponseCode::Found => Some(302),
        RedirectResponseCode::SeeOther => Some(303),
        RedirectResponseCode::TemporaryRedirect => Some(307),
        RedirectResponseCode::PermanentRedirect => Some(308),
    };
    Ok(Redirect {
        scheme,
        host: common::non_empty(&message.host_redirect),
        port: Some(scope.port("port_redirect", message.port_redirect)?).filter(|port| *port != 0),
        path,
        status,
    })
}

fn direct_response(scope: &Scope<'_>, message: &route::DirectResponseAction) -> Decoded<DirectResponse> {
    scope.check(message);
    let at = scope.field("body");
    let body = match &message.body {
        Some(source) => common::inline_text(&at, source)?,
        None => String::new(),
    };
    if body.len() > MAX_BODY {
        return Err(at.refuse(format_args!("{} bytes", body.len()), format_args!("at most {MAX_BODY}")));
    }
    Ok(DirectResponse {
        status: status(&scope.field("status"), message.status, 200)?,
        body,
    })
}

fn names(scope: &Scope<'_>, field: &'static str, names: &[String]) -> Decoded<Vec<String>> {
    scope.list(field, names, |scope, name| header_name(scope, name))
}

/// A header that may be changed. The authority has rewrites of its own, other pseudo headers none.
fn header_name(scope: &Scope<'_>, name: &str) -> Decoded<String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(scope.refuse(format_args!("{name:?}"), "a header name, not a pseudo header"));
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(scope.refuse("host", "use host_rewrite_literal to change the authority"));
    }
    Ok(name.to_ascii_lowercase())
}

#[allow(deprecated)] // `append` is still written by some
fn header_change(scope: &Scope<'_>, message: &HeaderValueOption) -> Decoded<HeaderChange> {
    scope.check(message);
    let header = scope.required("header", &message.header)?;
    let at = scope.field("append_action");
    let append = match (message.append, at.enumeration(message.append_action)?) {
        (Some(append), HeaderAppendAction::AppendIfExistsOrAdd) => append.value,
        (None, HeaderAppendAction::AppendIfExistsOrAdd) => true,
        (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => false,
        (Some(_), _) => {
            return Err(scope
                .field("append")
                .refuse("set beside append_action", "one of the two"));
        }
        (None, HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists) => {
            return Err(at.refuse(
                message.append_action,
                "APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD",
            ));
        }
    };
    let (name, value) = header_value(&scope.field("header"), header)?;
    if value.is_empty() && !message.keep_empty_value {
        return Err(scope
            .field("keep_empty_value")
            .refuse("false", "an empty value needs true"));
    }
    Ok(HeaderChange { name, value, append })
}

fn header_value(scope: &Scope<'_>, message: &HeaderValue) -> Decoded<(String, String)> {
    scope.check(message);
    let name = header_name(&scope.field("key"), &message.key)?;
    let scope = scope.field("value");
    let visible = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
    if !message.value.bytes().all(visible) {
        return Err(scope.refuse(format_args!("{:?}", message.value), "no control characters"));
    }
    match literal(&message.value) {
        Some(value) => Ok((name, value)),
        None => Err(scope.refuse(
            &message.value,
            "format operators are not supported in values; a percent sign is written %%",
        )),
    }
}

/// The text with `%%` unescaped, unless there is an operator in it.
fn literal(text: &str) -> Option<String> {
    let unescaped = text.replace("%%", "%");
    (unescaped.replace('%', "%%") == text).then_some(unescaped)
}
