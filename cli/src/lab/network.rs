//! A whole network inside one process: hosts with addresses of their own, a firewall, service addresses and capture, on top of
//! nothing but loopback sockets.
//!
//! Manifests, bootstraps and access logs then carry the addresses they carry in a cluster, and nothing needs root.
//!
//! How: a listener on a virtual address is a listener on an ephemeral loopback port. A dialler binds its own loopback port
//! *before* it connects and leaves a note under that port saying what both sides are to see; the accepting side picks it up.
//!
//! Invariants:
//! - only loopback sockets are opened, whatever address is dialled: an address that no host listens on is refused;
//! - a connection that no [`Process`] dialled is not part of the network and is refused by [`Process::accepted`];
//! - no table outgrows its bound: listeners by `MAX_LISTENERS`, notes by the number of ports there are.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gateway::network::{Accepted, BoxFuture, Dialled, Network};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use firewall::Firewall;

pub mod firewall;

/// Virtual addresses that may be listened on in one network.
const MAX_LISTENERS: usize = 1024;
/// Pending connections per listening socket.
const BACKLOG: i32 = 1024;
/// The port that captured connections are redirected to: Istio's `virtualOutbound`.
pub const CAPTURE_PORT: u16 = 15001;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct VirtualNetwork(Arc<Shared>);

/// The sockets of a process on one host of the network.
#[derive(Clone)]
pub struct Process {
    network: VirtualNetwork,
    host: IpAddr,
    capture: Capture,
}

/// Whether a process's connections are redirected to its host's sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    /// As an application's in a pod with a sidecar: everything but loopback goes to [`CAPTURE_PORT`].
    Redirected,
    /// As those of the proxy itself, of a gateway, or of a process that found a way around capture.
    Direct,
}

struct Shared {
    firewall: Firewall,
    /// Service addresses and what they stand for, as kube-proxy translates them.
    services: HashMap<SocketAddr, SocketAddr>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    listeners: HashMap<Place, Reservation>,
    /// By the dialling side's loopback port: connections that were dialled and not accepted yet.
    arriving: HashMap<u16, Arrival>,
}

/// An address on a host. Loopback addresses exist once per host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    host: IpAddr,
    at: SocketAddr,
}

/// A loopback port that stays ours while the network lives: bound, never listening. Without it a port whose listeners have all
/// been closed could be given to a stranger.
struct Reservation {
    real: SocketAddr,
    _socket: Socket,
}

#[derive(Clone, Copy)]
struct Arrival {
    real: SocketAddr,
    seen: Accepted,
}

/// Where a dialled address leads.
struct Path {
    real: SocketAddr,
    /// The dialling side's virtual address.
    source: IpAddr,
    local: SocketAddr,
    original_destination: Option<SocketAddr>,
}

