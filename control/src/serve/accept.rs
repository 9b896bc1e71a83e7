//! Connections and who is at their other end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use certs::{ClientVerifier, Versions, server_config, tls_error, tls_failure_reason};
use mesh::id::SpiffeId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{Security, ServeError};

/// Turns sockets into connections that know their peer.
pub(super) struct Acceptor {
    tls: Option<Tls>,
    room: Arc<Semaphore>,
}

#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    verifier: Arc<ClientVerifier>,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Whoever can reach our loopback address.
    Local,
    /// A member of the mesh, until its certificate expires.
    Member(SpiffeId, SystemTime),
}

/// An accepted connection.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    _room: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections at a time, including those in their handshake.
const MAX_CONNECTIONS: usize = 8192;
/// Bound on a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused to accept, which it does when it runs out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Acceptor {
    pub(super) fn new(address: SocketAddr, security: Security) -> Result<Self, ServeError> {
        let tls = match security {
            Security::PlaintextOnLoopback if address.ip().is_loopback() => None,
            Security::PlaintextOnLoopback => return Err(ServeError::Plaintext(address)),
            Security::MutualTls(workload) => {
                let verifier = Arc::new(ClientVerifier::new(workload.trust, Vec::new()));
                let config = server_config(workload.identity, Some(Arc::clone(&verifier)), Versions::ALL);
                let mut config = config.map_err(|error| ServeError::Tls(error.to_string()))?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                let acceptor = TlsAcceptor::from(Arc::new(config));
                Some(Tls { acceptor, verifier })
            }
        };
        Ok(Self {
            tls,
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Accepts until `closed` resolves or nobody serves any more.
    pub(super) async fn run(
        self,
        listener: TcpListener,
        connections: mpsc::Sender<io::Result<Connection>>,
        closed: impl Future<Output = ()>,
    ) {
        tokio::select! {
            () = self.accept(listener, connections) => {}
            () = closed => {}
        }
    }

    async fn accept(&self, listener: TcpListener, connections: mpsc::Sender<io::Result<Connection>>) {
        while !connections.is_closed() {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let (tls, connections) = (self.tls.clone(), connections.clone());
                    // Bounded in number by `room` and in time by the handshake's deadline.
                    tokio::spawn(async move {
                        match timeout(HANDSHAKE, open(stream, tls, room)).await {
                            // A server that is gone takes nothing.
                            Ok(Ok(connection)) => drop(connections.send(Ok(connection)).await),
                            Ok(Err(reason)) => tracing::debug!(%from, reason, "refused a connection"),
                            Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn open(stream: TcpStream, tls: Option<Tls>, room: OwnedSemaphorePermit) -> Result<Connection, String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (io, peer) = match tls {
        None => (Io::Plain(stream), Peer::Local),
        Some(tls) => tls.handshake(stream).await?,
    };
    Ok(Connection { io, peer, _room: room })
}

impl Tls {
    async fn handshake(&self, stream: TcpStream) -> Result<(Io, Peer), String> {
        let stream = self.acceptor.accept(stream).await.map_err(|error| explain(&error))?;
        let peer = self.verifier.peer(stream.get_ref().1, SystemTime::now());
        let peer = peer.map_err(|error| tls_failure_reason(&error))?;
        let member = peer.and_then(|peer| Some(Peer::Member(peer.id?, peer.certificate.not_after)));
        let member = member.ok_or("the client is no member of the mesh")?;
        Ok((Io::Tls(Box::new(stream)), member))
    }
}

/// A failed handshake in words for an operator.
fn explain(error: &io::Error) -> String {
    tls_error(error).map_or_else(|| error.to_string(), tls_failure_reason)
}

impl Peer {
    pub(super) fn identity(&self) -> Option<&SpiffeId> {
        match self {
            Self::Local => None,
            Self::Member(id, _) => Some(id),
        }
    }

    /// Resolves when it is no longer who it was.
    pub(super) async fn lifetime(self) {
        match self {
            Self::Local => std::future::pending().await,
            Self::Member(_, until) => sleep(until.duration_since(SystemTime::now()).unwrap_or_default()).await,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
