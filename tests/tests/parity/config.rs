//! From a case to the bootstrap file that both proxies start from.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::case::{Case, Chain, Shape, merge};

/// What is logged of every request and connection, beside what a case adds.
pub(crate) const OPERATORS: &[&str] = &[
    "CONNECTION_ID",
    "START_TIME",
    "DURATION",
    "REQ(:METHOD)",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "REQ(:AUTHORITY)",
    "REQ(X-FORWARDED-FOR)",
    "REQ(USER-AGENT)",
    "REQ(X-REQUEST-ID)",
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)",
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "RESPONSE_CODE_DETAILS",
    "CONNECTION_TERMINATION_DETAILS",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "GRPC_STATUS",
    "UPSTREAM_HOST",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "REQUESTED_SERVER_NAME",
    "ROUTE_NAME",
    "FILTER_CHAIN_NAME",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_PEER_URI_SAN",
];

/// Where a case's parts are on this machine.
pub(crate) struct Places<'a> {
    /// The address of each upstream.
    pub(crate) upstreams: &'a BTreeMap<String, SocketAddr>,
    /// The name server.
    pub(crate) names: SocketAddr,
    /// Certificates and keys.
    pub(crate) pki: &'a Path,
    /// The access log.
    pub(crate) log: &'a Path,
}

/// The bootstrap file.
pub(crate) fn bootstrap(case: &Case, places: &Places<'_>) -> Value {
    document(&listener(case, places), &clusters(case, places), places)
}

/// The bootstrap file with this listener and these clusters.
pub(crate) fn document(listener: &Value, clusters: &[Value], places: &Places<'_>) -> Value {
    let mut document = json!({
        "node": {"id": "router~127.0.0.1~egress.istio-egress~istio-egress.svc.cluster.local", "cluster": "egress"},
        "admin": {"address": socket(([127, 0, 0, 1], 0).into())},
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [socket(places.names)],
            },
        },
        "static_resources": {
            "secrets": secrets(),
            "listeners": [listener],
            "clusters": clusters,
        },
    });
    fill(&mut document, places);
    document
}

/// An address.
pub(crate) fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Puts what is only known here in the place of `{{…}}`.
fn fill(value: &mut Value, places: &Places<'_>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, places)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, places)),
        Value::String(text) if text.contains("{{") => {
            let port = places
                .upstreams
                .iter()
                .find(|(name, _)| *text == format!("{{{{port {name}}}}}"));
            match port {
                Some((_, address)) => *value = json!(address.port()),
                None => *text = text.replace("{{pki}}", &places.pki.display().to_string()),
            }
        }
        _ => {}
    }
}

fn secrets() -> Value {
    json!([
        {
            "name": "default",
            "tls_certificate": {
                "certificate_chain": {"filename": "{{pki}}/gateway/cert-chain.pem"},
                "private_key": {"filename": "{{pki}}/gateway/key.pem"},
            },
        },
        {"name": "ROOTCA", "validation_context": {"trusted_ca": {"filename": "{{pki}}/gateway/root-cert.pem"}}},
        {"name": "public", "validation_context": {"trusted_ca": {"filename": "{{pki}}/site/root-cert.pem"}}},
    ])
}

fn listener(case: &Case, places: &Places<'_>) -> Value {
    let mut listener = json!({
        "name": "listener",
        "address": socket(([127, 0, 0, 1], 0).into()),
        "filter_chains": chains(case, places),
    });
    if case.listener != Shape::Http {
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
        }]);
    }
    if case.listener == Shape::Tcp {
        let mut log = access_log(case, places);
        log["filter"] = json!({"response_flag_filter": {"flags": ["NR"]}});
        listener["access_log"] = json!([log]);
    }
    merge(&mut listener, &case.socket);
    listener
}

/// The filter chains of a case.
pub(crate) fn chains(case: &Case, places: &Places<'_>) -> Vec<Value> {
    match case.listener {
        Shape::Http => vec![json!({"filters": [http(case, places)]})],
        Shape::Mtls => vec![json!({
            "filters": [http(case, places)],
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": downstream_tls(case)},
        })],
        Shape::Tcp => match &case.chains {
            None => vec![tcp(case, &Chain::default(), places)],
            Some(chains) => chains.iter().map(|chain| tcp(case, chain, places)).collect(),
        },
    }
}

