//! The bootstrap as an operator writes it.

use crate::{
    SecretName,
    secret::{Material, SecretContent},
    source::{FileSource, Source},
    xds::bootstrap::{Ads, Bootstrap},
};

const GATEWAY: &str = r#"
node:
  id: router~10.1.4.12~egress-0.istio-egress~istio-egress.svc.cluster.local
  cluster: egress
  metadata:
    NAMESPACE: istio-egress
    LABELS: {istio: egressgateway}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 15000}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc: {cluster_name: xds-grpc}
  lds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  cds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds-grpc
    type: STRICT_DNS
    load_assignment:
      cluster_name: xds-grpc
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: control.example, port_value: 15010}}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  secrets:
  - name: default
    tls_certificate:
      certificate_chain: {filename: /etc/certs/cert-chain.pem}
      private_key: {filename: /etc/certs/key.pem}
  - name: ROOTCA
    validation_context: {trusted_ca: {filename: /etc/certs/root-cert.pem}}
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    resolvers:
    - socket_address: {address: 127.0.0.1, port_value: 5353}
    - socket_address: {address: 10.96.0.10}
"#;

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

#[test]
fn a_gateway_s_bootstrap_is_read() {
    let bootstrap = Bootstrap::parse(GATEWAY).unwrap();
    assert_eq!(bootstrap.node.cluster, "egress");
    assert_eq!(bootstrap.node.metadata["LABELS"]["istio"], "egressgateway");
    assert_eq!(bootstrap.admin, Some(([127, 0, 0, 1], 15000).into()));
    assert_eq!(bootstrap.clusters[0].name.as_str(), "xds-grpc");
    assert_eq!(
        bootstrap.resolvers,
        [([127, 0, 0, 1], 5353).into(), ([10, 96, 0, 10], 53).into()]
    );
    assert_eq!(
        bootstrap.ads,
        Some(Ads {
            cluster: bootstrap.clusters[0].name.clone(),
            delta: true,
        })
    );
    let from = (bootstrap.listeners_from, bootstrap.clusters_from);
    assert_eq!(from, (Some(Source::Ads), Some(Source::Ads)));
    let file = |name: &str| Material::File(name.into());
    assert_eq!(
        bootstrap.secrets[&secret("default")],
        SecretContent::Certificate {
            chain: file("/etc/certs/cert-chain.pem"),
            key: file("/etc/certs/key.pem"),
        }
    );
    assert_eq!(
        bootstrap.secrets[&secret("ROOTCA")],
        SecretContent::Trust(file("/etc/certs/root-cert.pem"))
    );
}

#[test]
fn what_is_laid_over_a_file_wins_and_adds() {
    let over = "{node: {cluster: other, metadata: {MORE: x}}, static_resources: {clusters: [{name: more, type: STATIC, load_assignment: {cluster_name: more}}]}}";
    let merged = Bootstrap::merge(GATEWAY, over).unwrap();
    let file = Bootstrap::parse(GATEWAY).unwrap();
    assert_eq!(
        (&merged.node.id, merged.node.cluster.as_str()),
        (&file.node.id, "other")
    );
    assert_eq!(
        (&merged.node.metadata["MORE"], &merged.node.metadata["NAMESPACE"]),
        (&"x".into(), &"istio-egress".into())
    );
    let names: Vec<_> = merged.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["xds-grpc", "more"]);
    assert_eq!(Bootstrap::merge(GATEWAY, "").unwrap(), file);
    assert!(
        Bootstrap::merge(GATEWAY, "node: {idd: x}")
            .unwrap_err()
            .to_string()
            .contains("idd")
    );
}

#[test]
fn listeners_and_clusters_may_come_from_files() {
    let text = "dynamic_resources:
  lds_config: {path_config_source: {path: /xds/lds.yaml, watched_directory: {path: /xds}}}
  cds_config: {path: /xds/cds.yaml}";
    let bootstrap = Bootstrap::parse(text).unwrap();
    let file = |path: &str, watched: Option<&str>| {
        Some(Source::File(FileSource {
            path: path.into(),
            watched_directory: watched.map(Into::into),
        }))
    };
    assert_eq!(bootstrap.listeners_from, file("/xds/lds.yaml", Some("/xds")));
    assert_eq!(bootstrap.clusters_from, file("/xds/cds.yaml", None));
    assert_eq!(bootstrap.ads, None);
}

#[test]
fn what_a_bootstrap_may_not_say_is_named() {
    let check = |text: &str, expect: &str| {
        let error = Bootstrap::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check("{watchdogs: {}}", "watchdogs: set: not supported");
    check("{stats_sinks: [{name: a}]}", "stats_sinks: set: ");
    check(
        "{cluster_manager: {load_stats_config: {}}}",
        "cluster_manager.load_stats_config: set: not supported",
    );
    check(
        "{overload_manager: {actions: [{name: a}]}}",
        "overload_manager.actions: set: not supported",
    );
    check(
        "{overload_manager: {resource_monitors: [{name: a, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, \
         max_active_downstream_connections: 100}}]}}",
        "overload_manager.resource_monitors[0].typed_config.max_active_downstream_connections: 100: ",
    );
    check(
        "{bootstrap_extensions: [{name: a, typed_config: {'@type': \
         type.googleapis.com/envoy.config.core.v3.Node}}]}",
        "bootstrap_extensions[0]: envoy.config.core.v3.Node: ",
    );
    check(
        "{static_resources: {clusters: [{name: a, lb_policy: MAGLEV}]}}",
        "static_resources.clusters[0].lb_policy: MAGLEV",
    );
    check(
        "{dynamic_resources: {lds_config: {ads: {}}}}",
        "dynamic_resources.ads_config: not set",
    );
    check(
        "{dynamic_resources: {lds_config: {path_config_source: {path: ''}}}}",
        "dynamic_resources.lds_config.path_config_source.path: not set",
    );
    check(
        "{dynamic_resources: {cds_config: {path_config_source: {path: a, poll_interval: 1s}}}}",
        "dynamic_resources.cds_config.path_config_source.poll_interval: set",
    );
    check(
        "{dynamic_resources: {ads_config: {api_type: REST, transport_api_version: V3}}}",
        "dynamic_resources.ads_config.api_type: REST",
    );
    check(
        "{static_resources: {secrets: [{name: a, generic_secret: {}}]}}",
        "static_resources.secrets[0]: ",
    );
    check("{node: {id: a, idd: b}}", "node: unrecognized field name 'idd'");
    check(
        "{admin: {address: {pipe: {path: /x}}}}",
        "admin.address.pipe: set: only socket_address",
    );
}
