//! Hands a workload's identity to the proxy beside it, as Istio's agent does: the secret discovery service on a Unix socket.
//!
//! Served are `default`, the workload's chain and key; `ROOTCA`, the roots of its trust domain; `file-root:system`, the
//! operating system's roots. What is renewed is pushed; a proxy uses it for new connections.
//!
//! Invariants: whoever may open the socket gets the key, so that the socket's owner and mode are the access control and it is
//! never reachable with a wider one, not even while it is made; a file that is no socket is never replaced, nor a socket
//! that somebody serves; connections, streams and messages are bounded.
//!
//! Source: `envoy.service.secret.v3`; names and socket path as in Istio's `security/pkg/nodeagent`.

mod secrets;
mod service;
mod socket;
mod stream;

pub use socket::{Access, SocketError};

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;

use self::{secrets::Secrets, service::Service, socket::SocketFile};
use crate::{Live, Trust, Workload};

/// Where Istio's agent has its socket, below the proxy's working directory.
pub const DEFAULT_SOCKET: &str = "./var/run/secrets/workload-spiffe-uds/socket";

/// What is served, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket's path; directories above it are made if need be.
    pub socket: PathBuf,
    /// Who may connect.
    pub access: Access,
    /// Whose identity and trust.
    pub workload: Workload,
    /// The roots that stand behind `file-root:system`. `None`: that name is not served.
    pub system_roots: Option<Arc<Live<Trust>>>,
}

/// A running server. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub struct Server {
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    socket: SocketFile,
}

/// Time between signs of life on a quiet connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time to answer one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams on one connection. Envoy opens one for each secret it knows by name.
const STREAMS_PER_CONNECTION: u32 = 128;
/// Accepted connections that wait to be served.
const BACKLOG: usize = 8;

impl Server {
    /// Makes the socket and serves.
    ///
    /// # Errors
    /// The socket cannot be had; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Self, SocketError> {
        let (listener, socket) = socket::bind(&settings.socket, settings.access).await?;
        let (closing, closed) = watch::channel(false);
        let (connections, accepted) = mpsc::channel(BACKLOG);
        let (secrets, sets) = Secrets::new(settings.workload, settings.system_roots);
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(Service::new(sets, closed.clone()).into_grpc())
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), wait_for(closed.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(secrets.follow());
        tasks.spawn(async move {
            tokio::select! {
                () = socket::accept(listener, connections) => {}
                () = wait_for(closed) => {}
            }
        });
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the secret discovery service ended");
            }
        });
        Ok(Self { closing, tasks, socket })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Ends streams and connections in order, and removes the socket.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        // The one that follows the workload would never end by itself; the two others do.
        for _ in 0..2 {
            let _ = self.tasks.join_next().await;
        }
    }
}

/// Resolves when the flag is set or its owner is gone.
async fn wait_for(mut closed: watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}

/// An error of the file system with the path it is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |cause| SocketError::Io { path, cause }
}
