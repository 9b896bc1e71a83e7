//! VirtualService routes: which entries a proxy applies, and what becomes of a request or connection.

use std::time::Duration;

use mesh::{
    ClusterName,
    host::HostPattern,
    matcher::{HeaderMatcher, HeaderValueMatch, QueryMatcher, StringMatcher, Substitution},
    route::{
        DirectResponse, Forward, HeaderChange, HeaderChanges, Mirror, PathMatch, Redirect, RetryOn, RetryPolicy, Route,
        RouteAction, RouteMatch, WeightedClusters,
    },
};

use super::{
    Context, names,
    notes::{Notes, Problem},
};
use crate::{
    istio::{
        FieldPath,
        metadata::selects,
        scope::GatewayRef,
        virtual_service::{
            Destination, Headers, HttpMatch, HttpRedirect, HttpRetry, HttpRoute, Percent, ResponseBody, StringMatch,
            TlsMatch, TlsRoute, ValueMatch, VirtualService,
        },
    },
    world::{Of, Settings},
};

/// Who applies a VirtualService, and at which port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding<'a> {
    /// Namespace and name of the Gateway. `None`: a sidecar.
    pub(super) gateway: Option<(&'a str, &'a str)>,
    /// The Gateway server's port, or the destination's at a sidecar.
    pub(super) port: u16,
}

/// Where connections of a TLS route go.
#[derive(Debug, Clone)]
pub(super) struct TlsTarget<'a> {
    /// Server names; never empty.
    pub(super) names: Vec<HostPattern>,
    pub(super) clusters: WeightedClusters,
    /// Settings of the first destination.
    pub(super) settings: Settings<'a>,
}

/// Headers that describe the mesh and mean nothing to a site outside: the caller's identity and certificate, the names and
/// addresses of pods, and what telemetry filters tell each other.
///
/// Not here, on purpose: `x-forwarded-for` and `x-request-id` are part of the gateway's own record, which is written from the
/// request as it was sent; `x-envoy-attempt-count` says nothing about the mesh; `x-forwarded-proto` is what sites ask for.
const MESH_HEADERS: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-external-address",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-forwarded-client-cert",
];

/// Istio's default conditions of a retry.
const RETRY_ON: [RetryOn; 5] = [
    RetryOn::ConnectFailure,
    RetryOn::RefusedStream,
    RetryOn::GrpcUnavailable,
    RetryOn::GrpcCancelled,
    RetryOn::RetriableStatusCodes,
];
const RETRIES: u32 = 2;
const HOST_SELECTION_ATTEMPTS: u32 = 5;

/// The routes of a VirtualService's `http` for one binding. `None`: something is wrong with it, which is noted.
pub(super) fn http_routes(
    cx: Context<'_>,
    service: &Of<VirtualService>,
    binding: Binding<'_>,
    notes: &mut Notes,
) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    for (index, entry) in service.http.iter().enumerate() {
        match entry_routes(cx, service, entry, binding) {
            Ok(more) => routes.extend(more),
            Err(problem) => {
                let spec = FieldPath::ROOT.field("spec");
                let http = spec.field("http");
                notes.problem(service.object(), &http.index(index), problem);
                return None;
            }
        }
        // Nothing after a route that takes everything is ever reached.
        if routes.last().is_some_and(takes_everything) {
            break;
        }
    }
    Some(routes)
}

/// The targets of a VirtualService's `tls` for one binding. `None`: something is wrong with it, which is noted.
pub(super) fn tls_targets<'a>(
    cx: Context<'a>,
    service: &'a Of<VirtualService>,
    binding: Binding<'_>,
    notes: &mut Notes,
) -> Option<Vec<TlsTarget<'a>>> {
    let mut targets = Vec::new();
    for (index, entry) in service.tls.iter().enumerate() {
        match tls_entry(cx, service, entry, binding) {
            Ok(more) => targets.extend(more),
            Err(problem) => {
                let spec = FieldPath::ROOT.field("spec");
                let tls = spec.field("tls");
                notes.problem(service.object(), &tls.index(index), problem);
                return None;
            }
        }
    }
    Some(targets)
}

/// The route to a service that no VirtualService speaks of.
pub(super) fn default_route(cluster: ClusterName) -> Route {
    let retry = Some(default_retry());
    plain_route(
        "default",
        RouteAction::Forward(Box::new(forward(WeightedClusters::one(cluster), retry))),
    )
}

