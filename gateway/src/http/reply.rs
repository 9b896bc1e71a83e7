//! Answers of our own, in the form that the client understands: HTTP, or gRPC's trailers-only response.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use mesh::listener::Http;

use super::{head::Head, rewrite};
use crate::error::{BadRequest, ProxyError};

/// Whom an answer is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    version: Version,
    /// A response to HEAD has no body.
    is_head: bool,
    is_grpc: bool,
    /// It wants to leave HTTP: what it sends next may be anything, so that its connection is closed.
    leaves_http: bool,
    /// Its request is still under way: nobody will read the rest, so that its connection is closed.
    is_sending: bool,
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

impl Client {
    /// Someone of whose request only the version is known.
    pub(crate) fn unknown(version: Version) -> Self {
        Self {
            version,
            is_head: false,
            is_grpc: false,
            leaves_http: false,
            is_sending: false,
        }
    }

    /// Who sent this head.
    pub(crate) fn of(head: &Head) -> Self {
        Self {
            version: head.version,
            is_head: head.method == Method::HEAD,
            is_grpc: head.is_grpc(),
            leaves_http: head.method == Method::CONNECT || head.headers.contains_key(header::UPGRADE),
            is_sending: false,
        }
    }

    /// The same, whose request is still under way or is not.
    pub(crate) fn sending(self, is_sending: bool) -> Self {
        Self { is_sending, ..self }
    }

    /// The same; if `whole`, its request has come to its end since.
    pub(crate) fn having_sent(self, whole: bool) -> Self {
        self.sending(self.is_sending && !whole)
    }
}

/// The answer to a request that failed. `retried`: after several attempts.
pub(crate) fn refuse(error: &ProxyError, retried: bool, client: Client, settings: &Http) -> Response<Bytes> {
    let status = error.status().unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut headers = HeaderMap::new();
    if matches!(error, ProxyError::Overflow | ProxyError::PendingOverflow) {
        headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    if closes(error) && client.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, CLOSE);
    }
    local(
        status,
        headers,
        error.body(retried).into_owned().into(),
        client,
        settings,
    )
}

/// An answer of our own with this status and text.
pub(crate) fn local(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    client: Client,
    settings: &Http,
) -> Response<Bytes> {
    let (status, body) = if client.is_grpc && !status.is_redirection() {
        in_grpc(status, &mut headers, &body);
        (StatusCode::OK, Bytes::new())
    } else {
        if !body.is_empty() {
            headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/plain"));
        }
        let is_silent = body.is_empty() && (client.is_head || client.version >= Version::HTTP_2);
        if !is_silent && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        (status, body)
    };
    if (client.leaves_http || client.is_sending) && client.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, CLOSE);
    }
    rewrite::sign(&mut headers, settings);
    let mut response = Response::new(if client.is_head { Bytes::new() } else { body });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A trailers-only response.
fn in_grpc(status: StatusCode, headers: &mut HeaderMap, message: &[u8]) {
    headers.insert(header::CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, grpc_status(status).into());
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_bytes(&grpc_message(message))
    {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// The mapping that gRPC gives for proxies (doc/http-grpc-status-mapping).
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encodes what may not stand in `grpc-message`.
fn grpc_message(text: &[u8]) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b'%' => b"%25".to_vec(),
        b' '..=b'~' => vec![*byte],
        _ => format!("%{byte:02X}").into_bytes(),
    };
    text.iter().flat_map(encode).collect()
}

/// After some errors the two sides no longer agree where a message ends, or one of them never will behave.
fn closes(error: &ProxyError) -> bool {
    match error {
        ProxyError::Request(bad) => *bad != BadRequest::AsteriskPath,
        ProxyError::HeadersTimeout | ProxyError::RequestTimeout | ProxyError::DurationTimeout => true,
        ProxyError::StreamIdle { request_complete, .. } => !request_complete,
        ProxyError::NoRoute
        | ProxyError::NoFilterChain
        | ProxyError::Denied(_)
        | ProxyError::ClusterNotFound
        | ProxyError::NoHealthyHost
        | ProxyError::Connect(_)
        | ProxyError::Overflow
        | ProxyError::PendingOverflow
        | ProxyError::Reset { .. }
        | ProxyError::RouteTimeout { .. }
        | ProxyError::TryTimeout
        | ProxyError::DownstreamGone
        | ProxyError::DownstreamReset => false,
    }
}

#[cfg(test)]
mod tests;
