//! `extensions.transport_sockets.tls.v3`: TLS contexts.

use std::path::Path;

use crate::{
    ClusterName,
    secret::{SecretRef, SecretSource},
    source::Source,
    tls::{CertificateSource, DownstreamTls, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation},
    xds::{
        encode::{common, matcher},
        pb::{
            core::{
                ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, api_config_source::ApiType,
                config_source::ConfigSourceSpecifier, data_source, grpc_service,
            },
            tls::{
                self,
                certificate_validation_context::TrustChainVerification,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
    },
};

/// The server side.
pub(super) fn downstream(value: &DownstreamTls) -> tls::DownstreamTlsContext {
    let mut context = common_context(
        Some(&value.certificate),
        &value.alpn,
        value.min_version,
        value.max_version,
    );
    context.validation_context_type = value.validation.as_ref().map(validation);
    tls::DownstreamTlsContext {
        common_tls_context: Some(context),
        require_client_certificate: common::boolean(value.require_client_certificate),
        ..Default::default()
    }
}

/// The client side.
pub(super) fn upstream(value: &UpstreamTls) -> tls::UpstreamTlsContext {
    let mut context = common_context(
        value.certificate.as_ref(),
        &value.alpn,
        value.min_version,
        value.max_version,
    );
    context.validation_context_type = Some(value.validation.as_ref().map_or_else(accept_untrusted, validation));
    tls::UpstreamTlsContext {
        common_tls_context: Some(context),
        sni: value.sni.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn common_context(
    certificate: Option<&CertificateSource>,
    alpn: &[String],
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
) -> tls::CommonTlsContext {
    let mut context = tls::CommonTlsContext {
        alpn_protocols: alpn.to_vec(),
        tls_params: (min.is_some() || max.is_some()).then(|| tls::TlsParameters {
            tls_minimum_protocol_version: version(min).into(),
            tls_maximum_protocol_version: version(max).into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    match certificate {
        None => {}
        Some(CertificateSource::Sds(name)) => context.tls_certificate_sds_secret_configs = vec![secret(name)],
        Some(CertificateSource::Files { chain, key }) => {
            context.tls_certificates = vec![tls::TlsCertificate {
                certificate_chain: Some(file(chain)),
                private_key: Some(file(key)),
                ..Default::default()
            }];
        }
    }
    context
}

fn version(value: Option<TlsVersion>) -> TlsProtocol {
    match value {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::V1_2) => TlsProtocol::TlSv12,
        Some(TlsVersion::V1_3) => TlsProtocol::TlSv13,
    }
}

fn secret(value: &SecretRef) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig {
        name: value.name.to_string(),
        sds_config: match &value.source {
            SecretSource::Static => None,
            SecretSource::Service { cluster, delta } => Some(service(cluster, *delta)),
            SecretSource::Ads => Some(common::config_source(&Source::Ads)),
            SecretSource::File(file) => Some(common::config_source(&Source::File(file.clone()))),
        },
    }
}

/// A discovery service, as istiod writes it.
fn service(cluster: &ClusterName, delta: bool) -> ConfigSource {
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: cluster.to_string(),
            ..Default::default()
        })),
        ..Default::default()
    };
    common::source(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
        api_type: if delta { ApiType::DeltaGrpc } else { ApiType::Grpc }.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    }))
}

fn file(path: &Path) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::Filename(path.to_string_lossy().into_owned())),
        ..Default::default()
    }
}

fn accept_untrusted() -> ValidationContextType {
    ValidationContextType::ValidationContext(tls::CertificateValidationContext {
        trust_chain_verification: TrustChainVerification::AcceptUntrusted.into(),
        ..Default::default()
    })
}

fn validation(value: &Validation) -> ValidationContextType {
    let names = tls::CertificateValidationContext {
        match_typed_subject_alt_names: value.sans.iter().map(san).collect(),
        ..Default::default()
    };
    match &value.trust {
        TrustSource::Sds(name) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(names),
                validation_context_sds_secret_config: Some(secret(name)),
                ..Default::default()
            })
        }
        TrustSource::File(path) => ValidationContextType::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: Some(file(path)),
            ..names
        }),
    }
}

fn san(value: &SanMatcher) -> tls::SubjectAltNameMatcher {
    let kind = match value.kind {
        SanKind::Dns => SanType::Dns,
        SanKind::Uri => SanType::Uri,
        SanKind::Ip => SanType::IpAddress,
    };
    tls::SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher::string(&value.name)),
        ..Default::default()
    }
}
