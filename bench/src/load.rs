//! Clients: loops that do a scenario's work and count what was done right. A kind of load is a file.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, bail};
use certs::{Identity, Live, ServerVerifier, Versions};
use hdrhistogram::Histogram;
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    bout::{Bout, Found, LOOK, PATIENCE},
    metric::Metric,
    process::Process,
    report::count,
    stage::Stage,
};

use http2::STREAMS;
use pace::Pace;

mod bulk;
mod handshake;
mod http1;
mod http2;
mod pace;
mod tunnel;

/// Connections of a load.
const CONNECTIONS: usize = 4;
/// Connections where each carries one request at a time.
const MANY_CONNECTIONS: usize = 32;

/// What clients do, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Requests on connections that stay.
    Requests {
        protocol: Protocol,
        host: &'static str,
        /// The answer that makes it right.
        status: u16,
    },
    /// The same at a fixed rate for all connections together, whatever the proxy does.
    Paced {
        protocol: Protocol,
        host: &'static str,
        /// Requests a second.
        rate: u32,
    },
    /// A connection with a full handshake and one request.
    Handshakes,
    /// Handshakes that are begun, and given up when the proxy has answered: what a flood is made of.
    Hellos,
    /// A TCP connection through the passthrough listener, with one exchange of bytes behind a `ClientHello`.
    Tunnels,
    /// Bodies of so many bytes from the upstream.
    Downloads {
        protocol: Protocol,
        host: &'static str,
        bytes: usize,
    },
    /// Bodies of so many bytes to the upstream.
    Uploads { host: &'static str, bytes: usize },
    /// A stream without end through the passthrough listener, whose ends touch none of it.
    Endless,
    /// Bodies of so many bytes through the passthrough listener, inside the ends' TLS.
    SecureTunnel { bytes: usize },
}

/// What clients speak inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Load {
    fn protocol(self) -> Protocol {
        match self {
            Self::Requests { protocol, .. } | Self::Paced { protocol, .. } | Self::Downloads { protocol, .. } => {
                protocol
            }
            Self::Handshakes | Self::Hellos | Self::Tunnels | Self::Endless | Self::SecureTunnel { .. } => {
                Protocol::Http1
            }
            Self::Uploads { .. } => Protocol::Http2,
        }
    }

    /// Loops that run at once.
    fn loops(self) -> usize {
        match self {
            Self::Requests {
                protocol: Protocol::Http1,
                ..
            }
            | Self::Paced {
                protocol: Protocol::Http1,
                ..
            }
            | Self::Hellos => MANY_CONNECTIONS,
            Self::Requests { .. } | Self::Paced { .. } | Self::Handshakes | Self::Tunnels => CONNECTIONS,
            Self::Downloads { .. } | Self::Uploads { .. } | Self::Endless | Self::SecureTunnel { .. } => 1,
        }
    }
}

/// Measures a load through one proxy: what a unit costs it, and how long the clients wait.
pub(crate) async fn measure(bout: &Bout<'_>, load: Load) -> anyhow::Result<Found> {
    let (mut proxy, listening) = bout.proxy().await?;
    let mut running = Clients::new(load, bout.stage, &bout.stage.caller)?.start();
    going(&mut running, &mut proxy).await?;
    // Connections are made, pools are filled, branch predictors know the way.
    sleep(bout.length / 4).await;
    running.measure()?;
    let (units, cpu, began) = (running.units(), proxy.cpu()?, Instant::now());
    sleep(bout.length).await;
    let (units, cpu, took) = (count(running.units() - units), proxy.cpu()? - cpu, began.elapsed());
    running.check()?;
    let memory = proxy.memory();
    let latencies = running.stop().await?;
    let mut found = vec![
        (Metric::Cpu, cpu.as_secs_f64() * 1e6 / units),
        (Metric::Rate, units / took.as_secs_f64()),
        (Metric::Memory, count(memory / 1024)),
        (Metric::Listening, listening.as_secs_f64() * 1e3),
    ];
    found.extend(quantiles(&latencies));
    Ok(found)
}

/// How long clients waited.
pub(crate) fn quantiles(latencies: &Histogram<u64>) -> [(Metric, f64); 4] {
    let wanted = [
        (Metric::P50, 0.5),
        (Metric::P90, 0.9),
        (Metric::P99, 0.99),
        (Metric::P999, 0.999),
    ];
    wanted.map(|(metric, quantile)| (metric, count(latencies.value_at_quantile(quantile))))
}

