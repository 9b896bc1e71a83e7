//! What is not supported is refused by name; what means the same is taken.

use std::fmt::Debug;

use crate::{
    matcher::{HeaderValueMatch, StringMatcher},
    route::{PathMatch, RouteAction},
    tls::TrustSource,
    xds::{DecodeError, decode, json},
};

/// The error of decoding `text`, which must begin a problem with `expect`.
#[track_caller]
fn refused<M, T: Debug>(text: &str, decode: impl Fn(&M) -> Result<T, DecodeError>, expect: &[&str])
where
    M: prost::Message + prost::Name + Default,
{
    let message = json::parse(text).unwrap();
    let error = decode(&message).unwrap_err();
    let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
    for expect in expect {
        let found = problems.iter().any(|problem| problem.starts_with(expect));
        assert!(found, "{expect} is not in {problems:#?}");
    }
    assert_eq!(problems.len(), expect.len(), "{problems:#?}");
}

/// A listener with one filter chain of one filter.
fn listener_with(filter: &str) -> String {
    format!(
        "
name: l
address: {{socket_address: {{address: 0.0.0.0, port_value: 8080}}}}
filter_chains:
- filters:
  - name: f
    typed_config: {filter}
"
    )
}

/// A connection manager with these fields besides the router.
fn manager_with(fields: &str) -> String {
    listener_with(&format!(
        r#"{{
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
      http_filters: [{{name: r, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
      {fields}
    }}"#
    ))
}

fn route_with(fields: &str) -> String {
    format!("{{name: rc, virtual_hosts: [{{name: v, domains: [a], routes: [{{{fields}}}]}}]}}")
}

const TCP: &str =
    r#"{"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: c}"#;
const EDS: &str = "type: EDS, eds_cluster_config: {eds_config: {ads: {}}}";

#[test]
fn an_unsupported_value_is_named_with_its_path() {
    refused(
        &format!("{{name: reports, {EDS}, lb_policy: MAGLEV}}"),
        decode::cluster,
        &["clusters[reports].lb_policy: MAGLEV: ROUND_ROBIN, LEAST_REQUEST or RANDOM"],
    );
    refused(
        &route_with("match: {path_separated_prefix: /a}, route: {cluster: c}"),
        decode::route_config,
        &["route_configs[rc].virtual_hosts[0].routes[0].match.path_separated_prefix: "],
    );
    refused(
        &manager_with("route_config: {name: x, virtual_hosts: [{name: v, domains: ['a:b'], routes: []}]}"),
        decode::listener,
        &["listeners[l].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].domains[0]: "],
    );
    refused(
        "{cluster_name: c, endpoints: [{priority: 1, lb_endpoints: []}]}",
        decode::endpoints,
        &["endpoints[c].endpoints[0].priority: 1: "],
    );
}

#[test]
fn an_unsupported_field_is_refused_and_all_problems_are_found() {
    refused(
        &format!("{{name: c, {EDS}, outlier_detection: {{}}, health_checks: [{{}}], lb_policy: RING_HASH}}"),
        decode::cluster,
        &[
            "clusters[c].outlier_detection: set: not supported",
            "clusters[c].health_checks: set: not supported",
            "clusters[c].lb_policy: RING_HASH",
        ],
    );
    refused(
        &route_with(
            "match: {prefix: /, runtime_fraction: {}}, route: {cluster: c, hash_policy: [{}], max_stream_duration: {}}",
        ),
        decode::route_config,
        &[
            "route_configs[rc].virtual_hosts[0].routes[0].match.runtime_fraction: ",
            "route_configs[rc].virtual_hosts[0].routes[0].route.hash_policy: ",
            "route_configs[rc].virtual_hosts[0].routes[0].route.max_stream_duration: set: use timeout",
        ],
    );
}

#[test]
fn nothing_is_left_to_the_order_of_a_list() {
    refused(
        "{name: rc, virtual_hosts: [{name: v, domains: [a, '*']}, {name: w, domains: [b, A]}]}",
        decode::route_config,
        &["route_configs[rc].virtual_hosts[1].domains: a: each domain in one virtual host"],
    );
    let text = listener_with(TCP).replace(
        "- filters:",
        &format!("- filters: [{{name: f, typed_config: {TCP}}}]\n- filters:"),
    );
    refused(
        &text,
        decode::listener,
        &["listeners[l].filter_chains[1].filter_chain_match: the match of another"],
    );
}

#[test]
fn numbers_of_the_wire_are_not_cut() {
    refused(
        "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 65616}}}}]}]}",
        decode::endpoints,
        &["endpoints[c].endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 65616: a port"],
    );
    refused(
        &route_with("match: {prefix: /}, route: {cluster: c, timeout: -1s}"),
        decode::route_config,
        &["route_configs[rc].virtual_hosts[0].routes[0].route.timeout: -1 s 0 ns: "],
    );
    refused(
        &route_with("match: {prefix: /}, direct_response: {status: 65736}"),
        decode::route_config,
        &["route_configs[rc].virtual_hosts[0].routes[0].direct_response.status: 65736: "],
    );
}

#[test]
fn unknown_filters_are_refused_and_inert_ones_left_out() {
    let filter = |name: &str, config: &str| {
        format!("{{name: f, typed_config: {{\"@type\": type.googleapis.com/{name}{config}}}}}")
    };
    let chain = |filters: &[String]| {
        let router = filter("envoy.extensions.filters.http.router.v3.Router", "");
        let filters = filters.iter().cloned().chain([router]).collect::<Vec<_>>().join(", ");
        listener_with(&format!(
            r#"{{"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
                rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}, http_filters: [{filters}]}}"#
        ))
    };
    let at = "listeners[l].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config";
    let inert = [
        filter(
            "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            ", emit_filter_state: true",
        ),
        filter("envoy.extensions.filters.http.cors.v3.Cors", ""),
        filter("envoy.extensions.filters.http.fault.v3.HTTPFault", ""),
        filter("envoy.extensions.filters.http.stateful_session.v3.StatefulSession", ""),
    ];
    decode::listener(&json::parse(&chain(&inert)).unwrap()).unwrap();
    let fault = filter(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        ", abort: {http_status: 503, percentage: {numerator: 1}}",
    );
    refused(
        &chain(&[fault]),
        decode::listener,
        &[&format!("{at}.abort: set: faults are not injected")],
    );
    let other = filter("envoy.config.core.v3.Node", "");
    refused(
        &chain(&[other]),
        decode::listener,
        &[&format!("{at}: envoy.config.core.v3.Node: not a supported HTTP filter")],
    );
}

