//! Clients: closed loops that do a scenario's work and count what was done right.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use certs::{ServerVerifier, Versions};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::Request;
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    scenario::{Load, Protocol},
    stage::{PLAIN, SECURE, Stage},
};

/// Connections of a load, and streams on each where there can be several.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 8;
/// Bytes read at a time.
const READ: usize = 64 << 10;

/// A load that goes on until it is dropped.
pub(crate) struct Running {
    tally: Arc<Tally>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What has been done.
#[derive(Default)]
struct Tally {
    units: AtomicU64,
    stop: AtomicBool,
    latencies: Mutex<Option<Histogram<u64>>>,
}

/// A loop's view of its stage.
#[derive(Clone)]
struct Client {
    mutual: SocketAddr,
    passthrough: SocketAddr,
    mesh: TlsConnector,
    tally: Arc<Tally>,
}

impl Running {
    /// Starts the clients of a load.
    pub(crate) fn start(load: Load, stage: &Stage) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally::default());
        let protocol = match load {
            Load::Requests { protocol, .. } => protocol,
            Load::Handshakes | Load::Tunnels => Protocol::Http1,
            Load::Downloads { .. } => Protocol::Http2,
        };
        let client = Client {
            mutual: stage.mutual(),
            passthrough: stage.passthrough(),
            mesh: TlsConnector::from(Arc::new(config(stage, protocol)?)),
            tally: Arc::clone(&tally),
        };
        let mut tasks = JoinSet::new();
        for _ in 0..loops(load) {
            tasks.spawn(work(load, client.clone()));
        }
        Ok(Self { tally, tasks })
    }

    /// Units done so far.
    pub(crate) fn units(&self) -> u64 {
        self.tally.units.load(Ordering::Relaxed)
    }

    /// Measures latencies from now on.
    pub(crate) fn measure(&self) -> anyhow::Result<()> {
        // Microseconds, up to a minute, to three digits.
        let histogram = Histogram::new_with_max(60_000_000, 3)?;
        *self.tally.latencies.lock().unwrap_or_else(PoisonError::into_inner) = Some(histogram);
        Ok(())
    }

    /// Ends the load. Fails if anything in it went wrong: a wrong answer is no unit of work.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Histogram<u64>> {
        self.tally.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        let latencies = self
            .tally
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        latencies.context("latencies were not measured")
    }

    /// Whether a client has given up, and why.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.and_then(|()| bail!("a client ended before its time")),
        }
    }
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn done(&self, units: u64, began: Instant) {
        self.units.fetch_add(units, Ordering::Relaxed);
        if let Some(latencies) = &mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner) {
            latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Loops that a load runs at once.
fn loops(load: Load) -> usize {
    match load {
        Load::Requests {
            protocol: Protocol::Http1,
            ..
        } => CONNECTIONS * STREAMS,
        Load::Requests { .. } | Load::Handshakes | Load::Tunnels => CONNECTIONS,
        Load::Downloads { .. } => 1,
    }
}

/// TLS as a sidecar speaks it. Whether the gateway is who it says is checked by the tests, not here, where the rivals' certificates are
/// of one mesh anyway.
fn config(stage: &Stage, protocol: Protocol) -> anyhow::Result<ClientConfig> {
    let verifier = ServerVerifier::insecure();
    let mut config = certs::client_config(Some(Arc::clone(&stage.caller)), Arc::new(verifier), Versions::ALL)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }];
    Ok(config)
}

async fn work(load: Load, client: Client) -> anyhow::Result<()> {
    match load {
        Load::Requests {
            protocol: Protocol::Http1,
            host,
            status,
        } => client.http1(host, status).await,
        Load::Requests { host, status, .. } => client.http2(host, status).await,
        Load::Handshakes => client.handshakes().await,
        Load::Tunnels => client.tunnels().await,
        Load::Downloads { host, bytes } => client.downloads(host, bytes).await,
    }
}

impl Client {
    async fn connect(&self, host: &'static str) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.mutual).await?;
        stream.set_nodelay(true)?;
        Ok(self.mesh.connect(ServerName::try_from(host)?, stream).await?)
    }

    async fn http1(&self, host: &'static str, status: u16) -> anyhow::Result<()> {
        let mut stream = self.connect(host).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\n\r\n");
        let mut read = Vec::with_capacity(READ);
        while self.tally.goes_on() {
            let began = Instant::now();
            stream.write_all(request.as_bytes()).await?;
            response(&mut stream, &mut read, status).await?;
            self.tally.done(1, began);
        }
        Ok(())
    }

