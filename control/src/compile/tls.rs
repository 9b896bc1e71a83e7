//! TLS towards a cluster, from a DestinationRule's mode.
//!
//! Where Istio checks less than a reader of the rule would think, more is compiled, in terms that Envoy understands; see
//! [`SaferDefaults`](crate::mesh_config::SaferDefaults).

use std::{net::IpAddr, path::PathBuf};

use mesh::{
    cluster::UpstreamHttp,
    id::TrustDomain,
    matcher::StringMatcher,
    tls::{CertificateSource, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation},
};

use super::{Context, names, notes::Problem};
use crate::{
    istio::destination_rule::{ClientTls, ClientTlsMode},
    world::Service,
};

/// TLS of a cluster, and what it takes from each request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ClusterTls {
    pub(super) tls: Option<UpstreamTls>,
    /// The server name is the request's host.
    pub(super) auto_sni: bool,
    /// And the certificate must be for it.
    pub(super) auto_san_validation: bool,
}

/// What a cluster is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterOf<'a> {
    pub(super) service: &'a Service,
    pub(super) port: u16,
    pub(super) subset: &'a str,
    pub(super) http: UpstreamHttp,
    /// Whether requests are sent, or bytes.
    pub(super) carries_requests: bool,
    /// The namespace of the rules that apply, if any do.
    pub(super) rules_of: Option<&'a str>,
}

/// The workload's own certificate, by the name the identity agent serves it under.
const WORKLOAD_CERTIFICATE: &str = "default";
/// The mesh's roots.
const MESH_ROOTS: &str = "ROOTCA";
/// The roots of the operating system.
const SYSTEM_ROOTS: &str = "file-root:system";

/// The TLS that a rule asks for.
pub(super) fn towards(cx: Context<'_>, rule: Option<&ClientTls>, of: ClusterOf<'_>) -> Result<ClusterTls, Problem> {
    let Some(rule) = rule else {
        return Ok(ClusterTls::default());
    };
    match rule.mode {
        ClientTlsMode::Disable => Ok(ClusterTls::default()),
        ClientTlsMode::Simple => Ok(origination(cx, rule, of, None)),
        ClientTlsMode::Mutual => {
            let certificate = own_files(cx, rule, of)?;
            Ok(origination(cx, rule, of, Some(certificate)))
        }
        ClientTlsMode::IstioMutual => Ok(ClusterTls {
            tls: Some(mesh_tls(cx, rule, of)),
            ..ClusterTls::default()
        }),
    }
}

/// The names a mesh peer behind one of these trust domains has: `spiffe://<domain>/…`.
pub(super) fn members<'a>(domains: impl Iterator<Item = &'a TrustDomain>, rest: &str) -> Vec<SanMatcher> {
    let member = |domain| SanMatcher {
        kind: SanKind::Uri,
        name: StringMatcher::prefix(format!("spiffe://{domain}/{rest}")),
    };
    domains.map(member).collect()
}

/// A name as a rule lists it; what kind of name it is shows in its form.
pub(super) fn san(name: &str) -> SanMatcher {
    let kind = if name.contains("://") {
        SanKind::Uri
    } else if name.parse::<IpAddr>().is_ok() {
        SanKind::Ip
    } else {
        SanKind::Dns
    };
    let name = match kind {
        SanKind::Dns => name.to_ascii_lowercase(),
        SanKind::Uri | SanKind::Ip => name.to_owned(),
    };
    SanMatcher {
        kind,
        name: StringMatcher::exact(name),
    }
}

fn own_files(cx: Context<'_>, rule: &ClientTls, of: ClusterOf<'_>) -> Result<CertificateSource, Problem> {
    let own = [&cx.node.namespace, &cx.mesh.root_namespace];
    let foreign = of.rules_of.filter(|namespace| !own.iter().any(|own| own == namespace));
    if let Some(namespace) = foreign.filter(|_| cx.is_gateway() && cx.mesh.safer_defaults.own_credentials_only) {
        return Err(Problem::invalid(
            format!("a gateway's own files are not for a rule of namespace {namespace}"),
            "move the rule to the gateway's namespace; saferDefaults.ownCredentialsOnly: false does as Istio does",
        ));
    }
    if rule.client_certificate.is_empty() || rule.private_key.is_empty() {
        return Err(Problem::invalid(
            "mode MUTUAL needs clientCertificate and privateKey",
            "give both files, or use mode SIMPLE or ISTIO_MUTUAL",
        ));
    }
    Ok(CertificateSource::Files {
        chain: PathBuf::from(&rule.client_certificate),
        key: PathBuf::from(&rule.private_key),
    })
}

