//! The seam between the data plane and the sockets of the machine it runs on.
//!
//! Production uses [`Kernel`]. The demo and the tests put a whole virtual network on loopback behind the same trait, so that
//! manifests with real ports and addresses run unmodified without root. Nothing else in the data plane opens a socket.
//!
//! Does not decide anything: which address may be dialled is the caller's business.

use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A boxed future, as an object-safe trait needs it: one allocation per new connection, none per request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sockets as the data plane uses them.
pub trait Network: Send + Sync + 'static {
    /// Binds a listening socket. Called once per worker for the same address, which the workers then share.
    ///
    /// # Errors
    /// Whatever the operating system says: in use, not permitted, not available.
    fn listen(&self, at: SocketAddr) -> io::Result<TcpListener>;

    /// The addresses of a connection that was accepted from a socket of [`Self::listen`].
    ///
    /// # Errors
    /// The peer may be gone already.
    fn accepted(&self, stream: &TcpStream) -> io::Result<Accepted>;

    /// Connects to an address. The caller sets the deadline.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Dialled>>;
}

/// Both ends of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Our address: `%DOWNSTREAM_LOCAL_ADDRESS%` unless the connection was redirected to us.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Where the peer wanted to go, if the kernel redirected the connection to us.
    pub original_destination: Option<SocketAddr>,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialled {
    /// The connected stream.
    pub stream: TcpStream,
    /// Our address on it: `%UPSTREAM_LOCAL_ADDRESS%`.
    pub local: SocketAddr,
}

/// The operating system's sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

/// Pending connections the kernel queues per listening socket.
const BACKLOG: i32 = 1024;
/// Probes a silent connection after this time, so that a vanished peer does not hold a connection for ever.
const KEEPALIVE: Duration = Duration::from_secs(300);

impl Network for Kernel {
    fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets have the options of the one that listens.
        configure(&SockRef::from(&socket))?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    fn accepted(&self, stream: &TcpStream) -> io::Result<Accepted> {
        let local = stream.local_addr()?;
        Ok(Accepted {
            local,
            remote: stream.peer_addr()?,
            original_destination: original_destination(stream, local),
        })
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Dialled>> {
        Box::pin(async move {
            let socket = if to.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            let stream = socket.connect(to).await?;
            configure(&SockRef::from(&stream))?;
            let local = stream.local_addr()?;
            Ok(Dialled { stream, local })
        })
    }
}

fn configure(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Reads `SO_ORIGINAL_DST`. Absent means "not redirected"; a connection that was made to us directly has none, or its own.
fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address.ok()?.as_socket()
}