    async fn http2(&self, host: &'static str, status: u16) -> anyhow::Result<()> {
        let (sender, mut connection) = self.sender(host).await?;
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            let (client, sender) = (self.clone(), sender.clone());
            streams.spawn(async move { client.stream(sender, host, status).await });
        }
        while let Some(ended) = streams.join_next().await {
            ended??;
        }
        connection.abort_all();
        Ok(())
    }

    /// An HTTP/2 connection, driven beside.
    async fn sender(&self, host: &'static str) -> anyhow::Result<(SendRequest<Bytes>, JoinSet<()>)> {
        let stream = self.connect(host).await?;
        let builder = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake(stream);
        let (sender, connection) = builder.await?;
        let mut driver = JoinSet::new();
        // What goes wrong with the connection goes wrong with its streams.
        driver.spawn(async move { drop(connection.await) });
        Ok((sender, driver))
    }

    async fn stream(&self, sender: SendRequest<Bytes>, host: &str, status: u16) -> anyhow::Result<()> {
        let uri = format!("https://{host}/");
        let mut sender = sender;
        while self.tally.goes_on() {
            let began = Instant::now();
            sender = sender.ready().await?;
            let request = Request::get(uri.as_str()).header("user-agent", "bench").body(())?;
            let (response, _) = sender.send_request(request, true)?;
            let (head, mut body) = response.await?.into_parts();
            ensure!(
                head.status.as_u16() == status,
                "{host} answers {}, not {status}",
                head.status
            );
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk?.len())?;
            }
            self.tally.done(1, began);
        }
        Ok(())
    }

    async fn handshakes(&self) -> anyhow::Result<()> {
        let request = format!("GET / HTTP/1.1\r\nhost: {PLAIN}\r\nuser-agent: bench\r\n\r\n");
        let mut read = Vec::with_capacity(READ);
        while self.tally.goes_on() {
            let began = Instant::now();
            let mut stream = self.connect(PLAIN).await?;
            stream.write_all(request.as_bytes()).await?;
            response(&mut stream, &mut read, 200).await?;
            self.tally.done(1, began);
        }
        Ok(())
    }

    /// Ends without crypto beyond the hello: the upstream's answer to it is all that is waited for.
    async fn tunnels(&self) -> anyhow::Result<()> {
        let hello = hello()?;
        let mut answer = [0; 4096];
        while self.tally.goes_on() {
            let began = Instant::now();
            let mut stream = TcpStream::connect(self.passthrough).await?;
            stream.write_all(&hello).await?;
            ensure!(stream.read(&mut answer).await? > 0, "a tunnel ends without an answer");
            drop(stream);
            self.tally.done(1, began);
        }
        Ok(())
    }

    /// A unit is a MiB.
    async fn downloads(&self, host: &'static str, bytes: usize) -> anyhow::Result<()> {
        let (mut sender, mut driver) = self.sender(host).await?;
        while self.tally.goes_on() {
            let began = Instant::now();
            sender = sender.ready().await?;
            let (response, _) = sender.send_request(Request::get(format!("https://{host}/{bytes}")).body(())?, true)?;
            let (head, mut body) = response.await?.into_parts();
            ensure!(head.status == 200, "{host} answers {}", head.status);
            let mut got = 0;
            while let Some(chunk) = body.data().await {
                let length = chunk?.len();
                body.flow_control().release_capacity(length)?;
                if (got + length) >> 20 > got >> 20 {
                    self.tally
                        .units
                        .fetch_add(u64::try_from(((got + length) >> 20) - (got >> 20))?, Ordering::Relaxed);
                }
                got += length;
            }
            ensure!(got == bytes, "{got} of {bytes} bytes arrive");
            self.tally.done(0, began);
        }
        driver.abort_all();
        Ok(())
    }
}

/// Reads one response with a length.
async fn response(stream: &mut TlsStream<TcpStream>, read: &mut Vec<u8>, status: u16) -> anyhow::Result<()> {
    read.clear();
    loop {
        if stream.read_buf(read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = str::from_utf8(&read[..end])?;
        ensure!(
            head.get(9..12) == Some(&status.to_string()),
            "the answer is {head:?}, not {status}"
        );
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.context("a response without a length")?.1.parse()?;
        while read.len() < end + 4 + length {
            ensure!(stream.read_buf(read).await? > 0, "a response is cut off");
        }
        return Ok(());
    }
}

/// A `ClientHello` for the passthrough host.
fn hello() -> anyhow::Result<Vec<u8>> {
    let config = certs::client_config(None, Arc::new(ServerVerifier::insecure()), Versions::ALL)?;
    let mut connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(SECURE)?)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}

/// How long a load may take to get going.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
