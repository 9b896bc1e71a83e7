//! Everything that can end a request or connection before its time, and what that means in Envoy's vocabulary.
//!
//! Each variant is born where the facts are. Total matches map it to flag, details, status, body and retry class; none has a
//! wildcard arm, so a new variant cannot be forgotten.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use mesh::PolicyName;

use crate::flags::Flag;

/// Why a request or connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The request on the wire breaks HTTP.
    #[error("bad request: {}", .0.details())]
    Request(BadRequest),
    /// No virtual host or no route matches.
    #[error("no route matches")]
    NoRoute,
    /// No filter chain matches the connection.
    #[error("no filter chain matches")]
    NoFilterChain,
    /// Authorization says no. `None`: nothing allowed it.
    #[error("denied by policy {0:?}")]
    Denied(Option<PolicyName>),
    /// The route names a cluster we do not have.
    #[error("the route's cluster is not configured")]
    ClusterNotFound,
    /// The cluster has no usable endpoint.
    #[error("no healthy endpoint")]
    NoHealthyHost,
    /// A TCP connect or TLS handshake failed; no byte of the request went out.
    #[error("cannot connect to the upstream: {0}")]
    Connect(ConnectError),
    /// A limit on what is in flight was reached.
    #[error("a circuit breaker of the cluster is open")]
    Overflow,
    /// The same before there was a connection: no more requests may wait for one.
    #[error("too many requests wait for a connection to the upstream")]
    PendingOverflow,
    /// The upstream ended the connection or stream.
    #[error("the upstream ended the exchange: {reset:?}, response started: {started}")]
    Reset {
        /// How.
        reset: UpstreamReset,
        /// Whether response headers had gone to the client.
        started: bool,
    },
    /// The route's timeout.
    #[error("the route's timeout passed")]
    RouteTimeout {
        /// Whether response headers had gone to the client.
        started: bool,
    },
    /// One attempt's timeout.
    #[error("an attempt's timeout passed")]
    TryTimeout,
    /// No byte moved on the stream for too long.
    #[error("the stream was idle for too long")]
    StreamIdle {
        /// Whether the request had arrived in full.
        request_complete: bool,
        /// Whether response headers had gone to the client.
        started: bool,
    },
    /// The request's headers did not arrive in time.
    #[error("the request's headers did not arrive in time")]
    HeadersTimeout,
    /// The whole request did not arrive in time.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The client went away.
    #[error("the client went away")]
    DownstreamGone,
    /// The client reset the HTTP/2 stream.
    #[error("the client reset the stream")]
    DownstreamReset,
    /// The connection reached its configured life.
    #[error("the connection reached its maximum duration")]
    DurationTimeout,
}

/// How a request broke HTTP or what we serve of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadRequest {
    /// Unparsable, by the HTTP/1 parser.
    Codec,
    /// HTTP/1.0 or something that is not HTTP/1.1.
    LowVersion,
    /// Both `content-length` and `transfer-encoding: chunked`.
    LengthAndChunked,
    /// A transfer coding other than `chunked`.
    TransferEncoding,
    /// A control character in the head.
    Characters,
    /// `connection` names too many headers, or one that only we may remove.
    ConnectionHeader,
    /// The header block is too large.
    HeadersTooLarge,
    /// Too many header lines.
    TooManyHeaders,
    /// CONNECT with a body.
    Body,
    /// The authority is not `host[:port]`.
    Authority,
    /// An absolute target of another scheme than http and https.
    Scheme,
    /// A target that is neither a path nor a URL.
    Target,
    /// An absolute https target on a plaintext connection.
    HttpsOnPlaintext,
    /// A header name has an underscore, which is configured to be refused.
    Underscore,
    /// No host.
    MissingHost,
    /// The path cannot be normalised.
    Path,
    /// `OPTIONS *` and other targets that do not begin with a slash.
    AsteriskPath,
    /// QUERY without `content-type` (RFC 10008).
    QueryContent,
    /// An upgrade that is not enabled.
    Upgrade,
    /// An HTTP/2 stream broke the protocol.
    Http2,
    /// An HTTP/2 header has a value that it may not have.
    Http2Field,
}

/// Why a connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Not in time.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
    /// The operating system said no: refused, unreachable, reset.
    #[error("{0}")]
    Io(String),
    /// The TLS handshake failed: the upstream is not who it must be, or does not speak TLS.
    #[error("TLS: {0}")]
    Tls(String),
}

