//! What istiod serves an egress gateway for this job is taken.

use std::time::Duration;

use crate::{
    listener::{EscapedSlashes, ForwardClientCert, Protocol, RouteSource},
    source::Source,
    xds::{decode, json},
};

const SECRET: &str = "sds_config: {api_config_source: {api_type: GRPC, transport_api_version: V3, \
    set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}, \
    initial_fetch_timeout: 0s, resource_api_version: V3}";

const GATEWAY_LISTENER: &str = r#"
name: 0.0.0.0_8080
address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
traffic_direction: OUTBOUND
max_connections_to_accept_per_socket_event: 1
listener_filters:
- name: envoy.filters.listener.tls_inspector
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
access_log:
- name: envoy.access_loggers.file
  filter: {response_flag_filter: {flags: [NR]}}
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
    path: /dev/stdout
    log_format: {text_format_source: {inline_string: "%START_TIME%\n"}}
filter_chains:
- transport_socket_connect_timeout: 15s
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      require_client_certificate: true
      common_tls_context:
        alpn_protocols: [h2, http/1.1]
        tls_certificate_sds_secret_configs: [{name: default, $SECRET}]
        combined_validation_context:
          default_validation_context: {}
          validation_context_sds_secret_config: {name: ROOTCA, $SECRET}
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: outbound_0.0.0.0_8080;
      rds: {config_source: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}, route_config_name: r}
      http_filters:
      - name: envoy.filters.http.grpc_stats
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
          emit_filter_state: true
      - name: envoy.filters.http.fault
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
      - name: envoy.filters.http.cors
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      tracing:
        client_sampling: {value: 100}
        random_sampling: {value: 1}
        overall_sampling: {value: 100}
      http_protocol_options: {}
      server_name: istio-envoy
      use_remote_address: true
      forward_client_cert_details: SANITIZE_SET
      set_current_client_cert_details: {subject: true, cert: true, dns: true, uri: true}
      upgrade_configs: [{upgrade_type: websocket}]
      stream_idle_timeout: 0s
      normalize_path: true
      proxy_100_continue: true
      path_with_escaped_slashes_action: KEEP_UNCHANGED
"#;

#[test]
fn the_gateway_s_listener() {
    let text = GATEWAY_LISTENER.replace("$SECRET", SECRET);
    let listener = decode::listener(&json::parse(&text).unwrap()).unwrap();
    let Protocol::Http(http) = &listener.filter_chains[0].protocol else {
        panic!("{listener:?}");
    };
    assert!(matches!(&http.routes, RouteSource::Rds(name, Source::Ads) if name.as_str() == "r"));
    assert!(matches!(http.client_cert, ForwardClientCert::SanitizeSet(details) if details.uri && !details.chain));
    assert_eq!(http.escaped_slashes, EscapedSlashes::Keep);
    assert_eq!(http.timeouts.stream_idle, Some(Duration::ZERO));
    assert_eq!(listener.access_logs[0].only_flags, ["NR"]);
}

const ROUTES: &str = r#"
name: https.80.https.egress-gateway.istio-egress
validate_clusters: false
max_direct_response_body_size_bytes: 1048576
ignore_port_in_host_matching: true
virtual_hosts:
- name: example.com:80
  domains: [example.com]
  include_request_attempt_count: true
  routes:
  - match: {prefix: /, case_sensitive: true}
    metadata: {filter_metadata: {istio: {config: /apis/networking.istio.io/v1/virtual-service/x}}}
    decorator: {operation: "example.com:80/*"}
    route:
      cluster: outbound|80||example.com
      timeout: 0s
      max_grpc_timeout: 0s
      retry_policy:
        retry_on: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes
        num_retries: 2
        host_selection_retry_max_attempts: "5"
        retry_host_predicate:
        - name: envoy.retry_host_predicates.previous_hosts
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
"#;

#[test]
fn the_gateway_s_routes() {
    decode::route_config(&json::parse(ROUTES).unwrap()).unwrap();
}

const CLUSTER: &str = r#"
name: outbound|443|example-com-originate-TLS|example.com
alt_stat_name: outbound|443|example-com-originate-TLS|example.com;
type: STRICT_DNS
connect_timeout: 10s
lb_policy: LEAST_REQUEST
dns_refresh_rate: 60s
respect_dns_ttl: true
dns_jitter: 0.100s
dns_lookup_family: V4_ONLY
common_lb_config: {}
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    udp_max_queries: 100
metadata: {filter_metadata: {istio: {external: true, subset: example-com-originate-TLS}}}
circuit_breakers:
  thresholds:
  - {max_connections: 4294967295, max_pending_requests: 4294967295, max_requests: 4294967295,
     max_retries: 4294967295, track_remaining: true}
load_assignment:
  cluster_name: outbound|443|example-com-originate-TLS|example.com
  endpoints:
  - locality: {}
    load_balancing_weight: 1
    lb_endpoints:
    - load_balancing_weight: 1
      metadata: {filter_metadata: {istio: {workload: ;;;;}}}
      endpoint: {address: {socket_address: {address: example.com, port_value: 443}}}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: example.com
    common_tls_context:
      tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
      combined_validation_context:
        default_validation_context: {}
        validation_context_sds_secret_config: {name: "file-root:system", $SECRET}
"#;

#[test]
fn the_gateway_s_cluster_with_tls_origination() {
    let text = CLUSTER.replace("$SECRET", SECRET);
    let cluster = decode::cluster(&json::parse(&text).unwrap()).unwrap();
    assert_eq!(cluster.tls.unwrap().sni.as_deref(), Some("example.com"));
}
