//! `MeshConfig`: what is the same for the whole mesh, in the names and with the defaults of Istio's `MeshConfig`, as far as
//! proxies here depend on it.
//!
//! Two defaults differ. The access log is on (`/dev/stdout`): what a gateway let out or refused is the reason it is there, so
//! silence has to be asked for. And [`SaferDefaults`] are on: what Istio leaves open without saying so is closed.

use std::{path::PathBuf, time::Duration};

use mesh::{
    id::TrustDomain,
    log::{AccessLog, ISTIO_DEFAULT_FORMAT, LogFormat},
};
use serde::Deserialize;

use crate::istio::{SettingsError, scalar, settings, sidecar::OutboundMode};

/// The mesh-wide settings. Reads strictly: a field that is not here is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct MeshConfig {
    /// The trust domain of the mesh's identities.
    pub trust_domain: TrustDomain,
    /// Further trust domains whose identities are as good.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// The namespace whose policies and Sidecar apply to the whole mesh.
    pub root_namespace: String,
    /// What sidecars do about destinations that are not in the registry, unless a Sidecar says otherwise.
    pub outbound_mode: OutboundMode,
    /// Port of the sidecar's explicit HTTP proxy. `None`: there is none, unless a proxy's metadata asks for one.
    pub proxy_http_port: Option<u16>,
    /// Port that redirected connections arrive at.
    pub proxy_listen_port: u16,
    /// Where records go and what they look like. `None`: nowhere.
    pub access_log: Option<AccessLog>,
    /// Bound on a TCP connect.
    pub connect_timeout: Duration,
    /// Time between lookups of a name whose last answer had no TTL.
    pub dns_refresh_rate: Duration,
    /// How paths are normalised before they are matched and forwarded.
    pub path_normalization: PathNormalization,
    /// What is stricter here than in Istio.
    pub safer_defaults: SaferDefaults,
}

/// `pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// As [`PathNormalization::Base`].
    #[default]
    Default,
    /// Paths stay as they are.
    None,
    /// RFC 3986 section 6.
    Base,
    /// And adjacent slashes are merged.
    MergeSlashes,
    /// And `%2F` and `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// Sallyport's own: what is closed although Istio leaves it open. Each can be opened again by setting it to `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SaferDefaults {
    /// An upstream's certificate must be for `sni` when a DestinationRule gives a `sni` and no `subjectAltNames`, and for the
    /// destination's namespace when an ISTIO_MUTUAL destination has no known service account. Istio checks the chain only.
    pub verify_upstream_names: bool,
    /// A gateway's ISTIO_MUTUAL server accepts identities of the mesh's trust domains only. Istio accepts whatever chains to
    /// the mesh's roots.
    pub verify_client_trust_domain: bool,
    /// Headers that describe the mesh do not leave it; see [`crate::compile`]. Istio sends them to external sites.
    pub remove_mesh_headers: bool,
    /// A gateway shows certificates from its own files only for DestinationRules of its own or the root namespace. Istio lets
    /// whoever owns a destination name any file of the gateway.
    pub own_credentials_only: bool,
}

/// The settings as they are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    trust_domain: String,
    trust_domain_aliases: Vec<String>,
    root_namespace: String,
    outbound_traffic_policy: WrittenOutbound,
    proxy_http_port: Option<scalar::Port>,
    proxy_listen_port: Option<scalar::Port>,
    access_log_file: String,
    access_log_format: String,
    access_log_encoding: Encoding,
    connect_timeout: Option<scalar::Duration>,
    dns_refresh_rate: Option<scalar::Duration>,
    path_normalization: WrittenNormalization,
    safer_defaults: SaferDefaults,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenOutbound {
    mode: OutboundMode,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenNormalization {
    normalization: PathNormalization,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Encoding {
    #[default]
    Text,
    Json,
}

const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
const PROXY_LISTEN_PORT: u16 = 15001;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DNS_REFRESH_RATE: Duration = Duration::from_secs(60);

/// Istio's default members of a JSON record.
const JSON_FIELDS: &[(&str, &str)] = &[
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

impl MeshConfig {
    /// Reads a YAML document with Istio's field names; what it does not say has its default.
    ///
    /// # Errors
    /// Every field that is unknown, not implemented or of the wrong form, by line.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        settings(text)
    }

    /// The mesh's trust domains, its own first.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        std::iter::once(&self.trust_domain).chain(&self.trust_domain_aliases)
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self::try_from(Written::default()).expect("the defaults are valid")
    }
}

impl Default for SaferDefaults {
    fn default() -> Self {
        Self {
            verify_upstream_names: true,
            verify_client_trust_domain: true,
            remove_mesh_headers: true,
            own_credentials_only: true,
        }
    }
}

impl Default for Written {
    fn default() -> Self {
        Self {
            trust_domain: DEFAULT_TRUST_DOMAIN.into(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".into(),
            outbound_traffic_policy: WrittenOutbound::default(),
            proxy_http_port: None,
            proxy_listen_port: None,
            access_log_file: "/dev/stdout".into(),
            access_log_format: String::new(),
            access_log_encoding: Encoding::default(),
            connect_timeout: None,
            dns_refresh_rate: None,
            path_normalization: WrittenNormalization::default(),
            safer_defaults: SaferDefaults::default(),
        }
    }
}

impl Default for WrittenOutbound {
    fn default() -> Self {
        Self {
            mode: OutboundMode::AllowAny,
        }
    }
}

impl TryFrom<Written> for MeshConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let aliases = written.trust_domain_aliases.iter();
        Ok(Self {
            trust_domain: trust_domain("trustDomain", &written.trust_domain)?,
            trust_domain_aliases: aliases
                .map(|alias| trust_domain("trustDomainAliases", alias))
                .collect::<Result<_, _>>()?,
            access_log: written.access_log()?,
            root_namespace: written.root_namespace,
            outbound_mode: written.outbound_traffic_policy.mode,
            proxy_http_port: written.proxy_http_port.map(scalar::Port::get),
            proxy_listen_port: written.proxy_listen_port.map_or(PROXY_LISTEN_PORT, scalar::Port::get),
            connect_timeout: written.connect_timeout.map_or(CONNECT_TIMEOUT, scalar::Duration::get),
            dns_refresh_rate: written.dns_refresh_rate.map_or(DNS_REFRESH_RATE, scalar::Duration::get),
            path_normalization: written.path_normalization.normalization,
            safer_defaults: written.safer_defaults,
        })
    }
}

