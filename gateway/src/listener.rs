//! Accepts connections and finds out who serves them: which listener, which filter chain, which TLS session.
//!
//! Invariant: a connection is served by a filter chain that matches it, or not at all.

use std::{io, rc::Rc, sync::Arc};

use mesh::{ListenerName, listener::Transport};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    access_log::AccessRecord,
    authz::Verdict,
    clock::Moment,
    connection::Connection,
    error::ProxyError,
    http, limits,
    network::Accepted,
    snapshot::{Chain, ChainId, Listener, Serve, Snapshot},
    sniff::{self, Inspected, Replay, Unclear},
    stream::{Downstream, reset_on_close},
    tcp,
    worker::Worker,
};

/// Accepts connections for a listener until `stop` resolves, then those that wait already. Each is served under the
/// listener's current version; once it is no longer configured, under its last.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    mut listener: Arc<Listener>,
    socket: TcpListener,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_PER_LISTENER));
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => begin(&worker, &mut listener, stream, &places),
                Err(error) => pause(&listener.settings().name, &error).await,
            }
        }
    }
    for stream in waiting(socket) {
        begin(&worker, &mut listener, stream, &places);
    }
}

/// The connections that the kernel has accepted on our behalf: closing the socket would reset them. The runtime may not have
/// been told of them yet, so that the socket itself is asked.
fn waiting(socket: TcpListener) -> impl Iterator<Item = TcpStream> {
    let socket = socket.into_std().ok();
    let accept = move || socket.as_ref()?.accept().ok();
    std::iter::from_fn(accept).filter_map(|(stream, _)| {
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    })
}

/// A failure of one connection is none of the listener; a lack of descriptors or memory passes only with time.
async fn pause(name: &ListenerName, error: &io::Error) {
    let of_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !of_connection {
        tracing::warn!(listener = %name, %error, "cannot accept connections, trying again");
        sleep(limits::ACCEPT_BACKOFF).await;
    }
}

fn begin(worker: &Rc<Worker>, listener: &mut Arc<Listener>, stream: TcpStream, places: &Arc<Semaphore>) {
    let name = &listener.settings().name;
    let Ok(place) = places.clone().try_acquire_owned() else {
        tracing::debug!(listener = %name, "too many connections, closing a new one");
        return reset_on_close(&stream);
    };
    if let Some(current) = worker.shared.snapshot.load().listener(name) {
        *listener = current.clone();
    }
    worker
        .drain
        .spawn(serve(worker.clone(), listener.clone(), stream, place));
}

/// Serves one connection from its first byte to its last. What it takes to begin is in a box that is gone when it has begun, as what
/// serves it is in one of its own: a connection may be idle for hours, and a task is as large as the largest thing it ever waits for.
async fn serve(worker: Rc<Worker>, accepting: Arc<Listener>, stream: TcpStream, _place: OwnedSemaphorePermit) {
    if let Some(begun) = Box::pin(greet(&worker, &accepting, stream)).await {
        hand_over(worker, begun).await;
    }
}

/// A connection that can be served.
struct Begun {
    chain: Arc<Chain>,
    conn: Arc<Connection>,
    io: Downstream,
}

/// Finds out who serves a connection, and ends TLS. `None`: nobody does.
async fn greet(worker: &Worker, accepting: &Arc<Listener>, stream: TcpStream) -> Option<Begun> {
    let Some(arrival) = Arrival::of(worker, accepting, &stream) else {
        reset_on_close(&stream);
        return None;
    };
    let mut stream = Replay::new(stream);
    let inspecting = sniff::inspect(&mut stream, arrival.listener.settings());
    let inspected = tokio::select! {
        biased;
        inspected = inspecting => inspected,
        () = worker.drain.draining() => return None,
    };
    let Ok((inspected, chain)) = arrival.choose(inspected) else {
        // What was looked at will not be read, which the kernel would say with a reset, too.
        if !stream.seen().is_empty() {
            reset_on_close(stream.get_ref());
        }
        return None;
    };
    let conn = arrival.connection(&chain, &inspected);
    match establish(&chain, conn, stream).await {
        Ok((conn, io)) => Some(Begun {
            chain,
            conn: Arc::new(conn),
            io,
        }),
        Err(reason) => {
            // Nothing was served, so that there is nothing to record: Envoy has no line for it either.
            let reason = certs::tls_error(&reason).map_or_else(|| reason.to_string(), certs::tls_failure_reason);
            tracing::debug!(listener = %arrival.name(), remote = %arrival.accepted.remote, reason, "TLS handshake failed");
            None
        }
    }
}

