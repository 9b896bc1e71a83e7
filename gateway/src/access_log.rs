//! One record per request or connection, and what is written of it.
//!
//! An [`AccessRecord`] is made when a request (or connection) starts, filled as facts appear and consumed by
//! [`AccessRecord::finish`]. Dropping it finishes it too: there is no way to serve something and leave no line.
//! Which headers are kept is decided when the formats are compiled, so a record holds only what will be printed.

mod format;
mod operator;
mod request;
mod sink;
mod time;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    uri::{PathAndQuery, Scheme},
};
use mesh::{ClusterName, log::AccessLog};
use smallvec::SmallVec;
use tokio::time::Instant;

use format::FormatError;
pub use sink::Overflow;
pub(crate) use sink::{Sink, Sinks, enter_worker};

use crate::{
    clock::Moment,
    connection::Connection,
    error::ProxyError,
    flags::{Flag, Flags},
};
use format::Format;

/// The compiled access logs of one connection manager, TCP proxy or listener.
#[derive(Debug, Default)]
pub(crate) struct Loggers {
    logs: Vec<Logger>,
    plan: Plan,
}

#[derive(Debug)]
struct Logger {
    format: Format,
    only_flags: Vec<String>,
    sink: Arc<Sink>,
}

/// Which headers a record must keep: the union of what the formats print.
#[derive(Debug, Default)]
struct Plan {
    request: Vec<RequestField>,
    response: Vec<HeaderName>,
    trailers: Vec<HeaderName>,
}

#[derive(Debug, PartialEq, Eq)]
enum RequestField {
    Method,
    Authority,
    Path,
    Scheme,
    Header(HeaderName),
}

/// An access log cannot be compiled or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The format string is wrong.
    #[error("access log {path}: {error}")]
    Format {
        /// The log's file.
        path: String,
        /// What is wrong.
        error: FormatError,
    },
    /// The file cannot be opened.
    #[error("access log {path}: cannot be opened for appending: {error}")]
    Open {
        /// The log's file.
        path: String,
        /// What the operating system says.
        error: std::io::Error,
    },
}

