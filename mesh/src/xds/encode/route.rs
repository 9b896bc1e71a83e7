//! `config.route.v3`: route configurations.

use std::sync::Arc;

use prost::Message as _;

use crate::{
    host::HostPattern,
    route::{
        DirectResponse, Domain, Forward, HeaderChange, Mirror, PathMatch, Redirect, RetryOn, RetryPolicy, Route,
        RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedClusters,
    },
    xds::{
        encode::{common, matcher},
        pb::{
            core::{HeaderValue, HeaderValueOption, RuntimeFractionalPercent, header_value_option::HeaderAppendAction},
            percent::{FractionalPercent, fractional_percent::DenominatorType},
            previous_hosts::PreviousHostsPredicate,
            route::{
                self,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                retry_policy::{RetryHostPredicate, retry_host_predicate},
                route::Action,
                route_action::{
                    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy, UpgradeConfig,
                    upgrade_config::ConnectConfig,
                },
                route_match::{ConnectMatcher, PathSpecifier},
                virtual_host::TlsRequirementType,
                weighted_cluster::ClusterWeight,
            },
        },
    },
};

/// Envoy's own limit of 4 KiB is below what the model allows.
const MAX_BODY: u32 = 1 << 20;

/// The number of the field `RouteConfiguration.virtual_hosts`.
pub(crate) const VIRTUAL_HOSTS: u32 = 2;

/// Encodes a route configuration in the bytes of [`route_config`], virtual host by virtual host: `put` appends the field of one.
pub(crate) fn route_config_in_parts(
    value: &RouteConfig,
    mut put: impl FnMut(&Arc<VirtualHost>, &mut Vec<u8>),
) -> Vec<u8> {
    let whole = route_config(&RouteConfig {
        virtual_hosts: Vec::new(),
        ..value.clone()
    });
    let name = route::RouteConfiguration {
        name: whole.name.clone(),
        ..Default::default()
    };
    // Fields are written in order of their numbers, and the name's is the only one before the virtual hosts'.
    let rest = route::RouteConfiguration {
        name: String::new(),
        ..whole
    };
    let mut bytes = name.encode_to_vec();
    value.virtual_hosts.iter().for_each(|host| put(host, &mut bytes));
    bytes.extend(rest.encode_to_vec());
    bytes
}

/// Appends a virtual host as a field of its route configuration.
pub(crate) fn put_virtual_host(value: &VirtualHost, bytes: &mut Vec<u8>) {
    prost::encoding::message::encode(VIRTUAL_HOSTS, &virtual_host(value), bytes);
}

/// Encodes a route configuration.
pub fn route_config(value: &RouteConfig) -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: value.name.to_string(),
        virtual_hosts: value.virtual_hosts.iter().map(|host| virtual_host(host)).collect(),
        validate_clusters: common::boolean(false),
        max_direct_response_body_size_bytes: common::uint32(Some(MAX_BODY)),
        ignore_port_in_host_matching: value.ignore_port_in_host_matching,
        ..Default::default()
    }
}

fn virtual_host(value: &VirtualHost) -> route::VirtualHost {
    let require_tls = if value.require_tls {
        TlsRequirementType::All
    } else {
        TlsRequirementType::None
    };
    route::VirtualHost {
        name: value.name.clone(),
        domains: value.domains.iter().map(domain).collect(),
        routes: value.routes.iter().map(route).collect(),
        require_tls: require_tls.into(),
        include_request_attempt_count: value.include_attempt_count,
        ..Default::default()
    }
}