/// Whether TLS connections can be told apart by these names: Envoy knows wildcards of whole labels only.
pub(super) fn distinguishable<'a>(names: impl IntoIterator<Item = &'a HostPattern>) -> Result<(), Problem> {
    let partial = |name: &&HostPattern| matches!(name, HostPattern::Suffix(suffix) if !suffix.starts_with('.'));
    match names.into_iter().find(partial) {
        None => Ok(()),
        Some(name) => Err(Problem::not_implemented(
            format!("server name {name} is not implemented: a wildcard stands for whole labels"),
            "use *. and the rest of the name",
        )),
    }
}

/// A route for every request, without conditions.
pub(super) fn plain_route(name: &str, action: RouteAction) -> Route {
    Route {
        name: Some(name.to_owned()),
        matches: every_request(PathMatch::Prefix("/".into())),
        action,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}

/// A match with no condition but the path.
pub(super) fn every_request(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        case_sensitive: true,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

/// A forward without limits of its own.
pub(super) fn forward(clusters: WeightedClusters, retry: Option<RetryPolicy>) -> Forward {
    Forward {
        clusters,
        timeout: Some(Duration::ZERO),
        idle_timeout: None,
        retry,
        host_rewrite: None,
        prefix_rewrite: None,
        regex_rewrite: None,
        mirrors: Vec::new(),
        terminate_connect: false,
        refused_upgrades: Vec::new(),
    }
}

/// Whether a route leaves nothing for those after it.
pub(super) fn takes_everything(route: &Route) -> bool {
    let matches = &route.matches;
    let every_path = match &matches.path {
        PathMatch::Prefix(prefix) => prefix == "/",
        PathMatch::Regex(regex) => matches!(regex.source(), ".*" | "/.*"),
        PathMatch::Exact(_) | PathMatch::Connect => false,
    };
    every_path && matches.headers.is_empty() && matches.query.is_empty()
}

fn tls_entry<'a>(
    cx: Context<'a>,
    service: &'a Of<VirtualService>,
    entry: &'a TlsRoute,
    binding: Binding<'_>,
) -> Result<Vec<TlsTarget<'a>>, Problem> {
    let applied = entry
        .matches
        .iter()
        .filter(|matches| tls_applies(cx, service, matches, binding));
    let names: Vec<_> = applied.map(|matches| server_names(service, matches)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    distinguishable(names.iter().flatten())?;
    let destinations = entry.route.iter().map(|to| (&to.destination, to.weight));
    let (clusters, settings) = weighted(cx, service, destinations, binding.port)?;
    let target = |names| TlsTarget {
        names,
        clusters: clusters.clone(),
        settings,
    };
    Ok(names.into_iter().map(target).collect())
}

fn entry_routes(
    cx: Context<'_>,
    service: &Of<VirtualService>,
    entry: &HttpRoute,
    binding: Binding<'_>,
) -> Result<Vec<Route>, Problem> {
    if entry.matches.is_empty() {
        return Ok(vec![route(cx, service, entry, None, binding)?]);
    }
    let applied = entry
        .matches
        .iter()
        .filter(|matches| http_applies(cx, service, matches, binding));
    applied
        .map(|matches| route(cx, service, entry, Some(matches), binding))
        .collect()
}

fn http_applies(cx: Context<'_>, service: &Of<VirtualService>, matches: &HttpMatch, binding: Binding<'_>) -> bool {
    let source = (&matches.source_labels, matches.source_namespace.as_str());
    matches.port.is_none_or(|port| port.get() == binding.port)
        && applies(cx, service.namespace(), &matches.gateways, source, binding)
}

fn tls_applies(cx: Context<'_>, service: &Of<VirtualService>, matches: &TlsMatch, binding: Binding<'_>) -> bool {
    let source = (&matches.source_labels, matches.source_namespace.as_str());
    matches.port.is_none_or(|port| port.get() == binding.port)
        && applies(cx, service.namespace(), &matches.gateways, source, binding)
}

/// Whether a match is for this proxy: by its gateways if it names any, else by the proxy's labels and namespace.
fn applies(
    cx: Context<'_>,
    own_namespace: &str,
    gateways: &[GatewayRef],
    (labels, namespace): (&std::collections::BTreeMap<String, String>, &str),
    binding: Binding<'_>,
) -> bool {
    if gateways.is_empty() {
        return selects(labels, &cx.node.labels) && (namespace.is_empty() || namespace == cx.node.namespace);
    }
    gateways
        .iter()
        .any(|gateway| gateway.resolve(own_namespace) == binding.gateway)
}

fn server_names(service: &Of<VirtualService>, matches: &TlsMatch) -> Vec<HostPattern> {
    let mut names: Vec<_> = matches
        .sni_hosts
        .iter()
        .map(|host| host.in_namespace(service.namespace()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn route(
    cx: Context<'_>,
    service: &Of<VirtualService>,
    entry: &HttpRoute,
    matches: Option<&HttpMatch>,
    binding: Binding<'_>,
) -> Result<Route, Problem> {
    let condition = matches.map_or_else(|| every_request(PathMatch::Prefix("/".into())), route_match);
    let mut headers = Changes::default();
    headers.take(entry.headers.as_ref())?;
    let action = action(cx, service, entry, &condition, binding, &mut headers)?;
    Ok(Route {
        name: route_name(entry, matches),
        matches: condition,
        action,
        request_headers: headers.request,
        response_headers: headers.response,
    })
}

fn route_name(entry: &HttpRoute, matches: Option<&HttpMatch>) -> Option<String> {
    let of_match = matches.map_or("", |matches| matches.name.as_str());
    match (entry.name.as_str(), of_match) {
        ("", _) => None,
        (name, "") => Some(name.to_owned()),
        (name, of_match) => Some(format!("{name}.{of_match}")),
    }
}

fn action(
    cx: Context<'_>,
    service: &Of<VirtualService>,
    entry: &HttpRoute,
    condition: &RouteMatch,
    binding: Binding<'_>,
    headers: &mut Changes,
) -> Result<RouteAction, Problem> {
    if let Some(to) = &entry.redirect {
        return Ok(RouteAction::Redirect(redirect(to)));
    }
    if let Some(answer) = &entry.direct_response {
        return Ok(RouteAction::Direct(DirectResponse {
            status: answer.status,
            body: match &answer.body {
                Some(ResponseBody::String(text)) => text.clone(),
                None => String::new(),
            },
        }));
    }
    let destinations = entry.route.iter().map(|to| (&to.destination, to.weight));
    let (clusters, _) = weighted(cx, service, destinations, binding.port)?;
    match entry.route.as_slice() {
        [only] => headers.take(only.headers.as_ref())?,
        several if several.iter().any(|to| to.headers.is_some()) => {
            return Err(Problem::not_implemented(
                "headers of one of several destinations are not implemented",
                "change headers for the whole route",
            ));
        }
        _ => {}
    }
    if leaves_mesh(cx, service, entry) {
        headers.request.remove.extend(MESH_HEADERS.map(str::to_owned));
    }
    let mut forward = forward(clusters, retry(entry.retries.as_ref()));
    forward.timeout = Some(entry.timeout.map_or(Duration::ZERO, |timeout| timeout.get()));
    rewrite(entry, condition, &mut forward)?;
    forward.mirrors = mirrors(cx, service, entry, binding.port)?;
    forward.host_rewrite = forward.host_rewrite.or(headers.host.take());
    Ok(RouteAction::Forward(Box::new(forward)))
}

/// Whether one of an entry's destinations is outside, and this is the gateway that requests leave by.
fn leaves_mesh(cx: Context<'_>, service: &Of<VirtualService>, entry: &HttpRoute) -> bool {
    let outside = |host: &HostPattern| cx.scope.service(host).is_some_and(|visible| visible.service.external);
    cx.is_gateway()
        && cx.mesh.safer_defaults.remove_mesh_headers
        && entry
            .destinations()
            .any(|(_, to)| outside(&to.host_in(service.namespace())))
}

/// Who gets copies of an entry's requests.
fn mirrors(
    cx: Context<'_>,
    service: &Of<VirtualService>,
    entry: &HttpRoute,
    default_port: u16,
) -> Result<Vec<Mirror>, Problem> {
    let one = entry.mirror.iter().map(|to| (to, entry.mirror_percentage));
    let several = entry
        .mirrors
        .iter()
        .map(|mirror| (&mirror.destination, mirror.percentage));
    let per_million = |share: Option<Percent>| share.map_or(Mirror::ALL, |share| share.value.per_million());
    // A share of nothing is how a mirror is turned off.
    let wanted = one.chain(several).filter(|(_, share)| per_million(*share) > 0);
    let mirror = |(to, share)| {
        Ok(Mirror {
            cluster: target(cx, service, to, default_port)?.0,
            per_million: per_million(share),
        })
    };
    wanted.map(mirror).collect()
}

/// The clusters of a list of destinations, and the settings of the first.
fn weighted<'a>(
    cx: Context<'a>,
    service: &Of<VirtualService>,
    destinations: impl Iterator<Item = (&'a Destination, u32)>,
    default_port: u16,
) -> Result<(WeightedClusters, Settings<'a>), Problem> {
    let mut entries = Vec::new();
    let mut first = Settings::default();
    for (destination, weight) in destinations {
        let (cluster, settings) = target(cx, service, destination, default_port)?;
        if entries.is_empty() {
            first = settings;
        }
        entries.push((cluster, weight));
    }
    let clusters = match entries.as_slice() {
        // A single destination gets everything, whatever its weight.
        [(only, _)] => WeightedClusters::one(only.clone()),
        _ => WeightedClusters::parse(entries)
            .map_err(|error| Problem::invalid(error.to_string(), "give at least one destination a weight above 0"))?,
    };
    Ok((clusters, first))
}

/// The cluster of a destination. A destination that does not exist has a name all the same; its requests are answered 503.
fn target<'a>(
    cx: Context<'a>,
    service: &Of<VirtualService>,
    destination: &'a Destination,
    default_port: u16,
) -> Result<(ClusterName, Settings<'a>), Problem> {
    let host = destination.host_in(service.namespace());
    let known = cx.scope.service(&host).map(|visible| visible.service);
    let only_port = known.and_then(|known| match known.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    });
    let port = destination
        .port
        .map(|port| port.number.get())
        .or(only_port)
        .unwrap_or(default_port);
    let rules = known.map(|known| cx.rules(known)).unwrap_or_default();
    let subset = rules
        .subsets()
        .into_iter()
        .find(|defined| defined.subset.name == destination.subset);
    let settings = rules.settings(port, subset.map(|defined| defined.subset));
    Ok((names::cluster(port, &destination.subset, &host)?, settings))
}

fn route_match(written: &HttpMatch) -> RouteMatch {
    let pseudo = [
        (":scheme", &written.scheme),
        (":method", &written.method),
        (":authority", &written.authority),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| {
        let value = string_match(value.as_ref()?);
        Some(header(name, HeaderValueMatch::Value(value), false))
    });
    let wanted = written
        .headers
        .iter()
        .map(|(name, value)| header(name, value_match(value), false));
    let unwanted = written
        .without_headers
        .iter()
        .map(|(name, value)| header(name, value_match(value), true));
    let query = written.query_params.iter().map(|(name, value)| QueryMatcher {
        name: name.clone(),
        value: match value_match(value) {
            HeaderValueMatch::Value(value) => Some(value),
            HeaderValueMatch::Present(_) => None,
        },
    });
    RouteMatch {
        path: written
            .uri
            .as_ref()
            .map_or_else(|| PathMatch::Prefix("/".into()), path_match),
        case_sensitive: !written.ignore_uri_case,
        headers: pseudo.chain(wanted).chain(unwanted).collect(),
        query: query.collect(),
    }
}

fn path_match(uri: &StringMatch) -> PathMatch {
    match uri {
        StringMatch::Exact(path) => PathMatch::Exact(path.clone()),
        StringMatch::Prefix(prefix) => PathMatch::Prefix(prefix.clone()),
        StringMatch::Regex(regex) => PathMatch::Regex(regex.regex().clone()),
    }
}

fn string_match(written: &StringMatch) -> StringMatcher {
    match written {
        StringMatch::Exact(text) => StringMatcher::exact(text),
        StringMatch::Prefix(text) => StringMatcher::prefix(text),
        StringMatch::Regex(regex) => StringMatcher::regex(regex.regex().clone()),
    }
}

fn value_match(written: &ValueMatch) -> HeaderValueMatch {
    HeaderValueMatch::Value(match written {
        ValueMatch::Exact(text) => StringMatcher::exact(text),
        ValueMatch::Prefix(text) => StringMatcher::prefix(text),
        ValueMatch::Regex(regex) => StringMatcher::regex(regex.regex().clone()),
        ValueMatch::Present => return HeaderValueMatch::Present(true),
    })
}

/// A header that must match or, inverted, must not; an absent header is one that does not match.
fn header(name: &str, value: HeaderValueMatch, invert: bool) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_ascii_lowercase(),
        missing_as_empty: invert && matches!(value, HeaderValueMatch::Value(_)),
        value,
        invert,
    }
}

