//! `extensions.transport_sockets.tls.v3`: TLS contexts.

use crate::{
    SecretName,
    matcher::StringMatcher,
    secret::{SecretRef, SecretSource},
    source::Source,
    tls::{CertificateSource, DownstreamTls, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation},
    xds::{
        bootstrap::Ads,
        decode::{bootstrap, common, matcher},
        pb::{
            core::{ConfigSource, TransportSocket, config_source::ConfigSourceSpecifier, transport_socket::ConfigType},
            raw_buffer::RawBuffer,
            tls::{
                self,
                certificate_validation_context::{SystemRootCerts, TrustChainVerification},
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of TLS.
    MESSAGES:
    tls::DownstreamTlsContext {
        supported { common_tls_context, require_client_certificate = "true needs a validation context" }
        ignored { prefer_client_ciphers = "the order of cipher suites is ours" }
        rejected {
            require_sni = "use filter_chain_match.server_names", disable_stateful_session_resumption, session_timeout,
            ocsp_staple_policy, full_scan_certs_on_sni_mismatch, session_ticket_keys_type,
        }
    }
    tls::UpstreamTlsContext {
        supported { common_tls_context, sni }
        ignored { max_session_keys = "the session cache is sized by us" }
        rejected {
            auto_host_sni = "use auto_sni of the cluster's HTTP options",
            auto_sni_san_validation = "use auto_san_validation of the cluster's HTTP options",
            allow_renegotiation,
            enforce_rsa_key_usage,
        }
    }
    tls::CommonTlsContext {
        supported {
            tls_params,
            tls_certificates = "at most one, from files",
            tls_certificate_sds_secret_configs = "at most one",
            alpn_protocols,
            validation_context_type = "validation_context, validation_context_sds_secret_config, combined_validation_context",
        }
        rejected {
            tls_certificate_provider_instance, custom_tls_certificate_selector, tls_certificate_certificate_provider,
            tls_certificate_certificate_provider_instance, custom_handshaker, key_log,
        }
    }
    CombinedCertificateValidationContext {
        supported {
            default_validation_context = "names only; the roots come from the secret",
            validation_context_sds_secret_config,
        }
        rejected { validation_context_certificate_provider, validation_context_certificate_provider_instance }
    }
    tls::CertificateValidationContext {
        supported {
            trusted_ca = "filename; in a secret inline too",
            system_root_certs,
            match_typed_subject_alt_names,
            match_subject_alt_names = "deprecated: each is tried as DNS name, URI and IP address",
            trust_chain_verification = "ACCEPT_UNTRUSTED: upstream only, and alone",
        }
        ignored {
            watched_directory = "files are always watched",
            max_verify_depth = "path building has its own bound",
            suppress_client_ca_list = "only changes a hint to the client",
        }
        rejected {
            ca_certificate_provider_instance, verify_certificate_spki, verify_certificate_hash,
            require_signed_certificate_timestamp, crl, allow_expired_certificate, custom_validator_config,
            only_verify_leaf_cert_crl,
        }
    }
    SystemRootCerts {}
    tls::SubjectAltNameMatcher {
        supported { san_type = "DNS, URI, IP_ADDRESS", matcher }
        rejected { oid }
    }
    tls::TlsParameters {
        supported { tls_minimum_protocol_version = "TLS_AUTO, TLSv1_2, TLSv1_3", tls_maximum_protocol_version = "the same" }
        rejected { cipher_suites, ecdh_curves, signature_algorithms, compliance_policies }
    }
    tls::TlsCertificate {
        supported { certificate_chain = "filename; in a secret inline too", private_key = "the same" }
        ignored { watched_directory = "files are always watched" }
        rejected {
            pkcs12, private_key_provider, password, ocsp_staple, signed_certificate_timestamp, tls_params,
        }
    }
    tls::SdsSecretConfig {
        supported {
            name,
            sds_config = "api_config_source with a static cluster, path_config_source, path, ads, self; unset: static_resources.secrets",
        }
    }
}

/// The secret that stands for the system's trusted roots.
pub(super) const SYSTEM_ROOTS: &str = "file-root:system";

/// A listener's transport socket; `None` for plaintext.
pub(super) fn downstream_socket(scope: &Scope<'_>, message: &TransportSocket) -> Decoded<Option<DownstreamTls>> {
    socket(scope, message, |scope, context: tls::DownstreamTlsContext| {
        downstream(scope, &context)
    })
}

/// A cluster's transport socket; `None` for plaintext.
pub(super) fn upstream_socket(scope: &Scope<'_>, message: &TransportSocket) -> Decoded<Option<UpstreamTls>> {
    socket(scope, message, |scope, context: tls::UpstreamTlsContext| {
        upstream(scope, &context)
    })
}

fn socket<M: prost::Message + prost::Name + Default, T>(
    scope: &Scope<'_>,
    message: &TransportSocket,
    decode: impl FnOnce(&Scope<'_>, M) -> Decoded<T>,
) -> Decoded<Option<T>> {
    scope.check(message);
    let ConfigType::TypedConfig(any) = scope.required("typed_config", &message.config_type)?;
    let scope = scope.field("typed_config");
    if any.type_url == <RawBuffer as prost::Name>::type_url() {
        return Ok(None);
    }
    let context = scope.unpack(any)?;
    decode(&scope, context).map(Some)
}

fn downstream(scope: &Scope<'_>, message: &tls::DownstreamTlsContext) -> Decoded<DownstreamTls> {
    scope.check(message);
    let parts = common_context(scope, message.common_tls_context.as_ref())?;
    let required = message.require_client_certificate.is_some_and(|value| value.value);
    let validation = match parts.validation {
        WireValidation::Absent if required => {
            return Err(scope.field("require_client_certificate").refuse(
                "true without a validation context",
                "say whom to trust in common_tls_context, for example with combined_validation_context",
            ));
        }
        WireValidation::Absent => None,
        WireValidation::AcceptUntrusted => {
            return Err(scope
                .field("common_tls_context.validation_context.trust_chain_verification")
                .refuse("ACCEPT_UNTRUSTED", "clients' certificates are always verified"));
        }
        WireValidation::Verify(validation) => Some(validation),
    };
    Ok(DownstreamTls {
        certificate: match parts.certificate {
            Some(certificate) => certificate,
            None => {
                return Err(scope.field("common_tls_context").refuse(
                    "no certificate",
                    "tls_certificates or tls_certificate_sds_secret_configs",
                ));
            }
        },
        validation,
        require_client_certificate: required,
        alpn: parts.alpn,
        min_version: parts.min_version,
        max_version: parts.max_version,
    })
}

fn upstream(scope: &Scope<'_>, message: &tls::UpstreamTlsContext) -> Decoded<UpstreamTls> {
    scope.check(message);
    let parts = common_context(scope, message.common_tls_context.as_ref())?;
    let validation = match parts.validation {
        WireValidation::Absent => {
            return Err(scope.field("common_tls_context").refuse(
                "no validation context",
                "say whom to trust, for example with the secret file-root:system, or spell out \
                 validation_context.trust_chain_verification: ACCEPT_UNTRUSTED to check nothing",
            ));
        }
        WireValidation::AcceptUntrusted => None,
        WireValidation::Verify(validation) => Some(validation),
    };
    Ok(UpstreamTls {
        sni: common::non_empty(&message.sni),
        certificate: parts.certificate,
        validation,
        alpn: parts.alpn,
        min_version: parts.min_version,
        max_version: parts.max_version,
    })
}

struct Parts {
    certificate: Option<CertificateSource>,
    validation: WireValidation,
    alpn: Vec<String>,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

enum WireValidation {
    Absent,
    AcceptUntrusted,
    Verify(Validation),
}

fn common_context(scope: &Scope<'_>, message: Option<&tls::CommonTlsContext>) -> Decoded<Parts> {
    let scope = scope.field("common_tls_context");
    let message = message.ok_or_else(|| scope.missing())?;
    scope.check(message);
    let (min_version, max_version) = match &message.tls_params {
        Some(params) => versions(&scope.field("tls_params"), params)?,
        None => (None, None),
    };
    if let Some(protocol) = message.alpn_protocols.iter().find(|p| !(1..=255).contains(&p.len())) {
        return Err(scope
            .field("alpn_protocols")
            .refuse(format_args!("{protocol:?}"), "1 to 255 bytes"));
    }
    Ok(Parts {
        certificate: certificate(&scope, message)?,
        validation: validation(&scope, message.validation_context_type.as_ref())?,
        alpn: message.alpn_protocols.clone(),
        min_version,
        max_version,
    })
}

fn versions(scope: &Scope<'_>, message: &tls::TlsParameters) -> Decoded<(Option<TlsVersion>, Option<TlsVersion>)> {
    scope.check(message);
    let min = version(
        &scope.field("tls_minimum_protocol_version"),
        message.tls_minimum_protocol_version,
    )?;
    let max = version(
        &scope.field("tls_maximum_protocol_version"),
        message.tls_maximum_protocol_version,
    )?;
    if min > max && max.is_some() {
        return Err(scope.refuse("minimum above maximum", "a range of versions"));
    }
    Ok((min, max))
}

fn version(scope: &Scope<'_>, number: i32) -> Decoded<Option<TlsVersion>> {
    let version: TlsProtocol = scope.enumeration(number)?;
    match version {
        TlsProtocol::TlsAuto => Ok(None),
        TlsProtocol::TlSv12 => Ok(Some(TlsVersion::V1_2)),
        TlsProtocol::TlSv13 => Ok(Some(TlsVersion::V1_3)),
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            Err(scope.refuse(version.as_str_name(), "TLS_AUTO, TLSv1_2 or TLSv1_3"))
        }
    }
}

fn certificate(scope: &Scope<'_>, message: &tls::CommonTlsContext) -> Decoded<Option<CertificateSource>> {
    let files = scope.list("tls_certificates", &message.tls_certificates, certificate_files)?;
    let secrets = scope.list(
        "tls_certificate_sds_secret_configs",
        &message.tls_certificate_sds_secret_configs,
        |scope, config| secret(scope, config).map(CertificateSource::Sds),
    )?;
    let mut all: Vec<_> = files.into_iter().chain(secrets).collect();
    let certificate = all.pop();
    if !all.is_empty() {
        return Err(scope.refuse("several certificates", "at most one is supported"));
    }
    Ok(certificate)
}

/// A certificate and its key from files.
fn certificate_files(scope: &Scope<'_>, message: &tls::TlsCertificate) -> Decoded<CertificateSource> {
    scope.check(message);
    let chain = scope.required("certificate_chain", &message.certificate_chain)?;
    let key = scope.required("private_key", &message.private_key)?;
    Ok(CertificateSource::Files {
        chain: common::filename(&scope.field("certificate_chain"), chain)?.into(),
        key: common::filename(&scope.field("private_key"), key)?.into(),
    })
}

fn secret(scope: &Scope<'_>, message: &tls::SdsSecretConfig) -> Decoded<SecretRef> {
    scope.check(message);
    let name = scope.field("name").parse(&message.name, SecretName::parse);
    let source = match &message.sds_config {
        Some(config) => secret_source(&scope.field("sds_config"), config)?,
        None => SecretSource::Static,
    };
    Ok(SecretRef { name: name?, source })
}

fn secret_source(scope: &Scope<'_>, message: &ConfigSource) -> Decoded<SecretSource> {
    if let Some(ConfigSourceSpecifier::ApiConfigSource(service)) = &message.config_source_specifier {
        scope.check(message);
        let Ads { cluster, delta } = bootstrap::grpc_source(&scope.field("api_config_source"), service)?;
        return Ok(SecretSource::Service { cluster, delta });
    }
    Ok(match common::config_source(scope, message)? {
        Source::Ads => SecretSource::Ads,
        Source::File(file) => SecretSource::File(file),
    })
}

#[allow(deprecated)] // the deprecated cases are rejected by name
fn validation(scope: &Scope<'_>, message: Option<&ValidationContextType>) -> Decoded<WireValidation> {
    match message {
        None => Ok(WireValidation::Absent),
        Some(ValidationContextType::ValidationContext(context)) => {
            inline_validation(&scope.field("validation_context"), context)
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let name = secret(&scope.field("validation_context_sds_secret_config"), config)?;
            Ok(WireValidation::Verify(Validation {
                trust: TrustSource::Sds(name),
                sans: vec![],
            }))
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined_validation(&scope.field("combined_validation_context"), combined)
        }
        Some(
            ValidationContextType::ValidationContextCertificateProvider(_)
            | ValidationContextType::ValidationContextCertificateProviderInstance(_),
        ) => Err(scope.refuse(
            "a certificate provider",
            "validation_context, validation_context_sds_secret_config or combined_validation_context",
        )),
    }
}

fn combined_validation(scope: &Scope<'_>, message: &CombinedCertificateValidationContext) -> Decoded<WireValidation> {
    scope.check(message);
    let config = scope.required(
        "validation_context_sds_secret_config",
        &message.validation_context_sds_secret_config,
    )?;
    let trust = TrustSource::Sds(secret(&scope.field("validation_context_sds_secret_config"), config)?);
    let Some(context) = &message.default_validation_context else {
        return Ok(WireValidation::Verify(Validation { trust, sans: vec![] }));
    };
    let scope = scope.field("default_validation_context");
    scope.check(context);
    if context.trusted_ca.is_some() || context.system_root_certs.is_some() {
        return Err(scope
            .field("trusted_ca")
            .refuse("set", "the roots come from the secret, leave it unset"));
    }
    if accepts_untrusted(&scope, context)? {
        return Err(scope
            .field("trust_chain_verification")
            .refuse("ACCEPT_UNTRUSTED", "only in a validation_context of its own"));
    }
    let sans = sans(&scope, context)?;
    Ok(WireValidation::Verify(Validation { trust, sans }))
}

fn inline_validation(scope: &Scope<'_>, message: &tls::CertificateValidationContext) -> Decoded<WireValidation> {
    scope.check(message);
    let sans = sans(scope, message)?;
    let trust = trust(scope, message)?;
    match (accepts_untrusted(scope, message)?, trust) {
        (true, None) if sans.is_empty() => Ok(WireValidation::AcceptUntrusted),
        (true, _) => Err(scope
            .field("trust_chain_verification")
            .refuse("ACCEPT_UNTRUSTED beside trusted roots or names", "one or the other")),
        (false, Some(trust)) => Ok(WireValidation::Verify(Validation { trust, sans })),
        (false, None) => Err(scope.field("trusted_ca").refuse(
            "not set",
            "a file with the roots, system_root_certs, or trust_chain_verification: ACCEPT_UNTRUSTED to check nothing",
        )),
    }
}

/// Whether certificates are taken without a look.
pub(super) fn accepts_untrusted(scope: &Scope<'_>, message: &tls::CertificateValidationContext) -> Decoded<bool> {
    match scope
        .field("trust_chain_verification")
        .enumeration(message.trust_chain_verification)?
    {
        TrustChainVerification::VerifyTrustChain => Ok(false),
        TrustChainVerification::AcceptUntrusted => Ok(true),
    }
}

fn trust(scope: &Scope<'_>, message: &tls::CertificateValidationContext) -> Decoded<Option<TrustSource>> {
    match (&message.trusted_ca, &message.system_root_certs) {
        (Some(source), None) => {
            let file = common::filename(&scope.field("trusted_ca"), source)?;
            Ok(Some(TrustSource::File(file.into())))
        }
        (None, Some(roots)) => {
            let scope = scope.field("system_root_certs");
            scope.check(roots);
            let name = scope.parse(SYSTEM_ROOTS, SecretName::parse)?;
            Ok(Some(TrustSource::Sds(SecretRef::of_agent(name))))
        }
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(scope
            .field("system_root_certs")
            .refuse("set beside trusted_ca", "one of the two")),
    }
}

/// The names a certificate may have; none: any.
#[allow(deprecated)] // older configurations do not say which kind of name they mean
pub(super) fn sans(scope: &Scope<'_>, message: &tls::CertificateValidationContext) -> Decoded<Vec<SanMatcher>> {
    let mut sans = scope.list(
        "match_typed_subject_alt_names",
        &message.match_typed_subject_alt_names,
        san,
    )?;
    let untyped = scope.list(
        "match_subject_alt_names",
        &message.match_subject_alt_names,
        matcher::string,
    )?;
    sans.extend(untyped.iter().flat_map(any_kind));
    Ok(sans)
}

fn any_kind(name: &StringMatcher) -> [SanMatcher; 3] {
    [SanKind::Dns, SanKind::Uri, SanKind::Ip].map(|kind| SanMatcher {
        kind,
        name: name.clone(),
    })
}

fn san(scope: &Scope<'_>, message: &tls::SubjectAltNameMatcher) -> Decoded<SanMatcher> {
    scope.check(message);
    let at = scope.field("san_type");
    let kind: SanType = at.enumeration(message.san_type)?;
    let kind = match kind {
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::IpAddress => SanKind::Ip,
        SanType::Unspecified | SanType::Email | SanType::OtherName => {
            return Err(at.refuse(kind.as_str_name(), "DNS, URI or IP_ADDRESS"));
        }
    };
    let name = scope.required("matcher", &message.matcher)?;
    Ok(SanMatcher {
        kind,
        name: matcher::string(&scope.field("matcher"), name)?,
    })
}