impl VirtualNetwork {
    /// A network without listeners.
    pub fn new(firewall: Firewall, services: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Self {
        Self(Arc::new(Shared {
            firewall,
            services: services.into_iter().collect(),
            tables: Mutex::default(),
        }))
    }

    /// A process on a host whose connections go where it dials, the firewall permitting.
    pub fn process(&self, host: IpAddr) -> Process {
        Process {
            network: self.clone(),
            host,
            capture: Capture::Direct,
        }
    }

    /// The same as the data plane takes it.
    pub fn on(&self, host: IpAddr) -> Arc<dyn Network> {
        Arc::new(self.process(host))
    }

    /// An application on a host with a sidecar: its connections are redirected to the sidecar, as by iptables.
    pub fn app(&self, host: IpAddr) -> Process {
        Process {
            capture: Capture::Redirected,
            ..self.process(host)
        }
    }

    /// The firewall, for its counters.
    pub fn firewall(&self) -> &Firewall {
        &self.0.firewall
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// The host the process runs on.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// The loopback socket behind an address, and what both sides are told. Redirection comes first, then the translation of
    /// service addresses, then the firewall: the order in which a packet leaving a pod meets them.
    fn path(&self, to: SocketAddr) -> io::Result<Path> {
        if to.ip().is_loopback() {
            return self.path_to(self.host, to, LOOPBACK, None);
        }
        if self.capture == Capture::Redirected {
            let sidecar = SocketAddr::new(LOOPBACK, CAPTURE_PORT);
            return self.path_to(self.host, sidecar, self.host, Some(to));
        }
        let to = self.network.0.services.get(&to).copied().unwrap_or(to);
        self.network.firewall().check(self.host, to)?;
        self.path_to(to.ip(), to, self.host, None)
    }

    fn path_to(
        &self,
        host: IpAddr,
        at: SocketAddr,
        source: IpAddr,
        original_destination: Option<SocketAddr>,
    ) -> io::Result<Path> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
        let tables = self.network.tables();
        let found = [at, any]
            .into_iter()
            .find_map(|at| tables.listeners.get(&Place { host, at }));
        let reservation = found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("connection refused: nothing listens on {at} of host {host}"),
            )
        })?;
        Ok(Path {
            real: reservation.real,
            source,
            local: at,
            original_destination,
        })
    }

    /// Whether this host can have the address.
    fn owns(&self, address: IpAddr) -> bool {
        address == self.host || address.is_loopback() || address == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

impl Network for Process {
    fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        if !self.owns(at.ip()) {
            let message = format!("{at} is not an address of host {}", self.host);
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
        let place = |at| Place { host: self.host, at };
        let mut tables = self.network.tables();
        if let Some(reservation) = tables.listeners.get(&place(at)) {
            return listen_on(reservation.real);
        }
        if tables.listeners.len() >= MAX_LISTENERS {
            let message = format!("the network has {MAX_LISTENERS} listeners, which is its limit");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        let reservation = Reservation::new()?;
        let listener = listen_on(reservation.real)?;
        let port = if at.port() == 0 {
            reservation.real.port()
        } else {
            at.port()
        };
        tables
            .listeners
            .insert(place(SocketAddr::new(at.ip(), port)), reservation);
        Ok(listener)
    }

    fn accepted(&self, stream: &TcpStream) -> io::Result<Accepted> {
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let arrival = self.network.tables().arriving.remove(&peer.port());
        match arrival {
            Some(arrival) if arrival.real == local => Ok(arrival.seen),
            _ => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{peer} is not a host of this network"),
            )),
        }
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Dialled>> {
        Box::pin(async move {
            let path = self.path(to)?;
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(LOOPBACK, 0))?;
            let port = socket.local_addr()?.port();
            let announced = Announced::new(&self.network, port, &path);
            let stream = socket.connect(path.real).await?;
            announced.keep();
            stream.set_nodelay(true)?;
            let local = SocketAddr::new(path.source, port);
            Ok(Dialled { stream, local })
        })
    }
}

/// A note for the accepting side; withdrawn unless the connection was made.
struct Announced<'a> {
    network: &'a VirtualNetwork,
    port: Option<u16>,
}

impl<'a> Announced<'a> {
    fn new(network: &'a VirtualNetwork, port: u16, path: &Path) -> Self {
        let seen = Accepted {
            local: path.local,
            remote: SocketAddr::new(path.source, port),
            original_destination: path.original_destination,
        };
        network
            .tables()
            .arriving
            .insert(port, Arrival { real: path.real, seen });
        Self {
            network,
            port: Some(port),
        }
    }

    fn keep(mut self) {
        self.port = None;
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            self.network.tables().arriving.remove(&port);
        }
    }
}

impl Reservation {
    fn new() -> io::Result<Self> {
        let socket = bound(SocketAddr::new(LOOPBACK, 0))?;
        let real = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket has no IP address"))?;
        Ok(Self { real, _socket: socket })
    }
}

fn listen_on(real: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(real)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bound(real: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&real.into())?;
    Ok(socket)
}

impl fmt::Debug for VirtualNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.tables().listeners.len();
        f.debug_struct("VirtualNetwork")
            .field("listeners", &places)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({}, {:?})", self.host, self.capture)
    }
}

#[cfg(test)]
mod tests;
