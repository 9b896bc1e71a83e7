//! Secrets, and where configuration says they are.

use proptest::{collection::vec, prelude::*};

use crate::{
    ClusterName, SecretName,
    secret::{AGENT_CLUSTER, Material, Secret, SecretContent, SecretRef, SecretSource},
    source::FileSource,
    tls::{CertificateSource, TrustSource},
    xds::{Any, ResourceType, bootstrap::Bootstrap, decode, json, pb, secret},
};

fn secret() -> BoxedStrategy<Secret> {
    let material = || {
        prop_oneof![
            vec(any::<u8>(), 1..64).prop_map(Material::Inline),
            "/[a-z]{1,8}".prop_map(|path| Material::File(path.into())),
        ]
    };
    let content = prop_oneof![
        (material(), material()).prop_map(|(chain, key)| SecretContent::Certificate { chain, key }),
        material().prop_map(SecretContent::Trust),
    ];
    ("[a-zA-Z:/~.-]{1,30}", content)
        .prop_map(|(name, content)| Secret {
            name: SecretName::parse(&name).unwrap(),
            content,
        })
        .boxed()
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(value in secret()) {
        let any = secret::encode(&value);
        prop_assert_eq!(&any.type_url, ResourceType::Secret.type_url());
        prop_assert_eq!(secret::decode(&any).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..256)) {
        let any = Any { type_url: ResourceType::Secret.type_url().to_owned(), value: bytes };
        let _ = secret::decode(&any);
    }

    #[test]
    fn nothing_inline_is_shown(word in "[a-z]{12}") {
        let material = || Material::Inline(word.clone().into_bytes());
        let shown = format!("{:?}", SecretContent::Certificate { chain: material(), key: material() });
        prop_assert!(!shown.contains(&word), "{}", shown);
    }
}

#[test]
fn what_a_secret_may_not_be_is_named() {
    let check = |content: &str, expect: &str| {
        let text = format!("{{name: s, {content}}}");
        let error = decode::secret(&json::parse::<pb::tls::Secret>(&text).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains("hush"), "{error}");
    };
    check(
        "generic_secret: {secret: {inline_string: hush}}",
        "secrets[s]: another kind of secret",
    );
    check(
        "session_ticket_keys: {keys: [{inline_string: hush}]}",
        "secrets[s]: another kind of secret",
    );
    check(
        "tls_certificate: {private_key: {inline_string: hush}}",
        "tls_certificate.certificate_chain: not set",
    );
    check(
        "tls_certificate: {certificate_chain: {inline_string: c}, private_key: {inline_string: hush}, password: {inline_string: hush}}",
        "tls_certificate.password: set: not supported",
    );
    check(
        "tls_certificate: {certificate_chain: {inline_string: c}, private_key: {environment_variable: KEY}}",
        "tls_certificate.private_key.environment_variable: set",
    );
    check(
        "tls_certificate: {certificate_chain: {filename: ''}, private_key: {filename: k}}",
        "certificate_chain: empty",
    );
    check("validation_context: {}", "validation_context.trusted_ca: not set");
    check(
        "validation_context: {trusted_ca: {filename: r}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}",
        "validation_context.match_typed_subject_alt_names: set",
    );
    check(
        "validation_context: {trusted_ca: {filename: r}, crl: {filename: c}}",
        "validation_context.crl: set",
    );
}

/// A cluster whose certificate is the secret `s`, which comes from somewhere.
fn cluster(source: &str) -> String {
    format!(
        r#"
name: c
type: STATIC
load_assignment: {{cluster_name: c}}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    common_tls_context:
      tls_certificate_sds_secret_configs: [{{name: s{source}}}]
      validation_context_sds_secret_config: {{name: r{source}}}
"#
    )
}