#[test]
fn filters_of_istio_are_known_by_their_type_alone() {
    use crate::xds::pb::{hcm, protobuf::Any};

    let istio = |name: &str| hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(Any {
            type_url: format!("type.googleapis.com/{name}"),
            value: b"\x0a\x01x".to_vec(),
        })),
        ..Default::default()
    };
    let typed_struct = hcm::HttpFilter {
        name: "istio.stats".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(Any {
            type_url: "type.googleapis.com/udpa.type.v1.TypedStruct".to_owned(),
            value: [b"\x0a\x26".as_slice(), b"type.googleapis.com/stats.PluginConfig"].concat(),
        })),
        ..Default::default()
    };
    let text = manager_with("rds: {route_config_name: r, config_source: {ads: {}}}");
    let with = |filter: hcm::HttpFilter| {
        let mut listener: crate::xds::pb::listener::Listener = json::parse(&text).unwrap();
        let filter_config = listener.filter_chains[0].filters[0].config_type.as_mut().unwrap();
        let crate::xds::pb::listener::filter::ConfigType::TypedConfig(any) = filter_config else {
            panic!("the test wrote a typed_config");
        };
        let mut manager: hcm::HttpConnectionManager = prost::Message::decode(any.value.as_slice()).unwrap();
        manager.http_filters.insert(0, filter);
        any.value = prost::Message::encode_to_vec(&manager);
        decode::listener(&listener)
    };
    for name in [
        "io.istio.http.peer_metadata.Config",
        "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    ] {
        with(istio(name)).unwrap();
    }
    with(istio("envoy.extensions.filters.http.lua.v3.Lua")).unwrap_err();
    with(typed_struct).unwrap();
}