fn domain(value: &Domain) -> String {
    let host = match &value.host {
        HostPattern::Exact(host) if host.as_str().contains(':') => format!("[{host}]"),
        pattern => pattern.to_string(),
    };
    match value.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn route(value: &Route) -> route::Route {
    let action = match &value.action {
        RouteAction::Forward(action) => Action::Route(forward(action)),
        RouteAction::Redirect(action) => Action::Redirect(redirect(action)),
        RouteAction::Direct(action) => Action::DirectResponse(direct_response(action)),
    };
    route::Route {
        name: value.name.clone().unwrap_or_default(),
        r#match: Some(route_match(&value.matches)),
        action: Some(action),
        request_headers_to_remove: value.request_headers.remove.clone(),
        request_headers_to_add: value.request_headers.add.iter().map(header_change).collect(),
        response_headers_to_remove: value.response_headers.remove.clone(),
        response_headers_to_add: value.response_headers.add.iter().map(header_change).collect(),
        ..Default::default()
    }
}

fn route_match(value: &RouteMatch) -> route::RouteMatch {
    let path = match &value.path {
        PathMatch::Prefix(text) => PathSpecifier::Prefix(text.clone()),
        PathMatch::Exact(text) => PathSpecifier::Path(text.clone()),
        PathMatch::Regex(expression) => PathSpecifier::SafeRegex(matcher::regex(expression)),
        PathMatch::Connect => PathSpecifier::ConnectMatcher(ConnectMatcher {}),
    };
    route::RouteMatch {
        path_specifier: Some(path),
        case_sensitive: common::boolean(value.case_sensitive),
        headers: value.headers.iter().map(matcher::header).collect(),
        query_parameters: value.query.iter().map(matcher::query).collect(),
        ..Default::default()
    }
}

fn forward(value: &Forward) -> route::RouteAction {
    route::RouteAction {
        cluster_specifier: Some(clusters(&value.clusters)),
        timeout: value.timeout.map(common::duration),
        idle_timeout: value.idle_timeout.map(common::duration),
        retry_policy: value.retry.as_ref().map(retry_policy),
        host_rewrite_specifier: value.host_rewrite.clone().map(HostRewriteSpecifier::HostRewriteLiteral),
        prefix_rewrite: value.prefix_rewrite.clone().unwrap_or_default(),
        regex_rewrite: value.regex_rewrite.as_ref().map(matcher::substitution),
        request_mirror_policies: value.mirrors.iter().map(mirror).collect(),
        upgrade_configs: upgrades(value),
        ..Default::default()
    }
}

fn upgrades(value: &Forward) -> Vec<UpgradeConfig> {
    let connect = value.terminate_connect.then(|| UpgradeConfig {
        upgrade_type: "CONNECT".to_owned(),
        enabled: None,
        connect_config: Some(ConnectConfig::default()),
    });
    let refused = value.refused_upgrades.iter().map(|token| UpgradeConfig {
        upgrade_type: token.clone(),
        enabled: common::boolean(false),
        connect_config: None,
    });
    connect.into_iter().chain(refused).collect()
}

fn mirror(value: &Mirror) -> RequestMirrorPolicy {
    let share = RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: value.per_million,
            denominator: DenominatorType::Million.into(),
        }),
        runtime_key: String::new(),
    };
    RequestMirrorPolicy {
        cluster: value.cluster.to_string(),
        runtime_fraction: (value.per_million < Mirror::ALL).then_some(share),
        ..Default::default()
    }
}

fn clusters(value: &WeightedClusters) -> ClusterSpecifier {
    match value.entries() {
        [(name, _)] => ClusterSpecifier::Cluster(name.to_string()),
        several => ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: name.to_string(),
                    weight: common::uint32(Some(*weight)),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
    }
}

fn retry_policy(value: &RetryPolicy) -> route::RetryPolicy {
    let conditions: Vec<_> = value.retry_on.iter().copied().map(RetryOn::as_str).collect();
    let previous_hosts = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(common::any(
            &PreviousHostsPredicate {},
        ))),
    };
    route::RetryPolicy {
        retry_on: conditions.join(","),
        num_retries: common::uint32(Some(value.num_retries)),
        per_try_timeout: value.per_try_timeout.map(common::duration),
        retriable_status_codes: value.status_codes.iter().copied().map(u32::from).collect(),
        retry_host_predicate: value
            .avoid_previous_hosts
            .then_some(previous_hosts)
            .into_iter()
            .collect(),
        host_selection_retry_max_attempts: value.host_selection_attempts.map_or(0, i64::from),
        ..Default::default()
    }
}

fn redirect(value: &Redirect) -> route::RedirectAction {
    let status = match value.status {
        Some(302) => RedirectResponseCode::Found,
        Some(303) => RedirectResponseCode::SeeOther,
        Some(307) => RedirectResponseCode::TemporaryRedirect,
        Some(308) => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    route::RedirectAction {
        scheme_rewrite_specifier: value.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        host_redirect: value.host.clone().unwrap_or_default(),
        port_redirect: value.port.unwrap_or_default().into(),
        path_rewrite_specifier: value.path.clone().map(PathRewriteSpecifier::PathRedirect),
        response_code: status.into(),
        ..Default::default()
    }
}

fn direct_response(value: &DirectResponse) -> route::DirectResponseAction {
    route::DirectResponseAction {
        status: value.status.into(),
        body: (!value.body.is_empty()).then(|| common::inline(&value.body)),
        ..Default::default()
    }
}

fn header_change(value: &HeaderChange) -> HeaderValueOption {
    let action = if value.append {
        HeaderAppendAction::AppendIfExistsOrAdd
    } else {
        HeaderAppendAction::OverwriteIfExistsOrAdd
    };
    HeaderValueOption {
        header: Some(HeaderValue {
            key: value.name.clone(),
            // A percent sign would begin a format operator.
            value: value.value.replace('%', "%%"),
            ..Default::default()
        }),
        append_action: action.into(),
        keep_empty_value: value.value.is_empty(),
        ..Default::default()
    }
}
