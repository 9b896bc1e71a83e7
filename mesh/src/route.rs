//! Route configurations: which cluster serves which host and path, as Envoy's `config.route.v3`.

use std::{sync::Arc, time::Duration};

use crate::{
    ClusterName, RouteConfigName,
    host::HostPattern,
    matcher::{HeaderMatcher, QueryMatcher, Regex, Substitution},
};

/// A route configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// `80`, `https.80.https.egress-gateway.istio-egress`.
    pub name: RouteConfigName,
    /// In order; their domains do not overlap.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// The port in a request's authority is ignored when a virtual host is chosen.
    pub ignore_port_in_host_matching: bool,
}

/// The routes of some hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualHost {
    /// `example.com:80`.
    pub name: String,
    /// Which authorities it is for: exact beats the longest suffix beats `*`.
    pub domains: Vec<Domain>,
    /// The first that matches is taken.
    pub routes: Vec<Route>,
    /// Plaintext requests are redirected to https.
    pub require_tls: bool,
    /// Sends `x-envoy-attempt-count` upstream.
    pub include_attempt_count: bool,
}

/// A host pattern, and the port if the authority must carry it: `example.com`, `*.example.com`, `example.com:8080`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain {
    /// The host.
    pub host: HostPattern,
    /// The port written in the authority. `None`: the authority must have none, unless ports are ignored.
    pub port: Option<u16>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `%ROUTE_NAME%`; `None` prints `-`.
    pub name: Option<String>,
    /// Which requests.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: RouteAction,
    /// Changes of the request's headers on the way up.
    pub request_headers: HeaderChanges,
    /// Changes of the response's headers on the way down.
    pub response_headers: HeaderChanges,
}

/// Conditions, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// On the path, without query.
    pub path: PathMatch,
    /// Case matters in the path (not in a regular expression).
    pub case_sensitive: bool,
    /// On headers.
    pub headers: Vec<HeaderMatcher>,
    /// On query parameters.
    pub query: Vec<QueryMatcher>,
}

/// On the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Its beginning; `/` matches all.
    Prefix(String),
    /// The whole.
    Exact(String),
    /// The whole, by expression.
    Regex(Regex),
    /// A CONNECT request, which has no path.
    Connect,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAction {
    /// It goes to a cluster.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// We answer.
    Direct(DirectResponse),
}

/// Sends a request to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// One of these.
    pub clusters: WeightedClusters,
    /// From the end of the request to the end of the response. `None`: 15 s; zero: unbounded.
    pub timeout: Option<Duration>,
    /// Bound on idle streams of this route. `None`: the connection manager's; zero: none.
    pub idle_timeout: Option<Duration>,
    /// When to try again. `None`: never.
    pub retry: Option<RetryPolicy>,
    /// Replaces the authority.
    pub host_rewrite: Option<String>,
    /// Replaces the matched prefix (or the whole exact path).
    pub prefix_rewrite: Option<String>,
    /// Replaces parts of the path, in place of `prefix_rewrite`.
    pub regex_rewrite: Option<Substitution>,
    /// Clusters that get copies of requests. Their answers are thrown away.
    pub mirrors: Vec<Mirror>,
    /// Ends a CONNECT request here and sends the bytes inside it to the cluster.
    pub terminate_connect: bool,
    /// Upgrade tokens, lower-case, that this route refuses though its listener lets them through.
    pub refused_upgrades: Vec<String>,
}

/// Sends copies of some requests to a cluster, as Envoy's `RequestMirrorPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets them.
    pub cluster: ClusterName,
    /// How many of a million requests are copied; at most [`Mirror::ALL`].
    pub per_million: u32,
}

/// One cluster, or several with relative weights. Never empty, weights sum to 1 or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedClusters(Vec<(ClusterName, u32)>);

/// Weights were all zero, none were given or they sum to more than `u32::MAX`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("weights must sum to 1 or more and at most {}", u32::MAX)]
pub struct WeightError;

/// When a request is tried again, as Envoy's `RetryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Conditions.
    pub retry_on: Vec<RetryOn>,
    /// Retries beyond the first attempt.
    pub num_retries: u32,
    /// Bound on one attempt. `None`: the route's.
    pub per_try_timeout: Option<Duration>,
    /// Statuses for [`RetryOn::RetriableStatusCodes`].
    pub status_codes: Vec<u16>,
    /// Hosts that were tried already are avoided (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// Choices of another host before a previous one is taken after all. `None`: 1.
    pub host_selection_attempts: Option<u32>,
}

/// Conditions of a retry, named as Envoy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// `5xx`.
    ServerError,
    /// `gateway-error`: 502, 503, 504.
    GatewayError,
    /// `reset`: no response at all.
    Reset,
    /// `reset-before-request`.
    ResetBeforeRequest,
    /// `connect-failure`.
    ConnectFailure,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `refused-stream`.
    RefusedStream,
    /// `retriable-status-codes`.
    RetriableStatusCodes,
    /// `cancelled`, a gRPC status.
    GrpcCancelled,
    /// `deadline-exceeded`, a gRPC status.
    GrpcDeadlineExceeded,
    /// `internal`, a gRPC status.
    GrpcInternal,
    /// `resource-exhausted`, a gRPC status.
    GrpcResourceExhausted,
    /// `unavailable`, a gRPC status.
    GrpcUnavailable,
}