/// The settings of a gateway's port in Istio.
fn http(case: &Case, places: &Places<'_>) -> Value {
    let mut manager = typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
    let usual = json!({
        "stat_prefix": "parity",
        "use_remote_address": true,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": true, "cert": true, "dns": true, "uri": true},
        "server_name": "istio-envoy",
        "normalize_path": true,
        "stream_idle_timeout": "0s",
        "proxy_100_continue": true,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [access_log(case, places)],
        "http_filters": http_filters(case),
        "route_config": route_config(case),
    });
    merge(&mut manager, &usual);
    merge(&mut manager, &case.http);
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
}

fn http_filters(case: &Case) -> Vec<Value> {
    let rbac = case.rbac.iter().map(|rules| {
        let mut filter = typed("envoy.extensions.filters.http.rbac.v3.RBAC");
        merge(&mut filter, rules);
        json!({"name": "envoy.filters.http.rbac", "typed_config": filter})
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": typed("envoy.extensions.filters.http.router.v3.Router"),
    });
    rbac.chain([router]).collect()
}

fn route_config(case: &Case) -> Value {
    let everything = || vec![json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}})];
    let hosts = case.virtual_hosts.clone().unwrap_or_else(|| {
        let routes = case.routes.clone().unwrap_or_else(everything);
        vec![json!({"name": "any", "domains": ["*"], "routes": routes})]
    });
    let mut config = json!({"name": "routes", "ignore_port_in_host_matching": true, "validate_clusters": false, "virtual_hosts": hosts});
    merge(&mut config, &case.route_config);
    config
}

fn downstream_tls(case: &Case) -> Value {
    let mut context = typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    let usual = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "combined_validation_context": {
                "default_validation_context": {},
                "validation_context_sds_secret_config": {"name": "ROOTCA"},
            },
        },
    });
    merge(&mut context, &usual);
    merge(&mut context, &case.tls);
    context
}

fn tcp(case: &Case, chain: &Chain, places: &Places<'_>) -> Value {
    let rbac = chain.rbac.iter().map(|rules| {
        let mut filter = typed("envoy.extensions.filters.network.rbac.v3.RBAC");
        merge(&mut filter, &json!({"stat_prefix": "tcp."}));
        merge(&mut filter, rules);
        json!({"name": "envoy.filters.network.rbac", "typed_config": filter})
    });
    let mut proxy = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    merge(
        &mut proxy,
        &json!({"stat_prefix": "parity", "access_log": [access_log(case, places)]}),
    );
    if chain.tcp.get("weighted_clusters").is_none() {
        merge(&mut proxy, &json!({"cluster": "upstream"}));
    }
    merge(&mut proxy, &chain.tcp);
    let proxy = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy});
    let mut filter_chain = json!({"filters": rbac.chain([proxy]).collect::<Vec<_>>()});
    if !chain.matches.is_null() {
        filter_chain["filter_chain_match"] = chain.matches.clone();
    }
    merge(&mut filter_chain, &chain.chain);
    filter_chain
}

/// An access log in the form that a case asks for.
pub(crate) fn access_log(case: &Case, places: &Places<'_>) -> Value {
    let mut file = typed("envoy.extensions.access_loggers.file.v3.FileAccessLog");
    file["path"] = json!(places.log);
    match &case.log_format {
        Some(Value::Object(format)) if format.is_empty() => {}
        Some(format) => file["log_format"] = format.clone(),
        None => file["log_format"] = json!({"json_format": operators(case)}),
    }
    json!({"name": "envoy.access_loggers.file", "typed_config": file})
}

fn operators(case: &Case) -> BTreeMap<&str, String> {
    let added = case.log.iter().map(String::as_str);
    let operators = OPERATORS.iter().copied().chain(added);
    operators.map(|operator| (operator, format!("%{operator}%"))).collect()
}

fn clusters(case: &Case, places: &Places<'_>) -> Vec<Value> {
    let usual = places.upstreams.iter().map(|(name, address)| {
        let endpoint = json!({"endpoint": {"address": socket(*address)}});
        let cluster = json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        });
        (name.as_str(), cluster)
    });
    let mut clusters: BTreeMap<&str, Value> = usual.collect();
    for (name, patch) in &case.clusters {
        let cluster = clusters.entry(name).or_insert_with(|| json!({"name": name}));
        merge(cluster, patch);
    }
    clusters.into_values().collect()
}

/// A message that is packed in an `Any`.
pub(crate) fn typed(message: &str) -> Value {
    json!({"@type": format!("type.googleapis.com/{message}")})
}