impl Written {
    fn access_log(&self) -> Result<Option<AccessLog>, String> {
        if self.access_log_file.is_empty() {
            return Ok(None);
        }
        Ok(Some(AccessLog {
            path: PathBuf::from(&self.access_log_file),
            format: self.log_format()?,
            only_flags: Vec::new(),
        }))
    }

    fn log_format(&self) -> Result<LogFormat, String> {
        match (self.access_log_encoding, self.access_log_format.as_str()) {
            (Encoding::Text, "") => Ok(LogFormat::Text(ISTIO_DEFAULT_FORMAT.into())),
            (Encoding::Text, text) => Ok(LogFormat::Text(text.to_owned())),
            (Encoding::Json, "") => Ok(json(default_members())),
            (Encoding::Json, text) => serde_json::from_str(text).map(json).map_err(|error| {
                format!("accessLogFormat: with accessLogEncoding JSON it must be a JSON object: {error}")
            }),
        }
    }
}

fn json(fields: serde_json::Map<String, serde_json::Value>) -> LogFormat {
    LogFormat::Json {
        fields,
        omit_empty: false,
    }
}

fn default_members() -> serde_json::Map<String, serde_json::Value> {
    let members = JSON_FIELDS.iter();
    members
        .map(|(name, format)| ((*name).to_owned(), (*format).into()))
        .collect()
}

/// Istio writes `@` as `.`, since some identities of cloud platforms contain one.
fn trust_domain(field: &str, text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(&text.replace('@', ".")).map_err(|error| format!("{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<MeshConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_has_the_default() {
        let config = read("{}").unwrap();
        assert_eq!(config, MeshConfig::default());
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert_eq!(config.outbound_mode, OutboundMode::AllowAny);
        assert_eq!(config.connect_timeout, Duration::from_secs(10));
        assert!(
            config
                .access_log
                .is_some_and(|log| log.path.as_os_str() == "/dev/stdout")
        );
    }

    #[test]
    fn what_is_written_counts() {
        let config = read(
            r#"{"trustDomain": "a@b", "trustDomainAliases": ["old"], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
                "proxyHttpPort": 15080, "accessLogFile": "", "connectTimeout": "1.5s",
                "pathNormalization": {"normalization": "MERGE_SLASHES"}, "saferDefaults": {"removeMeshHeaders": false}}"#,
        )
        .unwrap();
        let domains: Vec<_> = config.trust_domains().map(TrustDomain::as_str).collect();
        assert_eq!(domains, ["a.b", "old"]);
        assert_eq!(config.outbound_mode, OutboundMode::RegistryOnly);
        assert_eq!((config.proxy_http_port, config.access_log), (Some(15080), None));
        assert_eq!(config.connect_timeout, Duration::from_millis(1500));
        assert_eq!(config.path_normalization, PathNormalization::MergeSlashes);
        assert!(!config.safer_defaults.remove_mesh_headers && config.safer_defaults.verify_upstream_names);
    }

    #[test]
    fn a_file_is_read_as_strictly_as_objects_are() {
        let read =
            MeshConfig::parse("# Istio's names\nrootNamespace: mesh\nsaferDefaults:\n  removeMeshHeaders: false\n")
                .unwrap();
        assert_eq!(read.root_namespace, "mesh");
        assert!(!read.safer_defaults.remove_mesh_headers && read.safer_defaults.verify_upstream_names);
        assert_eq!(MeshConfig::parse(""), Ok(MeshConfig::default()));
        for (text, expect) in [
            ("rootNamespce: mesh\n", "line 1: rootNamespce: "),
            (
                "rootNamespace: mesh\nconnectTimeout: soon\n",
                "line 2: connectTimeout: ",
            ),
            ("a: [\n", "line "),
            ("---\n{}\n---\nrootNamespace: b\n", "more than one document"),
        ] {
            let error = MeshConfig::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for json in [
            r#"{"enableTracing": true}"#,
            r#"{"trustDomain": ""}"#,
            r#"{"accessLogEncoding": "XML"}"#,
            r#"{"accessLogEncoding": "JSON", "accessLogFormat": "[]"}"#,
            r#"{"saferDefaults": {"x": true}}"#,
            r#"{"pathNormalization": {"normalization": "ALL"}}"#,
            r#"{"proxyHttpPort": 0}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