/// Ends TLS if the chain says so.
async fn establish(
    chain: &Chain,
    mut conn: Connection,
    stream: Replay<TcpStream>,
) -> io::Result<(Connection, Downstream)> {
    let Some(acceptor) = &chain.tls else {
        return Ok((conn, Downstream::Plain(stream)));
    };
    let limit = chain.settings.handshake_timeout.unwrap_or(limits::HANDSHAKE);
    let handshake = acceptor.accept(stream);
    let accepted = match limit.is_zero() {
        true => handshake.await?,
        false => timeout(limit, handshake).await??,
    };
    conn.sni = conn.sni.or(accepted.server_name);
    conn.alpn = accepted.alpn;
    conn.tls = Some(accepted.facts);
    Ok((conn, Downstream::Tls(Box::new(accepted.stream))))
}

/// Gives the connection to the protocol of its chain, which leaves the records.
async fn hand_over(worker: Rc<Worker>, Begun { chain, conn, io }: Begun) {
    match &chain.serve {
        Serve::Tcp(tcp) => {
            let tcp = tcp.clone();
            Box::pin(tcp::serve_connection(worker, chain, tcp, conn, io)).await;
        }
        Serve::Http(_) if chain.authz.check(&*conn) != Verdict::Allow => {
            tracing::debug!(listener = %conn.listener, remote = %conn.remote, "connection denied by network authorization");
            io.reset();
        }
        Serve::Http(http) => http::serve_connection(worker, http.clone(), conn, io).await,
    }
}

/// A connection that has just been accepted.
struct Arrival {
    id: u64,
    started: Moment,
    accepted: Accepted,
    listener: Arc<Listener>,
}

impl Arrival {
    /// `None`: the peer is gone.
    fn of(worker: &Worker, accepting: &Arc<Listener>, stream: &TcpStream) -> Option<Self> {
        let mut accepted = worker.shared.network.accepted(stream).ok()?;
        let listener = responsible(&worker.shared.snapshot.load(), accepting, &mut accepted);
        Some(Self {
            id: worker.shared.connection_id(),
            started: Moment::now(),
            accepted,
            listener,
        })
    }

    /// The chain for what was found, or the record of there being none.
    fn choose(&self, inspected: Result<Inspected, Unclear>) -> Result<(Inspected, Arc<Chain>), ()> {
        let found = match inspected {
            Ok(inspected) => match self.listener.choose(self.accepted.local.port(), &inspected) {
                Some(chain) => return Ok((inspected, chain.clone())),
                None => inspected,
            },
            // No chain may have it: two readers of a malformed hello could disagree about the name in it.
            Err(Unclear::Malformed) => Inspected::nothing(),
            Err(reason) => {
                tracing::debug!(listener = %self.name(), remote = %self.accepted.remote, %reason, "connection closed");
                self.record(&Inspected::nothing()).finish();
                return Err(());
            }
        };
        let mut record = self.record(&found);
        record.error(&ProxyError::NoFilterChain);
        record.finish();
        Err(())
    }

    fn record(&self, inspected: &Inspected) -> AccessRecord {
        let connection = self.facts(inspected);
        AccessRecord::unmatched(self.listener.logs().clone(), Arc::new(connection))
    }

    fn connection(&self, chain: &Chain, inspected: &Inspected) -> Connection {
        Connection {
            chain: chain.id,
            chain_name: chain.name.clone(),
            ..self.facts(inspected)
        }
    }

    /// What is known without a chain.
    fn facts(&self, inspected: &Inspected) -> Connection {
        let found_in_plaintext = inspected
            .protocols
            .first()
            .filter(|_| inspected.transport == Transport::Plaintext);
        Connection {
            id: self.id,
            started: self.started,
            listener: self.name().clone(),
            chain: ChainId::NONE,
            chain_name: None,
            local: self.accepted.local,
            remote: self.accepted.remote,
            original_destination: self.accepted.original_destination,
            sni: inspected.server_name.clone(),
            alpn: found_in_plaintext.map(|protocol| protocol.as_str().into()),
            tls: None,
        }
    }

    fn name(&self) -> &ListenerName {
        &self.listener.settings().name
    }
}

/// Who serves a connection that `own` accepted: `own`, or the listener of the original destination. Where that destination is
/// honoured it becomes the address the connection arrived at; elsewhere it is forgotten.
fn responsible(snapshot: &Snapshot, own: &Arc<Listener>, accepted: &mut Accepted) -> Arc<Listener> {
    let settings = own.settings();
    if !settings.use_original_dst && !settings.inspectors.original_dst {
        accepted.original_destination = None;
        return own.clone();
    }
    let Some(destination) = accepted.original_destination else {
        return own.clone();
    };
    accepted.local = destination;
    let other = snapshot.redirected(destination).filter(|_| settings.use_original_dst);
    other.unwrap_or(own).clone()
}