/// TLS to a site outside.
fn origination(
    cx: Context<'_>,
    rule: &ClientTls,
    of: ClusterOf<'_>,
    certificate: Option<CertificateSource>,
) -> ClusterTls {
    let auto_sni = rule.sni.is_empty();
    let listed = if rule.subject_alt_names.is_empty() {
        &of.service.subject_alt_names
    } else {
        &rule.subject_alt_names
    };
    let mut sans: Vec<_> = listed.iter().map(|name| san(name)).collect();
    if sans.is_empty() && !auto_sni && cx.mesh.safer_defaults.verify_upstream_names {
        sans.push(san(&rule.sni));
    }
    let auto_san_validation = auto_sni && sans.is_empty() && !rule.insecure_skip_verify;
    let trust = match rule.ca_certificates.as_str() {
        "" => TrustSource::Sds(names::secret(SYSTEM_ROOTS)),
        file => TrustSource::File(PathBuf::from(file)),
    };
    ClusterTls {
        tls: Some(UpstreamTls {
            sni: (!auto_sni).then(|| rule.sni.clone()),
            certificate,
            validation: (!rule.insecure_skip_verify).then_some(Validation { trust, sans }),
            alpn: match of.http {
                UpstreamHttp::Http2 => vec!["h2".into()],
                UpstreamHttp::Http1 | UpstreamHttp::AsDownstream => Vec::new(),
            },
            min_version: Some(TlsVersion::V1_2),
            max_version: Some(TlsVersion::V1_3),
        }),
        auto_sni,
        auto_san_validation,
    }
}

/// Mutual TLS to a member of the mesh.
fn mesh_tls(cx: Context<'_>, rule: &ClientTls, of: ClusterOf<'_>) -> UpstreamTls {
    let sni = match rule.sni.as_str() {
        "" => names::subset_sni(of.port, of.subset, &of.service.host),
        written => written.to_owned(),
    };
    UpstreamTls {
        sni: Some(sni),
        certificate: Some(CertificateSource::Sds(names::secret(WORKLOAD_CERTIFICATE))),
        validation: (!rule.insecure_skip_verify).then(|| Validation {
            trust: TrustSource::Sds(names::secret(MESH_ROOTS)),
            sans: mesh_sans(cx, rule, of.service),
        }),
        alpn: mesh_alpn(of),
        min_version: Some(TlsVersion::V1_2),
        max_version: Some(TlsVersion::V1_3),
    }
}

/// Who may answer for a mesh destination: whom the rule lists, else the service's accounts. If none is known, Istio takes any
/// member of the mesh; we take any of the service's namespace.
fn mesh_sans(cx: Context<'_>, rule: &ClientTls, service: &Service) -> Vec<SanMatcher> {
    let listed = [&rule.subject_alt_names, &service.subject_alt_names];
    if let Some(names) = listed.into_iter().find(|names| !names.is_empty()) {
        return names.iter().map(|name| san(name)).collect();
    }
    let identities = service
        .accounts
        .iter()
        .flat_map(|account| identities(cx, service, account));
    let known: Vec<_> = identities.map(|identity| san(&identity)).collect();
    if known.is_empty() && cx.mesh.safer_defaults.verify_upstream_names {
        return members(cx.mesh.trust_domains(), &format!("ns/{}/", service.namespace()));
    }
    known
}

/// An account's identities, one per trust domain.
fn identities(cx: Context<'_>, service: &Service, account: &str) -> Vec<String> {
    if account.contains("://") {
        return vec![account.to_owned()];
    }
    let namespace = service.namespace();
    let domains = cx.mesh.trust_domains();
    domains
        .map(|domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
        .collect()
}

/// What Istio's sidecars offer. For requests its `istio.alpn` filter chooses the list per request; here the upstream's HTTP
/// version is fixed, so that the list is too. A gateway that knows only `h2` and `http/1.1` picks the last entry.
fn mesh_alpn(of: ClusterOf<'_>) -> Vec<String> {
    let protocols: &[&str] = match (of.carries_requests, of.http) {
        (false, _) => &["istio-peer-exchange", "istio"],
        (true, UpstreamHttp::Http2) => &["istio-h2", "istio", "h2"],
        (true, UpstreamHttp::Http1) => &["istio-http/1.1", "istio", "http/1.1"],
        // Envoy fills in the version of the request.
        (true, UpstreamHttp::AsDownstream) => &[],
    };
    protocols.iter().map(|protocol| (*protocol).to_owned()).collect()
}