impl Loggers {
    /// Compiles formats and opens files. Off the data path.
    pub(crate) fn build(logs: &[AccessLog], sinks: &Sinks) -> Result<Self, LogError> {
        let mut plan = Plan::default();
        let logs = logs
            .iter()
            .map(|log| {
                let path = || log.path.display().to_string();
                let format = Format::compile(&log.format, &mut plan)
                    .map_err(|error| LogError::Format { path: path(), error })?;
                let sink = sinks
                    .open(&log.path)
                    .map_err(|error| LogError::Open { path: path(), error })?;
                Ok(Logger {
                    format,
                    only_flags: log.only_flags.clone(),
                    sink,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { logs, plan })
    }
}

/// What is known so far of one request or connection.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    loggers: Arc<Loggers>,
    connection: Arc<Connection>,
    started: Moment,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`: the peer, or whom a trusted proxy says it speaks for.
    remote: SocketAddr,
    kind: Kind,
    /// Body (HTTP) or payload (TCP) bytes from the client.
    pub(crate) bytes_received: u64,
    /// Body or payload bytes to the client.
    pub(crate) bytes_sent: u64,
    /// Facts of the upstream side.
    pub(crate) upstream: Upstream,
    /// `%ROUTE_NAME%`.
    pub(crate) route: Option<Arc<str>>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub(crate) termination: Option<String>,
    /// Dynamic metadata of authorization: dry-run results.
    pub(crate) metadata: Vec<(String, String)>,
    status: u16,
    flags: Flags,
    details: Option<Cow<'static, str>>,
    request_end: Option<Instant>,
    response_begin: Option<Instant>,
    response_end: Option<Instant>,
    grpc_status: Option<u32>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is of a request; boxing would cost each an allocation"
)]
enum Kind {
    Tcp,
    /// A connection that no filter chain is for.
    Unmatched,
    Http(HttpKind),
}

/// Headers kept according to the plan, in the plan's order.
#[derive(Debug, Default)]
struct HttpKind {
    protocol: &'static str,
    request: SmallVec<[Kept; 8]>,
    response: SmallVec<[Kept; 2]>,
    trailers: Vec<Kept>,
}

/// A header's first value, if there was one.
type Kept = Option<Text>;

/// Something of a message's head. A handle to what was received, never a copy of it.
#[derive(Debug)]
enum Text {
    Method(Method),
    Path(PathAndQuery),
    Scheme(Scheme),
    Value(HeaderValue),
}

/// Facts of the upstream side of a record.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    /// `%UPSTREAM_CLUSTER_RAW%`.
    pub(crate) cluster: Option<ClusterName>,
    /// `%UPSTREAM_CLUSTER%`, where it differs.
    pub(crate) alt_stat_name: Option<Arc<str>>,
    /// `%UPSTREAM_HOST%`: the chosen endpoint, connected or not.
    pub(crate) host: Option<SocketAddr>,
    /// `%UPSTREAM_HOST_NAME%`: the name it was resolved from.
    pub(crate) host_name: Option<Arc<str>>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`: our end, once connected.
    pub(crate) local: Option<SocketAddr>,
    /// `%UPSTREAM_PROTOCOL%`.
    pub(crate) protocol: Option<&'static str>,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    pub(crate) attempts: u32,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(crate) failure: Option<String>,
}

/// A request as it stands after our changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'a> {
    /// `:method`.
    pub(crate) method: &'a Method,
    /// `:authority`; empty if there is none.
    pub(crate) authority: &'a HeaderValue,
    /// `:path` with query. `None`: CONNECT has none.
    pub(crate) path: Option<&'a PathAndQuery>,
    /// `:scheme`.
    pub(crate) scheme: &'a Scheme,
    /// The client, which a trusted proxy may have told us; without a port then.
    pub(crate) client: SocketAddr,
    /// `%PROTOCOL%`: `HTTP/1.1`, `HTTP/2`.
    pub(crate) protocol: &'static str,
    /// The rest.
    pub(crate) headers: &'a HeaderMap,
}

impl RequestView<'_> {
    fn keep(&self, field: &RequestField) -> Kept {
        match field {
            RequestField::Method => Some(Text::Method(self.method.clone())),
            RequestField::Authority => Some(self.authority)
                .filter(|authority| !authority.is_empty() && authority.to_str().is_ok())
                .map(|authority| Text::Value(authority.clone())),
            // The codecs let a DEL through, which has no place in a line.
            RequestField::Path => self
                .path
                .filter(|path| !path.as_str().contains('\x7f'))
                .map(|path| Text::Path(path.clone())),
            RequestField::Scheme => Some(Text::Scheme(self.scheme.clone())),
            RequestField::Header(name) => self.headers.get(name).cloned().map(Text::Value),
        }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Method(method) => method.as_str().as_bytes(),
            Self::Path(path) => path.as_str().as_bytes(),
            Self::Scheme(scheme) => scheme.as_str().as_bytes(),
            Self::Value(value) => value.as_bytes(),
        }
    }
}

impl Upstream {
    fn is_connected(&self) -> bool {
        self.local.is_some()
    }
}

impl AccessRecord {
    /// The record of a TCP connection.
    pub(crate) fn tcp(loggers: Arc<Loggers>, connection: Arc<Connection>) -> Self {
        let started = connection.started;
        Self::new(loggers, connection, started, Kind::Tcp)
    }

    /// The record of a connection that no filter chain is for.
    pub(crate) fn unmatched(loggers: Arc<Loggers>, connection: Arc<Connection>) -> Self {
        let started = connection.started;
        Self::new(loggers, connection, started, Kind::Unmatched)
    }

    /// The record of an HTTP request. `protocol` is printed even if nothing else of the request can be read.
    pub(crate) fn http(
        loggers: Arc<Loggers>,
        connection: Arc<Connection>,
        started: Moment,
        protocol: &'static str,
    ) -> Self {
        Self::new(
            loggers,
            connection,
            started,
            Kind::Http(HttpKind {
                protocol,
                ..HttpKind::default()
            }),
        )
    }