#[test]
fn the_same_name_from_another_source_is_another_secret() {
    let service = |delta| SecretSource::Service {
        cluster: ClusterName::parse(AGENT_CLUSTER).unwrap(),
        delta,
    };
    let file = |watched: Option<&str>| {
        SecretSource::File(FileSource {
            path: "/xds/secrets.yaml".into(),
            watched_directory: watched.map(Into::into),
        })
    };
    let api = |api_type: &str| {
        format!(
            ", sds_config: {{api_config_source: {{api_type: {api_type}, transport_api_version: V3, \
             set_node_on_first_message_only: true, grpc_services: [{{envoy_grpc: {{cluster_name: sds-grpc}}}}]}}, \
             initial_fetch_timeout: 0s, resource_api_version: V3}}"
        )
    };
    let watched = "{path: /xds/secrets.yaml, watched_directory: {path: /xds}}";
    for (text, source) in [
        (String::new(), SecretSource::Static),
        (api("GRPC"), service(false)),
        (api("DELTA_GRPC"), service(true)),
        (
            ", sds_config: {ads: {}, resource_api_version: V3}".to_owned(),
            SecretSource::Ads,
        ),
        (
            format!(", sds_config: {{path_config_source: {watched}}}"),
            file(Some("/xds")),
        ),
        (", sds_config: {path: /xds/secrets.yaml}".to_owned(), file(None)),
    ] {
        let tls = decode::cluster(&json::parse(&cluster(&text)).unwrap())
            .unwrap()
            .tls
            .unwrap();
        let of = |name| SecretRef {
            name: SecretName::parse(name).unwrap(),
            source: source.clone(),
        };
        assert_eq!(tls.certificate, Some(CertificateSource::Sds(of("s"))), "{text}");
        assert_eq!(tls.validation.unwrap().trust, TrustSource::Sds(of("r")), "{text}");
    }
}

#[test]
fn a_source_that_cannot_be_asked_is_named() {
    let at = "common_tls_context.tls_certificate_sds_secret_configs[0].sds_config";
    let api = |rest: &str| format!("{{api_config_source: {{transport_api_version: V3, {rest}}}}}");
    for (source, expect) in [
        ("{}".to_owned(), format!("{at}: no source")),
        (api("api_type: REST"), format!("{at}.api_config_source.api_type: REST")),
        (
            api("api_type: GRPC"),
            format!("{at}.api_config_source.grpc_services: 0 services"),
        ),
        (
            api("api_type: GRPC, grpc_services: [{google_grpc: {target_uri: x, stat_prefix: y}}]"),
            format!("{at}.api_config_source.grpc_services[0].google_grpc: set"),
        ),
        (
            api("api_type: GRPC, rate_limit_settings: {}, grpc_services: [{envoy_grpc: {cluster_name: a}}]"),
            format!("{at}.api_config_source.rate_limit_settings: set"),
        ),
        (
            "{path_config_source: {path: ''}}".to_owned(),
            format!("{at}.path_config_source.path: not set"),
        ),
    ] {
        let text = cluster(&format!(", sds_config: {source}"));
        let error = decode::cluster(&json::parse(&text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&expect), "{error}");
    }
}

#[test]
fn a_unix_socket_is_an_address_of_static_clusters_only() {
    let check = |kind: &str, path: &str| {
        let text = format!(
            "static_resources: {{clusters: [{{name: c, type: {kind}, load_assignment: {{cluster_name: c, endpoints: \
             [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {path}}}}}}}]}}]}}}}]}}"
        );
        Bootstrap::parse(&text).map_err(|error| error.to_string())
    };
    check("STATIC", "{path: ./var/run/socket}").unwrap();
    for (kind, path, expect) in [
        ("STRICT_DNS", "{path: /s}", "a pipe is for clusters of type STATIC"),
        ("STATIC", "{path: ''}", "pipe.path: not set"),
        ("STATIC", "{path: '@abstract'}", "abstract sockets are not supported"),
        ("STATIC", "{path: /s, mode: 384}", "pipe.mode: set"),
    ] {
        let error = check(kind, path).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }
}