#[test]
fn the_router_ends_the_chain_and_nothing_follows_a_terminal_filter() {
    let tcp = r#"{name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}"#;
    let listener = |filters: &str| {
        format!(
            "{{name: l, address: {{socket_address: {{address: '::', port_value: 1}}}}, filter_chains: [{{filters: [{filters}]}}]}}"
        )
    };
    decode::listener(&json::parse(&listener(tcp)).unwrap()).unwrap();
    let at = "listeners[l].filter_chains[0].filters: ";
    refused(
        &listener(&format!("{tcp}, {tcp}")),
        decode::listener,
        &[&format!("{at}a terminal")],
    );
    refused(&listener(""), decode::listener, &[&format!("{at}no terminal")]);
}

#[test]
fn an_upstream_that_checks_nobody_must_say_so() {
    let cluster = |context: &str| {
        format!(
            "{{name: c, {EDS}, transport_socket: {{name: t, typed_config: {{
                \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext,
                common_tls_context: {{{context}}}}}}}}}"
        )
    };
    let at = "clusters[c].transport_socket.typed_config.common_tls_context";
    refused(
        &cluster(""),
        decode::cluster,
        &[&format!("{at}: no validation context: ")],
    );
    refused(
        &cluster("validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}"),
        decode::cluster,
        &[&format!("{at}.validation_context.trusted_ca: not set: ")],
    );
    refused(
        &cluster("validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED, trusted_ca: {filename: /ca}}"),
        decode::cluster,
        &[&format!("{at}.validation_context.trust_chain_verification: ")],
    );
    let insecure = cluster("validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}");
    let decoded = decode::cluster(&json::parse(&insecure).unwrap()).unwrap();
    assert_eq!(decoded.tls.unwrap().validation, None);
    let system = cluster("validation_context: {system_root_certs: {}}");
    let decoded = decode::cluster(&json::parse(&system).unwrap()).unwrap();
    let trust = decoded.tls.unwrap().validation.unwrap().trust;
    assert!(matches!(trust, TrustSource::Sds(secret) if secret.name.as_str() == "file-root:system"));
}

#[test]
fn a_server_that_demands_certificates_must_say_whom_it_trusts() {
    let text = r#"
name: l
address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
filter_chains:
- filters:
  - {name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: c}}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      require_client_certificate: true
      common_tls_context: {tls_certificate_sds_secret_configs: [{name: default}]}
"#;
    refused(
        text,
        decode::listener,
        &["listeners[l].filter_chains[0].transport_socket.typed_config.require_client_certificate: true without"],
    );
}

#[test]
fn older_spellings_mean_the_same() {
    let header = |specifier: &str| {
        let text = route_with(&format!(
            "match: {{prefix: /, headers: [{{name: X, {specifier}}}]}}, route: {{cluster: c}}"
        ));
        let config = decode::route_config(&json::parse(&text).unwrap()).unwrap();
        config.virtual_hosts[0].routes[0].matches.headers[0].clone()
    };
    assert_eq!(header("exact_match: a"), header("string_match: {exact: a}"));
    assert_eq!(header("prefix_match: a"), header("string_match: {prefix: a}"));
    assert_eq!(
        header("safe_regex_match: {regex: a}"),
        header("string_match: {safe_regex: {regex: a, google_re2: {}}}")
    );
    assert_eq!(header("exact_match: a").name, "x");
    assert_eq!(
        header("exact_match: a").value,
        HeaderValueMatch::Value(StringMatcher::exact("a"))
    );

    let http2 =
        |fields: &str| decode::cluster(&json::parse(&format!("{{name: c, {EDS}, {fields}}}")).unwrap()).unwrap();
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
        {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
        explicit_http_config: {http2_protocol_options: {}}}}";
    assert_eq!(http2("http2_protocol_options: {}"), http2(options));
}

