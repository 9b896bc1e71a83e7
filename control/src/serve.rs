//! The ADS server: every proxy its own configuration, in either protocol, for as long as it is connected.
//!
//! Invariants: a proxy gets only what its authenticated identity may have; a slow or hostile proxy costs a bounded amount of
//! memory and delays nobody; changes that a proxy has no time for are sent as one. Plaintext is served on loopback only.

mod accept;
mod compiler;
mod progress;
mod service;
mod stream;

pub use compiler::{Generation, Source};
pub use progress::{NotAcknowledged, Proxy};

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use certs::Workload;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;

use self::{accept::Acceptor, compiler::Compiler, progress::Proxies, service::Service};

/// How proxies are told apart.
#[derive(Debug, Clone)]
pub enum Security {
    /// By their mesh certificates; we show ours.
    MutualTls(Workload),
    /// Not at all. Only on a loopback address.
    PlaintextOnLoopback,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Plaintext was asked for where others could reach it.
    #[error(
        "plaintext is served on loopback only, not on {0}; give an identity for mutual TLS, or listen on 127.0.0.1"
    )]
    Plaintext(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The identity cannot be used for TLS.
    #[error("cannot serve TLS: {0}")]
    Tls(String),
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    proxies: Proxies,
    generations: watch::Receiver<Generation>,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    serving: JoinHandle<()>,
}

/// Time between signs of life on a quiet connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time to answer one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams on one connection; a proxy needs one, and another while it replaces it.
const STREAMS_PER_CONNECTION: u32 = 4;
/// Accepted connections that wait to be served.
const BACKLOG: usize = 64;

impl Server {
    /// Listens on `address` and serves each generation as it comes.
    ///
    /// # Errors
    /// See [`ServeError`]; nothing runs then.
    pub async fn start(
        address: SocketAddr,
        security: Security,
        generations: watch::Receiver<Generation>,
    ) -> Result<Self, ServeError> {
        let acceptor = Acceptor::new(address, security)?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| ServeError::Listen(address, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| ServeError::Listen(address, error))?;
        let (closing, closed) = watch::channel(false);
        let (connections, accepted) = mpsc::channel(BACKLOG);
        let proxies = Proxies::default();
        let compiler = Arc::new(Compiler::new(generations.clone()));
        let service = Service::new(compiler, proxies.clone(), closed.clone());
        let end = wait_for(closed.clone());
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(service.into_grpc())
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), end);
        Ok(Self {
            address,
            proxies,
            generations,
            closing,
            accepting: tokio::spawn(acceptor.run(listener, connections, wait_for(closed))),
            serving: tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the configuration server ended");
                }
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is connected, and where they stand.
    pub fn proxies(&self) -> Vec<Proxy> {
        self.proxies.snapshot()
    }

    /// Waits until every connected proxy runs the generation that is current now.
    ///
    /// # Errors
    /// A proxy refused a part of it, which one and why.
    pub async fn acknowledged(&self) -> Result<(), NotAcknowledged> {
        self.proxies.acknowledged(self.generation(), None).await
    }

    /// Waits until the proxy with this node id is connected and runs the generation that is current now.
    ///
    /// # Errors
    /// It refused a part of it.
    pub async fn acknowledged_by(&self, node: &str) -> Result<(), NotAcknowledged> {
        self.proxies.acknowledged(self.generation(), Some(node)).await
    }

    /// Ends streams and connections in order.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        // A task that panicked has ended too.
        let _ = (&mut self.accepting).await;
        let _ = (&mut self.serving).await;
    }

    fn generation(&self) -> u64 {
        self.generations.borrow().number
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.accepting.abort();
        self.serving.abort();
    }
}

/// Resolves when the flag is set or its owner is gone.
async fn wait_for(mut closed: watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}
