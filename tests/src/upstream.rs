//! Upstreams that do one thing to whoever connects, good or bad.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gateway::network::Network;
use sallyport::lab::network::Process;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What an upstream does with a connection once it has read a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Closes without a word.
    CloseSilently,
    /// Resets.
    ResetAfterRequest,
    /// Answers with bytes that are no HTTP.
    Garbage,
    /// Answers this, verbatim, and closes.
    SayAndClose(&'static str),
    /// Answers this, verbatim, and resets.
    SayAndReset(&'static str),
}

/// A running upstream; ends when dropped.
pub struct Upstream {
    connections: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Upstream {
    /// Starts an upstream on an address of the process's host.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(process: &Process, at: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = process.listen(at)?;
        let connections = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, script, connections.clone()));
        Ok(Self {
            connections,
            _server: server,
        })
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, script: Script, count: Arc<AtomicUsize>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::Relaxed);
        // What the peer does about it is what is being tested, not an error here.
        open.spawn(async move {
            let _ = act(stream, script).await;
        });
    }
}

async fn act(mut stream: TcpStream, script: Script) -> io::Result<()> {
    request(&mut stream).await?;
    match script {
        Script::ResetAfterRequest => reset(&stream),
        Script::CloseSilently => Ok(()),
        Script::Garbage => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await,
        Script::SayAndClose(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Script::SayAndReset(text) => {
            stream.write_all(text.as_bytes()).await?;
            reset(&stream)
        }
    }
}

/// Reads until the end of a request's head.
async fn request(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..length]);
    }
    Ok(())
}

/// Has the kernel send RST instead of FIN when the socket is closed.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
