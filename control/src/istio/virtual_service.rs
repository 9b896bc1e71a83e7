//! `VirtualService`: where requests and TLS connections for a host go.

use std::{collections::BTreeMap, str::FromStr};

use mesh::{host::HostPattern, route::RetryOn};
use serde::Deserialize;

use super::{
    scalar::{Duration, Percentage, Port, RegexText, deserialize_from_str},
    scope::{Export, GatewayRef, HostText},
};

/// `networking.istio.io` VirtualService.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// The hosts it is for.
    pub hosts: Vec<HostText>,
    /// Who applies it. Empty: the sidecars (`mesh`).
    pub gateways: Vec<GatewayRef>,
    /// Routes for HTTP requests; the first that matches is taken.
    pub http: Vec<HttpRoute>,
    /// Routes for TLS connections that are not terminated.
    pub tls: Vec<TlsRoute>,
    /// Namespaces that see it. Empty: all.
    pub export_to: Vec<Export>,
}

/// One entry of `http`. Exactly one of `route`, `redirect` and `direct_response` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Name, for the access log.
    pub name: String,
    /// Any of these. Empty: every request.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Destinations, with weights.
    pub route: Vec<HttpDestination>,
    /// Answer with a redirect.
    pub redirect: Option<HttpRedirect>,
    /// Answer with this.
    pub direct_response: Option<DirectResponse>,
    /// Changes of path and authority before forwarding.
    pub rewrite: Option<HttpRewrite>,
    /// Longest time for a response. `None`: no limit.
    pub timeout: Option<Duration>,
    /// How to retry. `None`: Istio's default policy.
    pub retries: Option<HttpRetry>,
    /// Gets copies of requests; excludes `mirrors`.
    pub mirror: Option<Destination>,
    /// How many of the requests `mirror` gets. `None`: all.
    pub mirror_percentage: Option<Percent>,
    /// Get copies of requests.
    pub mirrors: Vec<Mirror>,
    /// Changes of headers.
    pub headers: Option<Headers>,
}

/// Conditions on a request, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Name, appended to the route's.
    pub name: String,
    /// The path without query; with `prefix` and `exact` it may be compared ignoring case.
    pub uri: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The authority.
    pub authority: Option<StringMatch>,
    /// Headers, by lower-case name.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, ValueMatch>,
    /// Query parameters.
    pub query_params: BTreeMap<String, ValueMatch>,
    /// The port: a server's at a gateway, the destination's at a sidecar.
    pub port: Option<Port>,
    /// Who applies the match. Empty: everybody the VirtualService is bound to.
    pub gateways: Vec<GatewayRef>,
    /// Labels of the sidecar's workload. Ignored when `gateways` is set, as in Istio.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the sidecar's workload. Ignored when `gateways` is set, as in Istio.
    pub source_namespace: String,
    /// Compare `uri` ignoring case.
    pub ignore_uri_case: bool,
}

/// A condition on a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// An expression that matches the whole text.
    Regex(RegexText),
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// An expression that matches the whole value.
    Regex(RegexText),
    /// It is there, with any value.
    #[serde(rename = "{}")]
    Present,
}

/// A destination of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpDestination {
    /// Where to.
    pub destination: Destination,
    /// Share of the requests; a single destination gets them all whatever it says.
    #[serde(default)]
    pub weight: u32,
    /// Changes of headers for this destination.
    #[serde(default)]
    pub headers: Option<Headers>,
}

/// A destination of copies of requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// How many of the requests. `None`: all.
    #[serde(default)]
    pub percentage: Option<Percent>,
}

/// A part of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// How much.
    pub value: Percentage,
}

/// A destination of connections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Share of the connections; a single destination gets them all whatever it says.
    #[serde(default)]
    pub weight: u32,
}

/// A service, one of its ports and a subset of its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The service's host.
    pub host: HostText,
    /// A subset of a DestinationRule for the host; empty: none.
    #[serde(default)]
    pub subset: String,
    /// The service's port. `None`: its only one, or the one the request came in on.
    #[serde(default)]
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortSelector {
    /// The number of a service port.
    pub number: Port,
}

/// A redirect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRedirect {
    /// The whole path of the new URL; empty: unchanged.
    pub uri: String,
    /// The authority; empty: unchanged.
    pub authority: String,
    /// The scheme; empty: unchanged.
    pub scheme: String,
    /// The port. `None`: unchanged.
    pub port: Option<Port>,
    /// 301 (also if `None`), 302, 303, 307 or 308.
    pub redirect_code: Option<u16>,
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// HTTP status.
    pub status: u16,
    /// The body, if any.
    #[serde(default)]
    pub body: Option<ResponseBody>,
}