/// Waits until something gets through.
pub(crate) async fn going(load: &mut Running, proxy: &mut Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while load.units() == 0 {
        load.check()?;
        proxy.alive()?;
        if Instant::now() > deadline {
            bail!("nothing gets through in time");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// A load's clients, not started.
pub(crate) struct Clients {
    load: Load,
    client: Client,
}

/// A load that goes on until it is dropped.
pub(crate) struct Running {
    tally: Arc<Tally>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What has been done.
#[derive(Default)]
pub(crate) struct Tally {
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

impl Clients {
    /// Clients who show `identity`.
    pub(crate) fn new(load: Load, stage: &Stage, identity: &Arc<Live<Identity>>) -> anyhow::Result<Self> {
        let client = Client {
            mutual: stage.mutual(),
            passthrough: stage.passthrough(),
            mesh: TlsConnector::from(Arc::new(config(identity, load.protocol())?)),
            tally: Arc::default(),
        };
        Ok(Self { load, client })
    }

    /// What they will have done.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.client.tally)
    }

    /// Starts them on the current runtime.
    pub(crate) fn start(self) -> Running {
        let mut tasks = JoinSet::new();
        for index in 0..self.load.loops() {
            tasks.spawn(work(self.load, self.client.clone(), index));
        }
        Running {
            tally: self.client.tally,
            tasks,
        }
    }
}

impl Running {
    /// Units done so far.
    pub(crate) fn units(&self) -> u64 {
        self.tally.units()
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
        self.tally.stop();
        timeout(PATIENCE, self.ended())
            .await
            .context("clients do not end in time")??;
        let latencies = self
            .tally
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        latencies.context("latencies were not measured")
    }

    /// Waits until all clients have ended.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        Ok(())
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
    /// Units done so far.
    pub(crate) fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Has the clients end after the unit they are at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Units done, and how long they took.
    fn done(&self, units: u64, began: Instant) {
        self.count(units);
        self.took(began);
    }

    fn count(&self, units: u64) {
        self.units.fetch_add(units, Ordering::Relaxed);
    }

    fn took(&self, began: Instant) {
        if let Some(latencies) = &mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner) {
            latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// TLS as a sidecar speaks it. Whether the gateway is who it says is checked by the tests, not here, where the rivals' certificates are
/// of one mesh anyway.
fn config(identity: &Arc<Live<Identity>>, protocol: Protocol) -> anyhow::Result<ClientConfig> {
    let verifier = ServerVerifier::insecure();
    let mut config = certs::client_config(Some(Arc::clone(identity)), Arc::new(verifier), Versions::ALL)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }];
    Ok(config)
}

async fn work(load: Load, client: Client, index: usize) -> anyhow::Result<()> {
    match load {
        Load::Requests {
            protocol: Protocol::Http1,
            host,
            status,
        } => client.http1(host, status, Pace::Closed).await,
        Load::Requests { host, status, .. } => client.http2(host, status, [Pace::Closed; STREAMS]).await,
        Load::Paced { protocol, host, rate } => client.paced(protocol, host, rate, index).await,
        Load::Handshakes => client.handshakes().await,
        Load::Hellos => client.hellos().await,
        Load::Tunnels => client.tunnels().await,
        Load::Downloads {
            protocol: Protocol::Http1,
            host,
            bytes,
        } => client.downloads_http1(host, bytes).await,
        Load::Downloads { host, bytes, .. } => client.downloads(host, bytes).await,
        Load::Uploads { host, bytes } => client.uploads(host, bytes).await,
        Load::Endless => client.endless().await,
        Load::SecureTunnel { bytes } => client.secure_tunnel(bytes).await,
    }
}

impl Client {
    async fn connect(&self, host: &'static str) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.mutual).await?;
        stream.set_nodelay(true)?;
        Ok(self.mesh.connect(ServerName::try_from(host)?, stream).await?)
    }

    /// One connection's share of requests at a fixed rate.
    async fn paced(&self, protocol: Protocol, host: &'static str, rate: u32, index: usize) -> anyhow::Result<()> {
        match protocol {
            Protocol::Http1 => {
                let pace = Pace::shared(rate, index, MANY_CONNECTIONS)?;
                self.http1(host, 200, pace).await
            }
            Protocol::Http2 => {
                let mut paces = [Pace::Closed; STREAMS];
                for (stream, pace) in paces.iter_mut().enumerate() {
                    *pace = Pace::shared(rate, index + stream * CONNECTIONS, STREAMS * CONNECTIONS)?;
                }
                self.http2(host, 200, paces).await
            }
        }
    }
}
