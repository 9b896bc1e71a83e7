//! The connections to one host that are interchangeable.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Notify, time::Instant};

use super::Target;
use crate::{
    drain::Drain,
    error::{ConnectError, ProxyError},
    http::body::RequestBody,
    limits,
    network::Network,
    upstream::{
        breaker::{Breakers, Permit},
        cluster::Cluster,
        connect::{self, Connected},
    },
};

/// The connections.
pub(crate) struct HostPool {
    cluster: Weak<Cluster>,
    idle: RefCell<Vec<Http1>>,
    shared: RefCell<Vec<Rc<Http2>>>,
    /// The HTTP/2 connection that is being made, for which all who come meanwhile wait.
    connecting: RefCell<Option<Connecting>>,
    /// Connections there are or are being made, in use or not.
    open: Cell<usize>,
    /// Of the peer's HTTP/2 connections.
    max_streams: Rc<Cell<usize>>,
    /// A connection became free or was closed.
    freed: Notify,
    /// Nothing is kept any more.
    retired: Cell<bool>,
    /// Longest time without requests. `None`: any.
    idle_timeout: Option<Duration>,
    /// Requests that a connection serves. `None`: any number.
    max_requests: Option<u32>,
}

type Connecting = Shared<LocalBoxFuture<'static, Result<Rc<Http2>, ConnectError>>>;

/// A connection.
pub(crate) enum Connection {
    Http1(Http1),
    Http2(Rc<Http2>),
}

/// A connection for one request at a time.
pub(crate) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) local: SocketAddr,
    idle_since: Instant,
    served: u32,
}

/// A connection for several requests at a time.
pub(crate) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) local: SocketAddr,
    active: Cell<usize>,
    served: Cell<u32>,
    limit: Rc<StreamLimit>,
    idle_since: Cell<Instant>,
}

/// Streams that a peer takes on one HTTP/2 connection, as far as it has said. hyper tells only while it works on a request;
/// the connection asks once more after its first, when the peer's settings are there.
struct StreamLimit {
    /// Shared by all connections to the host.
    max: Rc<Cell<usize>>,
    is_known: Cell<bool>,
    ask: Notify,
}

/// Counts a connection from the attempt to make it to its end.
struct Open {
    pool: Rc<HostPool>,
    _permit: Option<Permit>,
}

/// Runs hyper's tasks where the worker's run.
#[derive(Clone)]
pub(crate) struct LocalExecutor(pub(crate) Drain);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

impl HostPool {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        let reuse = cluster.settings().reuse;
        Self {
            cluster: Arc::downgrade(cluster),
            idle_timeout: Some(reuse.idle_timeout.unwrap_or(limits::UPSTREAM_IDLE)).filter(|limit| !limit.is_zero()),
            max_requests: reuse.max_requests,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: RefCell::default(),
            open: Cell::new(0),
            max_streams: Rc::new(Cell::new(limits::HTTP2_FIRST_STREAMS)),
            freed: Notify::new(),
            retired: Cell::new(false),
        }
    }

    /// A connection where there is none to [reuse](Self::reuse), and whether it was used before.
    pub(super) async fn connection(
        self: &Rc<Self>,
        network: &Arc<dyn Network>,
        target: &Target<'_>,
        drain: &Drain,
    ) -> Result<(Connection, bool), ProxyError> {
        let breakers = target.cluster.breakers();
        let _pending = breakers.pending.acquire().ok_or(ProxyError::PendingOverflow)?;
        loop {
            let connecting = self.connecting.borrow().clone();
            if let Some(connecting) = connecting {
                connecting.await.map_err(ProxyError::Connect)?;
            } else if let Some(open) = self.may_open(breakers) {
                return self
                    .open(open, network, target, drain)
                    .await
                    .map_err(ProxyError::Connect);
            } else {
                self.freed.notified().await;
            }
            if let Some(connection) = self.reuse(target.http2) {
                return Ok((connection, true));
            }
        }
    }

    /// A connection that is there already.
    pub(super) fn reuse(&self, http2: bool) -> Option<Connection> {
        if http2 {
            self.share().map(Connection::Http2)
        } else {
            self.pop_idle().map(Connection::Http1)
        }
    }

    /// The one that was used last, since it is the least likely to be closed by its peer just now.
    fn pop_idle(&self) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if self.is_usable(&connection) {
                return Some(connection);
            }
        }
        None
    }

    fn is_usable(&self, connection: &Http1) -> bool {
        connection.sender.is_ready() && !connection.sender.is_closed() && !self.is_too_long(connection.idle_since)
    }

    /// A shared connection that serves nobody any more, or will not serve more than it does.
    fn is_spent(&self, connection: &Http2) -> bool {
        let idle = connection.active.get() == 0 && self.is_too_long(connection.idle_since.get());
        idle || connection.sender.is_closed() || self.is_enough(connection.served.get())
    }

    fn is_too_long(&self, idle_since: Instant) -> bool {
        self.idle_timeout.is_some_and(|limit| idle_since.elapsed() >= limit)
    }

    fn is_enough(&self, served: u32) -> bool {
        self.max_requests.is_some_and(|limit| served >= limit)
    }

    fn share(&self) -> Option<Rc<Http2>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !self.is_spent(connection));
        shared.iter().find(|connection| connection.has_room()).cloned()
    }

    /// A place for another connection. A pool without any always gets one, lest it wait for what only others can free.
    fn may_open(self: &Rc<Self>, breakers: &Breakers) -> Option<Open> {
        let permit = breakers.connections.acquire();
        if permit.is_none() && self.open.get() > 0 {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Open {
            pool: self.clone(),
            _permit: permit,
        })
    }

    async fn open(
        self: &Rc<Self>,
        open: Open,
        network: &Arc<dyn Network>,
        target: &Target<'_>,
        drain: &Drain,
    ) -> Result<(Connection, bool), ConnectError> {
        if target.http2 {
            let connection = self.connect_shared(open, network, target, drain).await?;
            return Ok((Connection::Http2(connection), false));
        }
        let connected = connect::connect(&**network, target.cluster, target.host, &target.purpose).await?;
        let connection = http1(connected, open, drain).await?;
        Ok((Connection::Http1(connection), false))
    }

    /// Connects in a task of its own, so that those who wait for it do not depend on who came first.
    fn connect_shared(
        self: &Rc<Self>,
        open: Open,
        network: &Arc<dyn Network>,
        target: &Target<'_>,
        drain: &Drain,
    ) -> Connecting {
        let (network, cluster, host) = (network.clone(), target.cluster.clone(), target.host.clone());
        let (purpose, drain, pool) = (target.purpose.clone(), drain.clone(), self.clone());
        let tasks = drain.clone();
        let connecting = async move {
            let made = match connect::connect(&*network, &cluster, &host, &purpose).await {
                Ok(connected) => http2(connected, open, pool.max_streams.clone(), &drain)
                    .await
                    .map(Rc::new),
                Err(error) => Err(error),
            };
            pool.connecting.take();
            if let Ok(connection) = &made {
                pool.keep_shared(connection);
            }
            made
        };
        let connecting = connecting.boxed_local().shared();
        *self.connecting.borrow_mut() = Some(connecting.clone());
        tasks.spawn(connecting.clone().map(drop));
        connecting
    }

    fn keep_shared(&self, connection: &Rc<Http2>) {
        if !self.retired.get() {
            self.shared.borrow_mut().push(connection.clone());
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_back(&self, mut connection: Http1) {
        let mut idle = self.idle.borrow_mut();
        if self.retired.get() || self.cluster.strong_count() == 0 || idle.len() >= limits::IDLE_PER_HOST {
            return;
        }
        connection.served += 1;
        if self.is_enough(connection.served) {
            return;
        }
        connection.idle_since = Instant::now();
        idle.push(connection);
        self.freed.notify_one();
    }

    /// A place on a shared connection became free.
    pub(super) fn left(&self) {
        self.freed.notify_one();
    }

    /// Ends what has been idle for too long. False: the pool itself is of no more use.
    pub(super) fn sweep(&self) -> bool {
        if self.cluster.strong_count() == 0 {
            self.retire();
            return false;
        }
        self.idle.borrow_mut().retain(|idle| self.is_usable(idle));
        self.shared.borrow_mut().retain(|shared| !self.is_spent(shared));
        self.open.get() > 0
    }

    /// Lets go of all connections; those in use end with their requests.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.take();
        self.shared.take();
    }
}

