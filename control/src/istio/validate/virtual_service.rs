//! Reference section 9.3.

use std::collections::BTreeMap;

use mesh::{host::HostPattern, matcher::Substitution};

use crate::{
    diag::Code,
    istio::{
        path::FieldPath,
        report::Report,
        scope::GatewayRef,
        virtual_service::{
            Destination, DirectResponse, HeaderOperations, Headers, HttpMatch, HttpRedirect, HttpRetry, HttpRewrite,
            HttpRoute, ResponseBody, StringMatch, TlsMatch, TlsRoute, ValueMatch, VirtualService,
        },
    },
};

/// Bytes of a fixed answer.
const MAX_BODY: usize = 1 << 20;

pub(super) fn validate(service: &VirtualService, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    check_hosts(service, &spec.field("hosts"), report);
    if service.http.is_empty() && service.tls.is_empty() {
        report.invalid(spec, "http or tls must be provided in a virtual service", "add routes");
    }
    let (http, tls) = (spec.field("http"), spec.field("tls"));
    for (index, route) in service.http.iter().enumerate() {
        check_http(service, route, &http.index(index), report);
    }
    check_order(&service.http, &http, report);
    for (index, route) in service.tls.iter().enumerate() {
        check_tls(service, route, &tls.index(index), report);
    }
    super::exports(&service.export_to, &spec.field("exportTo"), false, report);
}

fn check_hosts(service: &VirtualService, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if service.hosts.is_empty() {
        report.invalid(
            path,
            "a virtual service must have at least one host",
            "list the hosts it is for",
        );
    }
    for (index, host) in service.hosts.iter().enumerate() {
        let (place, pattern) = (path.index(index), host.pattern());
        if *pattern == HostPattern::Any && service.is_for_mesh() {
            let message = "wildcard host * is not allowed for virtual services bound to the mesh gateway";
            report.invalid(&place, message, "name the hosts, or bind it to gateways only");
        }
        let overlaps =
            |other: &&super::super::scope::HostText| other.pattern().covers(pattern) || pattern.covers(other.pattern());
        if let Some(other) = service.hosts.iter().take(index).find(overlaps) {
            report.invalid(
                &place,
                format!("duplicate hosts in virtual service: {other} & {host}"),
                "keep the wider one",
            );
        }
    }
}

fn check_http(service: &VirtualService, route: &HttpRoute, path: &FieldPath<'_>, report: &mut Report<'_>) {
    check_actions(route, path, report);
    let matches = path.field("match");
    for (index, condition) in route.matches.iter().enumerate() {
        check_match(condition, &matches.index(index), report);
        check_gateways(service, &condition.gateways, &matches.index(index), report);
    }
    let weights: Vec<u32> = route.route.iter().map(|to| to.weight).collect();
    super::weights(&weights, &path.field("route"), report);
    let list = path.field("route");
    for (index, to) in route.route.iter().enumerate() {
        let place = list.index(index);
        check_destination(&to.destination, &place.field("destination"), report);
        check_headers(to.headers.as_ref(), &place.field("headers"), report);
    }
    check_headers(route.headers.as_ref(), &path.field("headers"), report);
    check_mirrors(route, path, report);
    if let Some(retries) = &route.retries {
        check_retries(retries, &path.field("retries"), report);
    }
}

fn check_actions(route: &HttpRoute, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let actions = [
        !route.route.is_empty(),
        route.redirect.is_some(),
        route.direct_response.is_some(),
    ];
    match actions.iter().filter(|set| **set).count() {
        0 => report.invalid(
            path,
            "nothing to do: route, redirect or directResponse is required",
            "add a route",
        ),
        1 => {}
        _ => report.invalid(
            path,
            "route, redirect and directResponse exclude each other",
            "keep one of them",
        ),
    }
    if let Some(redirect) = &route.redirect {
        check_redirect(redirect, &path.field("redirect"), report);
    }
    if let Some(response) = &route.direct_response {
        check_direct_response(response, &path.field("directResponse"), report);
    }
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(rewrite, route, &path.field("rewrite"), report);
    }
}

fn check_redirect(redirect: &HttpRedirect, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let unset = redirect.uri.is_empty()
        && redirect.authority.is_empty()
        && redirect.scheme.is_empty()
        && redirect.port.is_none();
    if unset {
        report.invalid(
            path,
            "a redirect must change uri, authority, scheme or port",
            "set one of them",
        );
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        report.invalid(
            &path.field("scheme"),
            format!("scheme {:?} is neither http nor https", redirect.scheme),
            "use https",
        );
    }
    if let Some(code) = redirect
        .redirect_code
        .filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308))
    {
        let message = format!("{code} is not a valid redirect code");
        report.invalid(&path.field("redirectCode"), message, "use 301, 302, 303, 307 or 308");
    }
}