fn redirect(to: &HttpRedirect) -> Redirect {
    let written = |text: &String| (!text.is_empty()).then(|| text.clone());
    Redirect {
        scheme: written(&to.scheme),
        host: written(&to.authority),
        port: to.port.map(|port| port.get()),
        path: written(&to.uri),
        status: to.redirect_code,
    }
}

fn rewrite(entry: &HttpRoute, condition: &RouteMatch, forward: &mut Forward) -> Result<(), Problem> {
    let Some(written) = &entry.rewrite else {
        return Ok(());
    };
    if !written.authority.is_empty() {
        forward.host_rewrite = Some(written.authority.clone());
    }
    if let Some(regex) = &written.uri_regex_rewrite {
        let substitution = Substitution::parse(&regex.find, &regex.rewrite);
        forward.regex_rewrite =
            Some(substitution.map_err(|error| Problem::invalid(error.to_string(), "correct the expression"))?);
    }
    match (&condition.path, written.uri.as_str()) {
        (_, "") => Ok(()),
        (PathMatch::Regex(_) | PathMatch::Connect, _) => Err(Problem::not_implemented(
            "rewrite.uri together with a uri match by regex is not implemented",
            "match the uri by prefix or exact",
        )),
        (PathMatch::Prefix(_) | PathMatch::Exact(_), uri) => {
            forward.prefix_rewrite = Some(uri.to_owned());
            Ok(())
        }
    }
}

