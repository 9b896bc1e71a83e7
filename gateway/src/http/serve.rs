//! Serves the HTTP of one connection: which version it is, hyper's settings, and how the connection ends.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderName, Request, Response, Version};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh::listener::{Codec, Http};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Context, HttpChain,
    body::ResponseBody,
    cork::cork,
    forwarded::PeerDescription,
    guard::{Guarded, Status},
    head::{Head, Refusal},
    hop, serve_request,
    trail::Trail,
};
use crate::{
    connection::Connection,
    error::{BadRequest, ProxyError},
    limits,
    sniff::Replay,
    stream::Downstream,
    upstream::pool::LocalExecutor,
    worker::Worker,
};

/// A connection that is served.
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) conn: Arc<Connection>,
    /// The chain as it was when the connection was accepted.
    pub(super) chain: Arc<HttpChain>,
    pub(super) peer: PeerDescription,
    /// What the guard saw. `None`: HTTP/2.
    guard: Option<Arc<Status>>,
    /// Requests so far.
    requests: Cell<u64>,
    /// Requests that have not ended.
    active: Cell<usize>,
    /// When the last of them ended.
    idle_since: Cell<Instant>,
    changed: Notify,
    /// The connection itself has ended, and with it what is still active.
    closed: Cell<bool>,
}

/// Serves the requests of one connection until it ends. `chain` is the chain as it was when the connection was accepted;
/// each request is served under the current one of the same id, if there still is one.
///
/// What it waits in is boxed by version: an idle connection of one is not to be as large as the other.
pub(crate) async fn serve_connection(worker: Rc<Worker>, chain: Arc<HttpChain>, conn: Arc<Connection>, io: Downstream) {
    let mut io = Replay::new(io);
    let Some(http2) = speaks_http2(&chain.settings, &conn, &mut io).await else {
        return;
    };
    if http2 {
        let session = Rc::new(Session::new(worker, chain, conn, None));
        Box::pin(serve_http2(&session, io)).await;
    } else {
        let guarded = Guarded::new(io, &chain.settings);
        let session = Rc::new(Session::new(worker, chain, conn, Some(guarded.status())));
        Box::pin(serve_http1(&session, guarded)).await;
    }
}

/// The first bytes of every HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// By configuration, by ALPN, or by the first bytes. `None`: the peer closed, or sent nothing for too long.
async fn speaks_http2(settings: &Http, conn: &Connection, io: &mut Replay<Downstream>) -> Option<bool> {
    match (settings.codec, conn.alpn.as_deref()) {
        (Codec::Http1, _) => return Some(false),
        (Codec::Http2, _) | (Codec::Auto, Some("h2" | "istio-h2")) => return Some(true),
        (Codec::Auto, Some(alpn)) if alpn.contains("http/1") => return Some(false),
        (Codec::Auto, _) => {}
    }
    let idle = idle_timeout(settings).unwrap_or(limits::HTTP_IDLE);
    let deadline = Instant::now() + idle;
    while PREFACE.starts_with(io.seen()) && io.seen().len() < PREFACE.len() {
        match tokio::time::timeout_at(deadline, io.look(PREFACE.len())).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) if !io.seen().is_empty() => return Some(false),
            Ok(Ok(0) | Err(_)) | Err(_) => return None,
        }
    }
    Some(io.seen().starts_with(PREFACE))
}

async fn serve_http1(session: &Rc<Session>, io: Guarded<Replay<Downstream>>) {
    let settings = &session.chain.settings;
    let headers = limits::header_bytes(settings);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The guard and the connection's own idle timeout bound the wait for a head.
        .header_read_timeout(None)
        .max_buf_size(headers + limits::HTTP1_BUFFER);
    // The guard counts lines of a head. hyper, told a number, clears a table of that length for each, so that it is left at its own
    // where that will do.
    let lines = limits::header_count(settings);
    if lines > limits::HEADERS {
        builder.max_headers(lines);
    }
    let serving = session.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let session = serving.clone();
        session.requests.set(session.requests.get() + 1);
        let keeps = (request.version() == Version::HTTP_10)
            .then(|| hop::nominates(request.headers(), &HeaderName::from_static("keep-alive")));
        let request = Unserved::new(&session, request);
        // hyper keeps a place for this in each connection, also while nothing is asked: several KiB if it were no box.
        Box::pin(async move {
            let mut response = request.serve().await;
            if let Some(keeps) = keeps {
                hop::set_persistence(response.headers_mut(), keeps);
            }
            session.answered(response.body().is_switching());
            Ok::<_, Infallible>(response)
        })
    });
    let connection = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = session
        .run(connection, |connection| connection.graceful_shutdown(), |_| ())
        .await;
    if let Err(error) = ended
        && error.is_parse()
    {
        session.record_violation(Version::HTTP_11, &ProxyError::Request(BadRequest::Codec));
    }
}