/// Sends the client elsewhere; unset parts stay as requested.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redirect {
    /// Scheme.
    pub scheme: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Path and query, whole.
    pub path: Option<String>,
    /// 301 (`None`), 302, 303, 307 or 308.
    pub status: Option<u16>,
}

/// Answers without an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Body; at most 1 MiB.
    pub body: String,
}

/// Header changes, applied in the order remove, then set/append.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Lower-case names.
    pub remove: Vec<String>,
    /// Values written in order.
    pub add: Vec<HeaderChange>,
}

/// One header to write. Values are literal: format operators are not supported in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderChange {
    /// Lower-case name.
    pub name: String,
    /// Literal value.
    pub value: String,
    /// Keep what is there and add a line, instead of replacing.
    pub append: bool,
}

impl Mirror {
    /// A copy of every request.
    pub const ALL: u32 = 1_000_000;

    /// Whether a request is copied, for a number drawn uniformly from `0..=u32::MAX`.
    pub fn takes(&self, random: u32) -> bool {
        (u64::from(random) * u64::from(Self::ALL)) >> 32 < u64::from(self.per_million)
    }
}

impl WeightedClusters {
    /// One cluster.
    pub fn one(cluster: ClusterName) -> Self {
        Self(vec![(cluster, 1)])
    }

    /// Several clusters. Entries of weight zero are dropped, since nothing is sent there.
    ///
    /// # Errors
    /// The weights sum to zero or to more than `u32::MAX`.
    pub fn parse(mut entries: Vec<(ClusterName, u32)>) -> Result<Self, WeightError> {
        entries.retain(|(_, weight)| *weight > 0);
        let total = entries
            .iter()
            .try_fold(0u32, |sum, (_, weight)| sum.checked_add(*weight));
        match (total, entries.len()) {
            (Some(1..), 1) => Ok(Self(entries.into_iter().map(|(name, _)| (name, 1)).collect())),
            (Some(1..), _) => Ok(Self(entries)),
            _ => Err(WeightError),
        }
    }

    /// The clusters and their weights.
    pub fn entries(&self) -> &[(ClusterName, u32)] {
        &self.0
    }

    /// The first cluster.
    pub fn first(&self) -> &ClusterName {
        // Both constructors leave at least one entry.
        &self.0[0].0
    }

    /// The cluster for a number drawn uniformly from `0..=u32::MAX`.
    pub fn pick(&self, random: u32) -> &ClusterName {
        let total: u64 = self.0.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut point = (u64::from(random) * total) >> 32;
        for (name, weight) in &self.0 {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return name,
            }
        }
        self.first()
    }
}

impl RetryOn {
    /// Every condition with its name in Envoy's `retry_on`.
    pub const NAMES: [(&'static str, Self); 13] = [
        ("5xx", Self::ServerError),
        ("gateway-error", Self::GatewayError),
        ("reset", Self::Reset),
        ("reset-before-request", Self::ResetBeforeRequest),
        ("connect-failure", Self::ConnectFailure),
        ("retriable-4xx", Self::Retriable4xx),
        ("refused-stream", Self::RefusedStream),
        ("retriable-status-codes", Self::RetriableStatusCodes),
        ("cancelled", Self::GrpcCancelled),
        ("deadline-exceeded", Self::GrpcDeadlineExceeded),
        ("internal", Self::GrpcInternal),
        ("resource-exhausted", Self::GrpcResourceExhausted),
        ("unavailable", Self::GrpcUnavailable),
    ];

    /// By Envoy's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, condition)| condition)
    }

    /// Envoy's name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find(|(_, condition)| *condition == self)
            .map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClusterName {
        ClusterName::parse(text).unwrap()
    }

    #[test]
    fn weights_share_the_whole_range() {
        let split = WeightedClusters::parse(vec![(name("a"), 1), (name("none"), 0), (name("b"), 3)]).unwrap();
        assert_eq!(split.pick(0), &name("a"));
        assert_eq!(split.pick(u32::MAX / 4), &name("a"));
        assert_eq!(split.pick(u32::MAX / 4 + 1), &name("b"));
        assert_eq!(split.pick(u32::MAX), &name("b"));
        assert_eq!(split.entries().len(), 2);
    }

    #[test]
    fn a_mirror_takes_its_share() {
        let mirror = |per_million| Mirror {
            cluster: name("a"),
            per_million,
        };
        assert!(mirror(Mirror::ALL).takes(u32::MAX) && mirror(1).takes(0));
        assert!(!mirror(0).takes(0) && !mirror(Mirror::ALL / 2).takes(u32::MAX / 2 + 1));
    }

    #[test]
    fn weights_must_sum_to_something() {
        assert_eq!(WeightedClusters::parse(vec![]), Err(WeightError));
        assert_eq!(WeightedClusters::parse(vec![(name("a"), 0)]), Err(WeightError));
        assert_eq!(
            WeightedClusters::parse(vec![(name("a"), u32::MAX), (name("b"), 1)]),
            Err(WeightError)
        );
        assert_eq!(
            WeightedClusters::parse(vec![(name("a"), 7)]),
            Ok(WeightedClusters::one(name("a")))
        );
    }

    #[test]
    fn retry_conditions_keep_their_names() {
        for (name, condition) in RetryOn::NAMES {
            assert_eq!((RetryOn::parse(name), condition.as_str()), (Some(condition), name));
        }
    }
}