fn default_retry() -> RetryPolicy {
    RetryPolicy {
        retry_on: RETRY_ON.to_vec(),
        num_retries: RETRIES,
        per_try_timeout: None,
        status_codes: Vec::new(),
        avoid_previous_hosts: true,
        host_selection_attempts: Some(HOST_SELECTION_ATTEMPTS),
    }
}

fn retry(written: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let mut policy = default_retry();
    let Some(written) = written else {
        return Some(policy);
    };
    policy.num_retries = written.attempts;
    policy.per_try_timeout = written.per_try_timeout.map(|timeout| timeout.get());
    if let Some(on) = &written.retry_on {
        policy.retry_on.clone_from(&on.conditions);
        policy.status_codes.clone_from(&on.status_codes);
        if !on.status_codes.is_empty() && !on.conditions.contains(&RetryOn::RetriableStatusCodes) {
            policy.retry_on.push(RetryOn::RetriableStatusCodes);
        }
    }
    (written.attempts > 0).then_some(policy)
}

/// Changes of headers, from a route and from its destination.
#[derive(Debug, Default)]
struct Changes {
    request: HeaderChanges,
    response: HeaderChanges,
    /// `host` is not a header like others: setting it rewrites the authority.
    host: Option<String>,
}

impl Changes {
    fn take(&mut self, written: Option<&Headers>) -> Result<(), Problem> {
        let Some(written) = written else {
            return Ok(());
        };
        for (operations, changes) in [
            (&written.request, &mut self.request),
            (&written.response, &mut self.response),
        ] {
            changes
                .remove
                .extend(operations.remove.iter().map(|name| name.to_ascii_lowercase()));
            let set = operations.set.iter().map(|(name, value)| (name, value, false));
            let add = operations.add.iter().map(|(name, value)| (name, value, true));
            for (name, value, append) in set.chain(add) {
                changes.add.push(change(name, value, append)?);
            }
        }
        let is_host = |change: &HeaderChange| matches!(change.name.as_str(), "host" | ":authority");
        self.host = self.host.take().or_else(|| {
            self.request
                .add
                .iter()
                .find(|one| is_host(one))
                .map(|one| one.value.clone())
        });
        self.request.add.retain(|one| !is_host(one));
        Ok(())
    }
}

fn change(name: &str, value: &str, append: bool) -> Result<HeaderChange, Problem> {
    if value.contains('%') {
        return Err(Problem::not_implemented(
            format!("value {value:?} of header {name}: format operators (%…%) are not implemented"),
            "give a value without '%'",
        ));
    }
    Ok(HeaderChange {
        name: name.to_ascii_lowercase(),
        value: value.to_owned(),
        append,
    })
}