/// The body of a fixed answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResponseBody {
    /// A text.
    String(String),
}

/// Changes of path and authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// Replaces the matched prefix, or the whole path if it was matched exactly; empty: unchanged.
    pub uri: String,
    /// Replaces the authority; empty: unchanged.
    pub authority: String,
    /// Replaces what an expression finds in the path, in place of `uri`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A replacement by expression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// What to find, anywhere in the path, in RE2 syntax.
    #[serde(rename = "match")]
    pub find: String,
    /// What to put in its place; `\1` stands for the first group.
    pub rewrite: String,
}

/// When and how often to try again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// Attempts after the first; 0: never.
    pub attempts: u32,
    /// Limit of each attempt. `None`: the route's.
    pub per_try_timeout: Option<Duration>,
    /// On what. `None`: Istio's default conditions.
    pub retry_on: Option<RetryConditions>,
}

/// `retryOn`: conditions, and status codes that are one too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryConditions {
    /// Envoy's conditions.
    pub conditions: Vec<RetryOn>,
    /// Response status codes.
    pub status_codes: Vec<u16>,
}

/// Changes of request and response headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// On the way to the destination.
    pub request: HeaderOperations,
    /// On the way back.
    pub response: HeaderOperations,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Replace or create.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}

/// One entry of `tls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// Any of these. At least one.
    #[serde(rename = "match", default)]
    pub matches: Vec<TlsMatch>,
    /// Destinations, with weights.
    #[serde(default)]
    pub route: Vec<WeightedDestination>,
}

/// Conditions on a TLS connection, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// Server names of the `ClientHello`.
    pub sni_hosts: Vec<HostText>,
    /// The port: a server's at a gateway, the destination's at a sidecar.
    pub port: Option<Port>,
    /// Who applies the match. Empty: everybody the VirtualService is bound to.
    pub gateways: Vec<GatewayRef>,
    /// Labels of the sidecar's workload.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the sidecar's workload.
    pub source_namespace: String,
}

impl VirtualService {
    /// Whether sidecars apply it.
    pub fn is_for_mesh(&self) -> bool {
        self.gateways.is_empty() || self.gateways.contains(&GatewayRef::Mesh)
    }

    /// Every destination, with the path of its field (`http[0].route[1].destination`).
    pub fn destinations(&self) -> impl Iterator<Item = (DestinationAt, &Destination)> {
        let http = self.http.iter().enumerate().flat_map(|(route, entry)| {
            let at = move |place| DestinationAt {
                list: "http",
                route,
                place,
            };
            entry.destinations().map(move |(place, to)| (at(place), to))
        });
        let tls = self.tls.iter().enumerate().flat_map(|(route, entry)| {
            entry.route.iter().enumerate().map(move |(index, to)| {
                (
                    DestinationAt {
                        list: "tls",
                        route,
                        place: Place::Route(index),
                    },
                    &to.destination,
                )
            })
        });
        http.chain(tls)
    }
}

/// Where in a VirtualService a destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationAt {
    /// `http` or `tls`.
    pub list: &'static str,
    /// Index in that list.
    pub route: usize,
    /// Where in the entry.
    pub place: Place,
}

/// Where in an entry a destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `route`, at this index.
    Route(usize),
    /// In `mirror`.
    Mirror,
    /// In `mirrors`, at this index.
    Mirrors(usize),
}

impl HttpRoute {
    /// Every destination of requests and of copies.
    pub fn destinations(&self) -> impl Iterator<Item = (Place, &Destination)> {
        let route = self.route.iter().enumerate();
        let route = route.map(|(index, to)| (Place::Route(index), &to.destination));
        let mirror = self.mirror.iter().map(|to| (Place::Mirror, to));
        let mirrors = self.mirrors.iter().enumerate();
        let mirrors = mirrors.map(|(index, to)| (Place::Mirrors(index), &to.destination));
        route.chain(mirror).chain(mirrors)
    }
}

impl Destination {
    /// The service's full host, seen from a VirtualService of `namespace`.
    pub fn host_in(&self, namespace: &str) -> HostPattern {
        self.host.in_namespace(namespace)
    }
}

impl FromStr for RetryConditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match (RetryOn::parse(name), name.parse::<u16>()) {
                (Some(condition), _) => parsed.conditions.push(condition),
                (None, Ok(status @ 100..=599)) => parsed.status_codes.push(status),
                (None, _) => {
                    return Err(format!(
                        "{name:?} is not a retry condition: {}, or a status code",
                        retry_names()
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

fn retry_names() -> String {
    RetryOn::NAMES.map(|(name, _)| name).join(", ")
}

deserialize_from_str!(RetryConditions => "separate conditions with commas");