async fn serve_http2(session: &Rc<Session>, io: Replay<Downstream>) {
    let settings = &session.chain.settings;
    let http2 = settings.http2;
    let mut builder = http2::Builder::new(LocalExecutor(session.worker.drain.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.max_concurrent_streams.unwrap_or(limits::HTTP2_STREAMS))
        .initial_stream_window_size(http2.initial_stream_window.unwrap_or(limits::HTTP2_STREAM_WINDOW))
        .initial_connection_window_size(
            http2
                .initial_connection_window
                .unwrap_or(limits::HTTP2_CONNECTION_WINDOW),
        )
        .max_header_list_size(u32::try_from(limits::header_bytes(settings)).unwrap_or(u32::MAX))
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(limits::HTTP2_LOCAL_RESETS);
    let serving = session.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let request = Unserved::new(&serving, request);
        // hyper and the runtime move what serves a stream several times before it runs, and once after: a box keeps that short.
        Box::pin(async move { Ok::<_, Infallible>(request.serve().await) })
    });
    let (io, cork) = cork(io);
    let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = session
        .run(
            connection,
            |connection| connection.graceful_shutdown(),
            |cx| cork.release(cx),
        )
        .await;
    if ended.is_err_and(|error| is_protocol_error(&error)) {
        session.record_violation(Version::HTTP_2, &ProxyError::Request(BadRequest::Http2));
    }
}

/// A request that was read but not looked at yet. A client that is gone by then leaves a record too.
struct Unserved {
    session: Rc<Session>,
    request: Option<Request<Incoming>>,
}

impl Unserved {
    fn new(session: &Rc<Session>, request: Request<Incoming>) -> Self {
        Self {
            session: session.clone(),
            request: Some(request),
        }
    }

    async fn serve(mut self) -> Response<ResponseBody> {
        let request = self
            .request
            .take()
            .expect("a request is served once, since serving consumes it");
        serve_request(&self.session, request).await
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        let snapshot = self.session.worker.shared.snapshot.load_full();
        let context = Context::new(&self.session, &snapshot);
        let mut trail = Trail::open(&context, request.version());
        let (parts, _) = request.into_parts();
        if let Ok(head) = Head::read(parts, &self.session.conn, &context.chain.settings) {
            trail.request(&head);
        }
    }
}

/// Whether the peer broke HTTP/2, and not merely the connection.
fn is_protocol_error(error: &hyper::Error) -> bool {
    let http2 = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    http2.is_some_and(|error| !error.is_io() && !error.is_remote() && error.reason() != Some(h2::Reason::NO_ERROR))
}

fn idle_timeout(settings: &Http) -> Option<Duration> {
    Some(settings.timeouts.idle.unwrap_or(limits::HTTP_IDLE)).filter(|idle| !idle.is_zero())
}

impl Session {
    fn new(worker: Rc<Worker>, chain: Arc<HttpChain>, conn: Arc<Connection>, guard: Option<Arc<Status>>) -> Self {
        Self {
            worker,
            conn,
            chain,
            peer: PeerDescription::default(),
            guard,
            requests: Cell::new(0),
            active: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            changed: Notify::new(),
            closed: Cell::new(false),
        }
    }