impl Http2 {
    fn has_room(&self) -> bool {
        self.sender.is_ready() && self.active.get() < self.limit.max.get()
    }

    pub(super) fn enter(&self) {
        self.active.set(self.active.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
    }

    pub(super) fn leave(&self) {
        self.active.set(self.active.get() - 1);
        self.idle_since.set(Instant::now());
        if !self.limit.is_known.replace(true) {
            self.limit.ask.notify_one();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open.get() - 1);
        self.pool.freed.notify_one();
    }
}

async fn http1(connected: Connected, open: Open, drain: &Drain) -> Result<Http1, ConnectError> {
    let mut builder = http1::Builder::new();
    // hyper takes `limits::HEADERS` lines of a head if it is not told a number; told one, it clears a table of that length for each.
    builder
        .max_buf_size(limits::HTTP1_BUFFER)
        // RFC 9112 section 5.2: a folded header of a response becomes one line again.
        .allow_obsolete_multiline_headers_in_responses(true);
    let (sender, connection) = builder
        .handshake(TokioIo::new(connected.io))
        .await
        .map_err(|error| failed(&error))?;
    drain.spawn(async move {
        // How it ended, the request on it learns; without one there is nobody to tell.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok(Http1 {
        sender,
        local: connected.local,
        idle_since: Instant::now(),
        served: 0,
    })
}

async fn http2(connected: Connected, open: Open, max: Rc<Cell<usize>>, drain: &Drain) -> Result<Http2, ConnectError> {
    let mut builder = http2::Builder::new(LocalExecutor(drain.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .initial_max_send_streams(max.get())
        .max_header_list_size(limits::HEADER_BYTES)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .max_local_error_reset_streams(limits::HTTP2_LOCAL_RESETS);
    let (sender, mut connection) = builder
        .handshake(TokioIo::new(connected.io))
        .await
        .map_err(|error| failed(&error))?;
    let limit = Rc::new(StreamLimit {
        max,
        is_known: Cell::new(false),
        ask: Notify::new(),
    });
    let asked = limit.clone();
    drain.spawn(async move {
        let mut ask = pin!(asked.ask.notified().fuse());
        poll_fn(|cx| {
            // Whether it was asked does not matter, only to be polled then.
            let _ = ask.as_mut().poll(cx);
            let ended = Pin::new(&mut connection).poll(cx);
            asked.max.set(connection.current_max_send_streams());
            ended.map(drop)
        })
        .await;
        drop(open);
    });
    Ok(Http2 {
        sender,
        local: connected.local,
        active: Cell::new(0),
        served: Cell::new(0),
        limit,
        idle_since: Cell::new(Instant::now()),
    })
}

/// hyper's handshake writes at most a preface, so that its failure is the transport's.
fn failed(error: &hyper::Error) -> ConnectError {
    ConnectError::Io(error.to_string())
}