fn check_direct_response(response: &DirectResponse, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if !(200..=599).contains(&response.status) {
        let message = format!("HTTP status {} is not in range 200-599", response.status);
        report.invalid(&path.field("status"), message, "use a status from 200 to 599");
    }
    if let Some(ResponseBody::String(text)) = &response.body
        && text.len() >= MAX_BODY
    {
        report.invalid(
            &path.field("body"),
            format!("the body has {} bytes", text.len()),
            "use less than 1 MiB",
        );
    }
}

fn check_mirrors(route: &HttpRoute, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if let Some(mirror) = &route.mirror {
        check_destination(mirror, &path.field("mirror"), report);
    }
    let list = path.field("mirrors");
    for (index, mirror) in route.mirrors.iter().enumerate() {
        check_destination(&mirror.destination, &list.index(index).field("destination"), report);
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.invalid(
            &list,
            "mirror and mirrors exclude each other",
            "move mirror into mirrors",
        );
    }
    if route.route.is_empty() && (route.mirror.is_some() || !route.mirrors.is_empty()) {
        report.invalid(path, "a mirror needs a route whose requests are copied", "add a route");
    }
}

fn check_rewrite(rewrite: &HttpRewrite, route: &HttpRoute, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        report.invalid(path, "a rewrite must change uri or authority", "set one of them");
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        let at = path.field("uriRegexRewrite");
        if !rewrite.uri.is_empty() {
            report.invalid(&at, "uri and uriRegexRewrite exclude each other", "keep one of them");
        }
        if let Err(error) = Substitution::parse(&regex.find, &regex.rewrite) {
            report.invalid(&at, error.to_string(), "correct the expression or the replacement");
        }
    }
    if route.route.is_empty() {
        report.invalid(path, "a rewrite needs a route to forward to", "remove it");
    }
    if !rewrite.uri.is_empty()
        && route
            .matches
            .iter()
            .any(|condition| matches!(condition.uri, Some(StringMatch::Regex(_))))
    {
        let message = "a rewrite of the path behind a regular expression is not implemented";
        report.error(
            Code::NotImplemented,
            &path.field("uri"),
            message,
            "match the path by prefix or exactly",
        );
    }
}

fn check_retries(retries: &HttpRetry, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if retries.attempts == 0 && (retries.per_try_timeout.is_some() || retries.retry_on.is_some()) {
        report.invalid(
            &path.field("attempts"),
            "attempts 0 turns retries off, yet a policy is given",
            "set attempts, or remove the rest",
        );
    }
}

fn check_match(condition: &HttpMatch, path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (name, value) in [
        ("uri", &condition.uri),
        ("scheme", &condition.scheme),
        ("method", &condition.method),
        ("authority", &condition.authority),
    ] {
        check_string_match(value.as_ref(), &path.field(name), report);
    }
    if condition.ignore_uri_case && matches!(condition.uri, Some(StringMatch::Regex(_))) {
        let message = "ignoreUriCase has no effect on a regular expression";
        report.questionable(&path.field("ignoreUriCase"), message, "begin the expression with (?i)");
    }
    check_values(&condition.headers, &path.field("headers"), true, report);
    check_values(&condition.without_headers, &path.field("withoutHeaders"), true, report);
    check_values(&condition.query_params, &path.field("queryParams"), false, report);
}

fn check_string_match(value: Option<&StringMatch>, path: &FieldPath<'_>, report: &mut Report<'_>) {
    match value {
        Some(StringMatch::Prefix(text)) if text.is_empty() => {
            report.invalid(
                path,
                "prefix string match should not be empty",
                "leave the condition out to match everything",
            );
        }
        Some(StringMatch::Regex(text)) if text.regex().source().is_empty() => {
            report.invalid(
                path,
                "regex string match should not be empty",
                "leave the condition out to match everything",
            );
        }
        Some(StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Regex(_)) | None => {}
    }
}

fn check_values(values: &BTreeMap<String, ValueMatch>, path: &FieldPath<'_>, headers: bool, report: &mut Report<'_>) {
    for (name, value) in values {
        let place = path.key(name);
        if headers && !is_header_name(name) {
            report.invalid(
                &place,
                format!("{name:?} is not a header name"),
                "use letters, digits and '-'",
            );
        }
        let empty = match value {
            ValueMatch::Prefix(text) => text.is_empty(),
            ValueMatch::Regex(text) => text.regex().source().is_empty(),
            ValueMatch::Exact(_) | ValueMatch::Present => false,
        };
        if empty {
            report.invalid(
                &place,
                "prefix or regex match should not be empty",
                "use {} to ask for presence",
            );
        }
    }
}

