//! Changes a route asks for: headers, path and host of a request, headers of a response, and where a redirect leads.

use std::{borrow::Cow, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, LOCATION},
    uri::Scheme,
};
use mesh::{
    listener::{Http, ServerHeader},
    route::{Forward, PathMatch, Redirect},
};

use super::{
    head::{Head, without_port},
    routes::{HeaderChanges, Route},
};
use crate::{
    error::{BadRequest, ProxyError},
    limits,
};

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Applies what a route says of a request that is forwarded.
///
/// # Errors
/// The rewritten path is none.
pub(crate) fn request(head: &mut Head, route: &Route, forward: &Forward) -> Result<(), ProxyError> {
    change_headers(&mut head.headers, &route.request_headers);
    if let Some(authority) = &route.request_headers.authority {
        head.authority = authority.clone();
    }
    rewrite_path(head, route, forward)?;
    rewrite_host(head, forward)?;
    Ok(())
}

/// Tells the upstream how long it has to answer: what is left, `elapsed` after the request's end, of the route's timeout, or the
/// bound on one try if that is the tighter one.
pub(crate) fn expected_timeout(headers: &mut HeaderMap, forward: &Forward, elapsed: Duration) {
    let enabled = |timeout: &Duration| !timeout.is_zero();
    let route = Some(forward.timeout.unwrap_or(limits::ROUTE_TIMEOUT)).filter(enabled);
    // Zero would mean for ever.
    let left = route.map(|route| route.saturating_sub(elapsed).max(Duration::from_millis(1)));
    let one_try = forward.retry.as_ref().and_then(|retry| retry.per_try_timeout);
    if let Some(timeout) = one_try.filter(enabled).into_iter().chain(left).min() {
        headers.insert(EXPECTED_TIMEOUT, number(timeout.as_millis()));
    }
}

/// The status and headers of a route's own answer: what was created, or is elsewhere, is where it was asked for.
pub(crate) fn direct_response(head: &Head, status: u16) -> (StatusCode, HeaderMap) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let here = redirect(head, &Redirect::default()).map(|(_, headers)| headers);
    let here = here.filter(|_| status == StatusCode::CREATED || status.is_redirection());
    (status, here.unwrap_or_default())
}

fn rewrite_path(head: &mut Head, route: &Route, forward: &Forward) -> Result<(), ProxyError> {
    let Some(target) = &head.target else { return Ok(()) };
    let original = target.as_str();
    let Some(rewritten) = rewritten_path(original, route, forward) else {
        return Ok(());
    };
    let path = rewritten.parse().map_err(|_| ProxyError::Request(BadRequest::Path))?;
    if let Ok(original) = HeaderValue::from_str(original) {
        head.headers.insert(ORIGINAL_PATH, original);
    }
    head.target = Some(path);
    Ok(())
}

/// `None`: the path stays as it is.
fn rewritten_path(original: &str, route: &Route, forward: &Forward) -> Option<String> {
    if let Some(substitution) = &forward.regex_rewrite {
        let (path, query) = original.split_at(original.find('?').unwrap_or(original.len()));
        return Some(substitution.apply(path) + query);
    }
    let to = forward.prefix_rewrite.as_ref()?;
    let matched = match &route.matches.path {
        PathMatch::Prefix(prefix) => prefix.len(),
        PathMatch::Exact(exact) => exact.len(),
        PathMatch::Regex(_) | PathMatch::Connect => return None,
    };
    Some(format!("{to}{}", original.get(matched..).unwrap_or_default()))
}

fn rewrite_host(head: &mut Head, forward: &Forward) -> Result<(), ProxyError> {
    let Some(host) = &forward.host_rewrite else {
        return Ok(());
    };
    let host = HeaderValue::from_str(host).map_err(|_| ProxyError::Request(BadRequest::Authority))?;
    let original = std::mem::replace(&mut head.authority, host);
    head.headers.insert(ORIGINAL_HOST, original);
    Ok(())
}

/// Applies what a route says of its response, and signs it.
pub(crate) fn response(headers: &mut HeaderMap, changes: &HeaderChanges, settings: &Http) {
    change_headers(headers, changes);
    sign(headers, settings);
}

/// The `server` header.
pub(crate) fn sign(headers: &mut HeaderMap, settings: &Http) {
    let replace = match settings.server_header {
        ServerHeader::Overwrite => true,
        ServerHeader::AppendIfAbsent => !headers.contains_key(header::SERVER),
        ServerHeader::PassThrough => false,
    };
    if replace {
        headers.insert(header::SERVER, server_name(settings));
    }
}

fn server_name(settings: &Http) -> HeaderValue {
    const ENVOY: HeaderValue = HeaderValue::from_static("envoy");
    settings
        .server_name
        .as_deref()
        .map_or(ENVOY, |name| HeaderValue::from_str(name).unwrap_or(ENVOY))
}

/// A decimal number as a header's value.
pub(crate) fn number(value: u128) -> HeaderValue {
    u64::try_from(value).unwrap_or(u64::MAX).into()
}

fn change_headers(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for change in &changes.add {
        if change.append {
            headers.append(&change.name, change.value.clone());
        } else {
            headers.insert(&change.name, change.value.clone());
        }
    }
}

/// The status and headers of a redirect. `None`: the new location cannot be written as a header.
pub(crate) fn redirect(head: &Head, redirect: &Redirect) -> Option<(StatusCode, HeaderMap)> {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme.as_str());
    let authority = redirect_authority(head, redirect, scheme);
    let path = redirect_path(head, redirect);
    let location = HeaderValue::from_str(&format!("{scheme}://{authority}{path}")).ok()?;
    let status = redirect.status.and_then(|status| StatusCode::from_u16(status).ok());
    let headers = HeaderMap::from_iter([(LOCATION, location)]);
    Some((status.unwrap_or(StatusCode::MOVED_PERMANENTLY), headers))
}

/// A new path keeps the query unless it has one of its own.
fn redirect_path<'a>(head: &'a Head, redirect: &'a Redirect) -> Cow<'a, str> {
    match redirect.path.as_deref() {
        None => head.path_and_query().into(),
        Some(path) if path.contains('?') || head.query().is_empty() => path.into(),
        Some(path) => format!("{path}?{}", head.query()).into(),
    }
}

/// The port goes with the scheme it was the default of.
fn redirect_authority(head: &Head, redirect: &Redirect, scheme: &str) -> String {
    let default_port = if head.scheme == Scheme::HTTPS { ":443" } else { ":80" };
    let host = redirect.host.as_deref().unwrap_or(head.authority());
    match redirect.port {
        Some(port) => format!("{}:{port}", without_port(host)),
        None if scheme != head.scheme.as_str() => host.strip_suffix(default_port).unwrap_or(host).to_owned(),
        None => host.to_owned(),
    }
}

/// To the same place, over TLS.
pub(crate) fn to_https() -> Redirect {
    Redirect {
        scheme: Some("https".to_owned()),
        ..Redirect::default()
    }
}
