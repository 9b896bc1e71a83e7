//! Clusters whose endpoints are names, in both of Envoy's forms.

use crate::xds::{DecodeError, decode, json};

const ADDRESS: &str = "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: \
    {socket_address: {address: example.com, port_value: 443}}}}]}]}";
const TYPE: &str = r#""@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"#;

fn cluster(fields: &str) -> Result<crate::cluster::Cluster, DecodeError> {
    decode::cluster(&json::parse(&format!("{{name: c, {ADDRESS}, {fields}}}")).unwrap())
}

fn custom(fields: &str) -> String {
    format!("cluster_type: {{name: envoy.clusters.dns, typed_config: {{{TYPE}, {fields}}}}}")
}

#[test]
fn both_forms_mean_the_same() {
    for (older, today) in [
        ("type: STRICT_DNS", ""),
        ("type: LOGICAL_DNS", "all_addresses_in_single_endpoint: true"),
        (
            "type: STRICT_DNS, dns_refresh_rate: 60s, respect_dns_ttl: true, dns_lookup_family: V4_ONLY",
            "dns_refresh_rate: 60s, respect_dns_ttl: true, dns_lookup_family: V4_ONLY",
        ),
        (
            "type: STRICT_DNS, dns_lookup_family: ALL, dns_jitter: 1s",
            "dns_lookup_family: ALL, dns_jitter: 1s",
        ),
        ("type: STRICT_DNS", "dns_lookup_family: AUTO"),
    ] {
        assert_eq!(cluster(older).unwrap(), cluster(&custom(today)).unwrap(), "{today}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let at = "clusters[c].cluster_type.typed_config";
    for (fields, expect) in [
        (custom("dns_min_refresh_rate: 2s"), format!("{at}.dns_min_refresh_rate: set")),
        (
            custom("dns_failure_refresh_rate: {base_interval: 2s}"),
            format!("{at}.dns_failure_refresh_rate: set"),
        ),
        (custom("dns_refresh_rate: 0.0001s"), format!("{at}.dns_refresh_rate: ")),
        (
            format!("{}, respect_dns_ttl: true", custom("")),
            "clusters[c].respect_dns_ttl: set: write it in cluster_type".to_owned(),
        ),
        (
            "cluster_type: {name: envoy.clusters.dns}".to_owned(),
            "clusters[c].cluster_type.typed_config: not set".to_owned(),
        ),
        (
            r#"cluster_type: {name: a, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"#.to_owned(),
            "clusters[c].cluster_type.typed_config.@type: ".to_owned(),
        ),
    ] {
        let error = cluster(&fields).unwrap_err().to_string();
        assert!(error.contains(&expect), "{error}");
    }
}