/// A condition for gateways that the VirtualService is not bound to never holds.
fn check_gateways(service: &VirtualService, gateways: &[GatewayRef], path: &FieldPath<'_>, report: &mut Report<'_>) {
    let own = report.object().namespace();
    let list = path.field("gateways");
    for (index, gateway) in gateways.iter().enumerate() {
        let bound = match gateway.resolve(own) {
            None => service.is_for_mesh(),
            named => service.gateways.iter().any(|bound| bound.resolve(own) == named),
        };
        if !bound {
            let message = format!("{gateway} is not among the virtual service's gateways, so this never matches");
            report.questionable(
                &list.index(index),
                message,
                "add it to spec.gateways, or correct the name",
            );
        }
    }
}

fn check_destination(destination: &Destination, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if *destination.host.pattern() == HostPattern::Any {
        report.invalid(&path.field("host"), "* is not a destination", "name a host");
    }
    if !destination.subset.is_empty() && !super::is_subset_name(&destination.subset) {
        report.invalid(
            &path.field("subset"),
            format!("subset name {:?} is invalid", destination.subset),
            "use letters, digits and '-'",
        );
    }
}

fn check_headers(headers: Option<&Headers>, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if let Some(headers) = headers {
        check_operations(&headers.request, &path.field("request"), true, report);
        check_operations(&headers.response, &path.field("response"), false, report);
    }
}

fn check_operations(operations: &HeaderOperations, path: &FieldPath<'_>, request: bool, report: &mut Report<'_>) {
    for (field, changes) in [("set", &operations.set), ("add", &operations.add)] {
        let list = path.field(field);
        for name in changes.keys() {
            let authority = request && field == "set" && name == ":authority";
            if !authority && !is_header_name(name) {
                report.invalid(
                    &list.key(name),
                    format!("{name:?} is not a header that can be changed"),
                    "use a plain header name",
                );
            }
        }
    }
    let list = path.field("remove");
    for (index, name) in operations.remove.iter().enumerate() {
        if name.eq_ignore_ascii_case("host") || !is_header_name(name) {
            report.invalid(
                &list.index(index),
                format!("{name:?} is not a header that can be removed"),
                "use a plain header name",
            );
        }
    }
}

/// A token of RFC 9110, which leaves out pseudo headers.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What stands behind a route that takes everything, or repeats a condition, is never reached.
fn check_order(routes: &[HttpRoute], path: &FieldPath<'_>, report: &mut Report<'_>) {
    let mut seen: Vec<HttpMatch> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let place = path.index(index);
        if route.matches.is_empty() && index + 1 < routes.len() {
            let message = "takes every request, so the routes behind it are never reached";
            report.warning(
                Code::UnreachableRoute,
                &place,
                message,
                "move it to the end, or give it conditions",
            );
        }
        let conditions = place.field("match");
        for (at, condition) in route.matches.iter().enumerate() {
            let unnamed = HttpMatch {
                name: String::new(),
                ..condition.clone()
            };
            if seen.contains(&unnamed) {
                let message = "the same condition is already taken by an earlier one";
                report.warning(Code::IneffectiveMatch, &conditions.index(at), message, "remove it");
            } else {
                seen.push(unnamed);
            }
        }
    }
}

fn check_tls(service: &VirtualService, route: &TlsRoute, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let matches = path.field("match");
    if route.matches.is_empty() {
        report.invalid(
            path,
            "a TLS route must have at least one match",
            "add a match with sniHosts",
        );
    }
    for (index, condition) in route.matches.iter().enumerate() {
        check_sni(service, condition, &matches.index(index), report);
        check_gateways(service, &condition.gateways, &matches.index(index), report);
    }
    let list = path.field("route");
    if route.route.is_empty() {
        report.invalid(path, "a TLS route must have a destination", "add route");
    }
    let weights: Vec<u32> = route.route.iter().map(|to| to.weight).collect();
    super::weights(&weights, &list, report);
    for (index, to) in route.route.iter().enumerate() {
        check_destination(&to.destination, &list.index(index).field("destination"), report);
    }
}

fn check_sni(service: &VirtualService, condition: &TlsMatch, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let list = path.field("sniHosts");
    if condition.sni_hosts.is_empty() {
        report.invalid(&list, "a TLS match must have at least one SNI host", "add sniHosts");
    }
    for (index, sni) in condition.sni_hosts.iter().enumerate() {
        if !service.hosts.iter().any(|host| host.pattern().covers(sni.pattern())) {
            let hosts = service
                .hosts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let message = format!("SNI host {sni} is not a subset of any of the virtual service hosts: {hosts}");
            report.invalid(&list.index(index), message, "add it to spec.hosts");
        }
        if sni.ip().is_some() {
            report.questionable(
                &list.index(index),
                format!("{sni} is an address; clients send names only"),
                "use a name",
            );
        }
    }
}