/// How an upstream ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamReset {
    /// It closed the connection.
    Closed,
    /// It reset the HTTP/2 stream.
    Stream,
    /// It refused the HTTP/2 stream: it has not looked at the request.
    RefusedStream,
    /// It does not speak HTTP.
    Protocol,
}

/// What a retry policy may make of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryClass {
    /// `connect-failure`; nothing was sent.
    Connect,
    /// `refused-stream`; nothing was processed.
    RefusedStream,
    /// `reset`; the upstream may have seen the request.
    Reset,
    /// Trying again cannot help or is not ours to decide.
    Never,
}

impl ProxyError {
    /// The flag it sets.
    pub(crate) fn flag(&self) -> Option<Flag> {
        match self {
            Self::Request(bad) => bad.flag(),
            Self::NoRoute | Self::NoFilterChain => Some(Flag::Nr),
            Self::Denied(_) | Self::HeadersTimeout | Self::RequestTimeout => None,
            Self::ClusterNotFound => Some(Flag::Nc),
            Self::NoHealthyHost => Some(Flag::Uh),
            Self::Connect(_) => Some(Flag::Uf),
            Self::Overflow | Self::PendingOverflow => Some(Flag::Uo),
            Self::Reset { reset, .. } => Some(reset.flag()),
            Self::RouteTimeout { .. } | Self::TryTimeout => Some(Flag::Ut),
            Self::StreamIdle { .. } => Some(Flag::Si),
            Self::DownstreamGone => Some(Flag::Dc),
            Self::DownstreamReset => Some(Flag::Dr),
            Self::DurationTimeout => Some(Flag::Dt),
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`; blanks become `_` when it is printed.
    pub(crate) fn details(&self) -> Cow<'static, str> {
        match self {
            Self::Request(bad) => bad.details().into(),
            Self::NoRoute => "route_not_found".into(),
            Self::NoFilterChain => "filter_chain_not_found".into(),
            Self::Denied(policy) => denial(policy.as_ref()).into(),
            Self::ClusterNotFound => "cluster_not_found".into(),
            Self::NoHealthyHost => "no_healthy_upstream".into(),
            Self::Connect(ConnectError::Timeout(_)) => before_start("connection_timeout").into(),
            Self::Connect(ConnectError::Io(reason) | ConnectError::Tls(reason)) => {
                // Blanks of the reason, which is text, are none here, where white space ends a field.
                let reason = reason.replace(char::is_whitespace, "_");
                before_start(&format!("remote_connection_failure|{reason}")).into()
            }
            Self::Overflow | Self::PendingOverflow => before_start("overflow").into(),
            Self::Reset { reset, started: false } => before_start(reset.name()).into(),
            Self::Reset { reset, started: true } => {
                format!("upstream_reset_after_response_started{{{}}}", reset.name()).into()
            }
            Self::RouteTimeout { .. } => "response_timeout".into(),
            Self::TryTimeout => "upstream_per_try_timeout".into(),
            Self::StreamIdle { .. } => "stream_idle_timeout".into(),
            Self::HeadersTimeout => "request_header_timeout".into(),
            Self::RequestTimeout => "request_overall_timeout".into(),
            Self::DownstreamGone => "downstream_remote_disconnect".into(),
            Self::DownstreamReset => "http2.remote_reset".into(),
            Self::DurationTimeout => "duration_timeout".into(),
        }
    }

    /// The status a client gets. `None`: there is nobody to tell, or the response has begun.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Request(bad) => Some(bad.status()),
            Self::NoRoute => Some(StatusCode::NOT_FOUND),
            Self::Denied(_) => Some(StatusCode::FORBIDDEN),
            Self::ClusterNotFound | Self::NoHealthyHost | Self::Connect(_) | Self::Overflow | Self::PendingOverflow => {
                Some(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Reset {
                reset: UpstreamReset::Protocol,
                started: false,
            } => Some(StatusCode::BAD_GATEWAY),
            Self::Reset { started: false, .. } => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::RouteTimeout { started: false } | Self::TryTimeout => Some(StatusCode::GATEWAY_TIMEOUT),
            Self::StreamIdle {
                started: false,
                request_complete: true,
            } => Some(StatusCode::GATEWAY_TIMEOUT),
            Self::StreamIdle {
                started: false,
                request_complete: false,
            }
            | Self::HeadersTimeout
            | Self::RequestTimeout => Some(StatusCode::REQUEST_TIMEOUT),
            Self::Reset { started: true, .. }
            | Self::RouteTimeout { started: true }
            | Self::StreamIdle { started: true, .. }
            | Self::NoFilterChain
            | Self::DownstreamGone
            | Self::DownstreamReset
            | Self::DurationTimeout => None,
        }
    }

    /// The body of a local reply. `retried`: this is the last of several attempts.
    pub(crate) fn body(&self, retried: bool) -> Cow<'static, str> {
        let reset = |reason: &str| {
            let how = if retried {
                "retried and the latest reset reason"
            } else {
                "reset reason"
            };
            Cow::Owned(format!(
                "upstream connect error or disconnect/reset before headers. {how}: {reason}"
            ))
        };
        match self {
            Self::Request(bad) => bad.body().into(),
            Self::Denied(_) => "RBAC: access denied".into(),
            Self::NoHealthyHost => "no healthy upstream".into(),
            Self::Connect(ConnectError::Timeout(_)) => reset("connection timeout"),
            Self::Connect(ConnectError::Io(_) | ConnectError::Tls(_)) => reset("remote connection failure"),
            Self::Overflow | Self::PendingOverflow => reset("overflow"),
            Self::Reset { reset: how, .. } => reset(&how.name().replace('_', " ")),
            Self::RouteTimeout { .. } | Self::TryTimeout => "upstream request timeout".into(),
            Self::StreamIdle { .. } => "stream timeout".into(),
            Self::HeadersTimeout => "request header timeout".into(),
            Self::RequestTimeout => "request timeout".into(),
            Self::NoRoute
            | Self::NoFilterChain
            | Self::ClusterNotFound
            | Self::DownstreamGone
            | Self::DownstreamReset
            | Self::DurationTimeout => "".into(),
        }
    }

    /// What a retry policy may make of it.
    pub(crate) fn retry_class(&self) -> RetryClass {
        match self {
            Self::Connect(_) => RetryClass::Connect,
            Self::Reset {
                reset: UpstreamReset::RefusedStream,
                started: false,
            } => RetryClass::RefusedStream,
            Self::Reset { started: false, .. } | Self::TryTimeout => RetryClass::Reset,
            Self::Request(_)
            | Self::NoRoute
            | Self::NoFilterChain
            | Self::Denied(_)
            | Self::ClusterNotFound
            | Self::NoHealthyHost
            | Self::Overflow
            | Self::PendingOverflow
            | Self::Reset { started: true, .. }
            | Self::RouteTimeout { .. }
            | Self::StreamIdle { .. }
            | Self::HeadersTimeout
            | Self::RequestTimeout
            | Self::DownstreamGone
            | Self::DownstreamReset
            | Self::DurationTimeout => RetryClass::Never,
        }
    }
}

impl BadRequest {
    fn flag(self) -> Option<Flag> {
        match self {
            Self::Codec
            | Self::LowVersion
            | Self::LengthAndChunked
            | Self::TransferEncoding
            | Self::Characters
            | Self::ConnectionHeader
            | Self::HeadersTooLarge
            | Self::TooManyHeaders
            | Self::Body
            | Self::Authority
            | Self::Scheme
            | Self::Target
            | Self::HttpsOnPlaintext
            | Self::Underscore
            | Self::Http2
            | Self::Http2Field => Some(Flag::Dpe),
            Self::MissingHost | Self::Path | Self::AsteriskPath | Self::QueryContent | Self::Upgrade => None,
        }
    }

    fn details(self) -> &'static str {
        match self {
            Self::Codec => "http1.codec_error",
            Self::LowVersion => "low_version",
            Self::LengthAndChunked => "http1.content_length_and_chunked_not_allowed",
            Self::TransferEncoding => "http1.invalid_transfer_encoding",
            Self::Characters => "http1.invalid_characters",
            Self::ConnectionHeader => "http1.connection_header_rejected",
            Self::HeadersTooLarge => "http1.headers_too_large",
            Self::TooManyHeaders => "http1.too_many_headers",
            Self::Body => "http1.body_disallowed",
            Self::Authority => "http.invalid_authority",
            Self::Scheme => "http1.invalid_scheme",
            Self::Target => "http1.invalid_url",
            Self::HttpsOnPlaintext => "http1.https_url_on_plaintext_connection",
            Self::Underscore => "http1.unexpected_underscore",
            Self::MissingHost => "missing_host_header",
            Self::Path => "path_normalization_failed",
            Self::AsteriskPath => "absolute_path_rejected",
            Self::QueryContent => "query_missing_content_type",
            Self::Upgrade => "upgrade_failed",
            Self::Http2Field => "http2.invalid.header.field",
            Self::Http2 => "http2.violation.of.messaging.rule",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::LowVersion => StatusCode::UPGRADE_REQUIRED,
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadersTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HttpsOnPlaintext | Self::Upgrade => StatusCode::FORBIDDEN,
            Self::AsteriskPath => StatusCode::NOT_FOUND,
            Self::Codec
            | Self::LengthAndChunked
            | Self::Characters
            | Self::ConnectionHeader
            | Self::Body
            | Self::Authority
            | Self::Scheme
            | Self::Target
            | Self::Underscore
            | Self::MissingHost
            | Self::Path
            | Self::QueryContent
            | Self::Http2
            | Self::Http2Field => StatusCode::BAD_REQUEST,
        }
    }

    /// Errors of the codec carry the status text, those of the connection manager nothing.
    fn body(self) -> &'static str {
        if self.flag().is_some() {
            self.status().canonical_reason().unwrap_or_default()
        } else {
            ""
        }
    }
}

impl UpstreamReset {
    fn flag(self) -> Flag {
        match self {
            Self::Closed => Flag::Uc,
            Self::Stream | Self::RefusedStream => Flag::Ur,
            Self::Protocol => Flag::Upe,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "connection_termination",
            Self::Stream => "remote_reset",
            Self::RefusedStream => "remote_refused_stream_reset",
            Self::Protocol => "protocol_error",
        }
    }
}

/// The details of a denial, of HTTP (`%RESPONSE_CODE_DETAILS%`) or TCP (`%CONNECTION_TERMINATION_DETAILS%`).
pub(crate) fn denial(policy: Option<&PolicyName>) -> String {
    format!(
        "rbac_access_denied_matched_policy[{}]",
        policy.map_or("none", PolicyName::as_str)
    )
}

fn before_start(reason: &str) -> String {
    format!("upstream_reset_before_response_started{{{reason}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_envoys_vocabulary() {
        let check = |error: ProxyError, status: u16, flag: &str, details: &str, body: &str| {
            let found = (
                error.status().map_or(0, |status| status.as_u16()),
                error.flag().map_or("-", Flag::short),
                error.details().into_owned(),
                error.body(false).into_owned(),
            );
            assert_eq!(found, (status, flag, details.to_owned(), body.to_owned()));
        };
        let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
        check(ProxyError::NoRoute, 404, "NR", "route_not_found", "");
        check(
            ProxyError::Denied(None),
            403,
            "-",
            "rbac_access_denied_matched_policy[none]",
            "RBAC: access denied",
        );
        check(
            ProxyError::Denied(Some(PolicyName::parse("ns[a]-policy[b]-rule[0]").unwrap())),
            403,
            "-",
            "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]",
            "RBAC: access denied",
        );
        check(
            ProxyError::NoHealthyHost,
            503,
            "UH",
            "no_healthy_upstream",
            "no healthy upstream",
        );
        check(
            ProxyError::Connect(ConnectError::Io("delayed_connect_error:_Connection_refused".into())),
            503,
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
            &format!("{reset}remote connection failure"),
        );
        check(
            ProxyError::Reset {
                reset: UpstreamReset::Protocol,
                started: false,
            },
            502,
            "UPE",
            "upstream_reset_before_response_started{protocol_error}",
            &format!("{reset}protocol error"),
        );
        check(
            ProxyError::Reset {
                reset: UpstreamReset::Closed,
                started: false,
            },
            503,
            "UC",
            "upstream_reset_before_response_started{connection_termination}",
            &format!("{reset}connection termination"),
        );
        check(
            ProxyError::RouteTimeout { started: false },
            504,
            "UT",
            "response_timeout",
            "upstream request timeout",
        );
        check(
            ProxyError::Request(BadRequest::LowVersion),
            426,
            "DPE",
            "low_version",
            "Upgrade Required",
        );
        check(
            ProxyError::Request(BadRequest::MissingHost),
            400,
            "-",
            "missing_host_header",
            "",
        );
        check(ProxyError::DownstreamGone, 0, "DC", "downstream_remote_disconnect", "");
    }

    #[test]
    fn the_last_of_several_attempts_says_so() {
        let error = ProxyError::Connect(ConnectError::Timeout(Duration::from_secs(1)));
        assert_eq!(
            error.body(true),
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection timeout"
        );
    }
}