    /// Drives a connection to its end; begins that end when the worker drains, when nothing was asked for too long, or when
    /// the connection is as old as it may get. `polled` is called whenever the connection was.
    async fn run<C>(
        &self,
        mut connection: Pin<&mut C>,
        shut_down: impl Fn(Pin<&mut C>),
        polled: impl Fn(&mut task::Context<'_>),
    ) -> C::Output
    where
        C: Future,
    {
        // Polled only when it was woken itself, not with each of the connection's many polls.
        let mut should_end: FuturesUnordered<_> = [self.should_end()].into_iter().collect();
        let poll = |connection: &mut Pin<&mut C>, cx: &mut task::Context<'_>| {
            let ended = connection.as_mut().poll(cx);
            polled(cx);
            ended
        };
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| poll(&mut connection, cx)) => Some(ended),
            _ = should_end.next() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                shut_down(connection.as_mut());
                poll_fn(|cx| poll(&mut connection, cx)).await
            }
        };
        self.closed.set(true);
        ended
    }

    async fn should_end(&self) {
        let timeouts = &self.chain.settings.timeouts;
        tokio::select! {
            () = self.worker.ending(self.conn.chain) => {}
            () = self.idle_for(idle_timeout(&self.chain.settings)) => {}
            () = expire(self.conn.started.instant, timeouts.max_connection_duration) => {}
        }
    }

    async fn idle_for(&self, timeout: Option<Duration>) {
        let Some(timeout) = timeout else {
            return std::future::pending().await;
        };
        loop {
            if self.active.get() > 0 {
                self.changed.notified().await;
            } else if self.idle_since.get().elapsed() >= timeout {
                return;
            } else {
                sleep_until(self.idle_since.get() + timeout).await;
            }
        }
    }

    /// Resolves when what was once allowed is allowed no longer: a newer policy refuses it, or the filter chain is gone and
    /// had its time to finish. Says why.
    pub(super) async fn refuses(&self, asked: &Head) -> ProxyError {
        let cell = &self.worker.shared.snapshot;
        let mut changes = cell.subscribe();
        while let Some(chain) = cell.load().http_chain(self.conn.chain) {
            if let Err(error) = chain.authorize(&self.conn, asked) {
                return error;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        sleep(limits::DRAIN).await;
        ProxyError::DurationTimeout
    }

    /// A request began.
    pub(super) fn begin(&self) {
        self.active.set(self.active.get() + 1);
    }

    /// A request ended.
    pub(super) fn end(&self) {
        let active = self.active.get() - 1;
        self.active.set(active);
        if active == 0 {
            self.idle_since.set(Instant::now());
            self.changed.notify_one();
        }
    }

    /// A request has its response, which does or does not end HTTP on the connection.
    fn answered(&self, switched: bool) {
        if let Some(guard) = &self.guard {
            guard.answered(self.requests.get(), switched);
        }
    }

    /// What it means that a request is given up from below.
    pub(super) fn gone(&self) -> ProxyError {
        if self.guard.is_some() || self.closed.get() {
            ProxyError::DownstreamGone
        } else {
            ProxyError::DownstreamReset
        }
    }

    /// Whether the guard put this request in place of one that broke HTTP.
    pub(super) fn violation(&self) -> Result<(), ProxyError> {
        match self.found() {
            Some(error) if *error != ProxyError::Request(BadRequest::Path) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether the codec lost a part of the target, so that it has no meaning.
    pub(super) fn misread(&self) -> Result<(), Refusal> {
        match self.found() {
            Some(ProxyError::Request(bad)) => Err(Refusal::Error(*bad)),
            _ => Ok(()),
        }
    }

    fn found(&self) -> Option<&ProxyError> {
        self.guard.as_ref()?.violation(self.requests.get())
    }

    /// Leaves a record where no request got far enough to do so.
    fn record_violation(self: &Rc<Self>, version: http::Version, error: &ProxyError) {
        let snapshot = self.worker.shared.snapshot.load_full();
        let context = Context::new(self, &snapshot);
        let mut trail = Trail::open(&context, version);
        trail.error(error);
        trail.settle();
    }
}

async fn expire(began: Instant, after: Option<Duration>) {
    match after.filter(|after| !after.is_zero()) {
        Some(after) => sleep_until(began + after).await,
        None => std::future::pending().await,
    }
}