#[test]
fn header_values_are_literal() {
    let add = |value: &str| {
        let text = route_with(&format!(
            "match: {{prefix: /}}, route: {{cluster: c}}, request_headers_to_add: [{{header: {{key: X-A, value: '{value}'}}}}]"
        ));
        decode::route_config(&json::parse(&text).unwrap())
            .map(|config| config.virtual_hosts[0].routes[0].request_headers.add[0].value.clone())
    };
    assert_eq!(add("100%%").unwrap(), "100%");
    for refused in ["%REQ(:path)%", "100%", "%%%", ""] {
        add(refused).unwrap_err();
    }
}

#[test]
fn expressions_are_bounded_in_depth_and_never_empty() {
    let listener = |permission: &str| {
        manager_with("rds: {route_config_name: r, config_source: {ads: {}}}").replace(
            "http_filters: [",
            &format!(
                "http_filters: [{{name: rbac, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC,
                rules: {{policies: {{p: {{principals: [{{any: true}}], permissions: [{permission}]}}}}}}}}}}, "
            ),
        )
    };
    let at = "listeners[l].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.rules.policies[p]";
    let nested = |levels: usize| format!("{}{{any: true}}{}", "{not_rule: ".repeat(levels), "}".repeat(levels));
    decode::listener(&json::parse(&listener(&nested(31))).unwrap()).unwrap();
    let too_deep = format!("{at}.permissions[0]{}: nested too deeply", ".not_rule".repeat(32));
    refused(&listener(&nested(32)), decode::listener, &[&too_deep]);
    refused(&listener(""), decode::listener, &[&format!("{at}.permissions: empty")]);
    refused(
        &listener("{or_rules: {rules: []}}"),
        decode::listener,
        &[&format!("{at}.permissions[0].or_rules.rules: empty")],
    );
    refused(
        &listener("{any: false}"),
        decode::listener,
        &[&format!("{at}.permissions[0].any: false")],
    );
    refused(
        &listener("{matcher: {name: x}}"),
        decode::listener,
        &[&format!("{at}.permissions[0].matcher: ")],
    );
}

#[test]
fn a_connect_tunnel_can_end_here() {
    let text = route_with(
        "match: {connect_matcher: {}}, route: {cluster: c, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}",
    );
    let config = decode::route_config(&json::parse(&text).unwrap()).unwrap();
    let route = &config.virtual_hosts[0].routes[0];
    assert_eq!(route.matches.path, PathMatch::Connect);
    assert!(matches!(&route.action, RouteAction::Forward(forward) if forward.terminate_connect));
}

#[test]
fn a_route_can_refuse_an_upgrade_and_allow_none() {
    let route = |upgrade: &str| {
        route_with(&format!(
            "match: {{prefix: /}}, route: {{cluster: c, upgrade_configs: [{{upgrade_type: {upgrade}}}]}}"
        ))
    };
    let config = decode::route_config(&json::parse(&route("WebSocket, enabled: false")).unwrap()).unwrap();
    let action = &config.virtual_hosts[0].routes[0].action;
    assert!(matches!(action, RouteAction::Forward(forward) if forward.refused_upgrades == ["websocket"]));
    let at = "route_configs[rc].virtual_hosts[0].routes[0].route.upgrade_configs[0]";
    for (upgrade, wrong) in [
        ("websocket", ".upgrade_type: websocket"),
        ("'', enabled: false", ".upgrade_type: not set"),
        ("CONNECT, enabled: false", ".enabled: false"),
        ("websocket, enabled: false, connect_config: {}", ".connect_config: set"),
    ] {
        refused(&route(upgrade), decode::route_config, &[&format!("{at}{wrong}")]);
    }
}