    fn new(loggers: Arc<Loggers>, connection: Arc<Connection>, started: Moment, kind: Kind) -> Self {
        Self {
            loggers,
            remote: connection.remote,
            connection,
            started,
            kind,
            bytes_received: 0,
            bytes_sent: 0,
            upstream: Upstream::default(),
            route: None,
            termination: None,
            metadata: Vec::new(),
            status: 0,
            flags: Flags::default(),
            details: None,
            request_end: None,
            response_begin: None,
            response_end: None,
            grpc_status: None,
        }
    }

    /// When the request or connection began.
    pub(crate) fn started(&self) -> Moment {
        self.started
    }

    /// Keeps what the formats print of the request. Called once our own changes are made; the last call counts.
    pub(crate) fn request(&mut self, view: &RequestView<'_>) {
        let Kind::Http(http) = &mut self.kind else { return };
        http.protocol = view.protocol;
        self.remote = view.client;
        http.request.clear();
        let plan = self.loggers.plan.request.iter();
        http.request.extend(plan.map(|field| view.keep(field)));
    }

    /// Keeps what the formats print of the response, upstream's or ours, as the client gets it.
    pub(crate) fn response(&mut self, status: u16, headers: &HeaderMap) {
        self.status = status;
        self.grpc_status = grpc_status(headers);
        if let Kind::Http(http) = &mut self.kind {
            http.response = keep(&self.loggers.plan.response, headers);
        }
    }

    /// An upstream's response begins.
    pub(crate) fn response_began(&mut self) {
        self.response_begin.get_or_insert_with(Instant::now);
    }

    /// Keeps what the formats print of the response's trailers.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = grpc_status(trailers).or(self.grpc_status);
        if let Kind::Http(http) = &mut self.kind {
            http.trailers = keep(&self.loggers.plan.trailers, trailers);
        }
    }

    /// The last byte of the request has arrived.
    pub(crate) fn request_complete(&mut self) {
        self.request_end.get_or_insert_with(Instant::now);
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) fn details(&mut self, details: impl Into<Cow<'static, str>>) {
        self.details = Some(details.into());
    }

    /// Sets a flag.
    pub(crate) fn flag(&mut self, flag: Flag) {
        self.flags.set(flag);
    }

    /// Takes flag and details from an error.
    pub(crate) fn error(&mut self, error: &ProxyError) {
        if let Some(flag) = error.flag() {
            self.flags.set(flag);
        }
        self.details = Some(error.details());
    }

    /// Writes the lines.
    pub(crate) fn finish(self) {
        drop(self);
    }

    /// What the logs would write now, whatever their filters say.
    pub(crate) fn render(&self, lines: &mut Vec<u8>) {
        for log in &self.loggers.logs {
            log.format.render(self, lines);
        }
    }

    fn emit(&mut self) {
        self.response_end = Some(Instant::now());
        for log in &self.loggers.logs {
            let wanted = log.only_flags.is_empty()
                || self
                    .flags
                    .iter()
                    .any(|flag| log.only_flags.iter().any(|want| want == flag.short()));
            if wanted {
                log.sink.write(|line| log.format.render(self, line));
            }
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        self.emit();
    }
}

fn keep<C: FromIterator<Kept>>(names: &[HeaderName], headers: &HeaderMap) -> C {
    let keep = |name| headers.get(name).cloned().map(Text::Value);
    names.iter().map(keep).collect()
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl Plan {
    fn request_field(&mut self, name: &str) -> Option<usize> {
        let field = match name.to_ascii_lowercase().as_str() {
            ":method" => RequestField::Method,
            ":authority" | "host" => RequestField::Authority,
            ":path" => RequestField::Path,
            ":scheme" => RequestField::Scheme,
            name => RequestField::Header(name.parse().ok()?),
        };
        Some(position_or_push(&mut self.request, field))
    }

    fn response_header(&mut self, name: &str) -> Option<usize> {
        Some(position_or_push(&mut self.response, name.parse().ok()?))
    }

    fn trailer(&mut self, name: &str) -> Option<usize> {
        Some(position_or_push(&mut self.trailers, name.parse().ok()?))
    }
}

fn position_or_push<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests;
