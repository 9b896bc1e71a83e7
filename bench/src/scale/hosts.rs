//! `bench hosts`: control and gateway as processes, with thousands of hosts: memory, time to the first answer, time until a change
//! of one host is live, and what requests notice of changes that go on.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use hdrhistogram::Histogram;
use mesh::id::{SpiffeId, TrustDomain};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::site::{self, Ports};
use crate::{
    process::{self, Process},
    rival::{Kind, Rival},
    stage::{free_port, save},
    upstream::Upstream,
};

/// Measures control and gateway with many hosts
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of hosts
    #[arg(value_name = "NUMBER", default_values_t = [10, 1_000, 10_000])]
    hosts: Vec<usize>,
    /// Changes of one host, one after the other
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    changes: usize,
    /// Seconds of requests, without changes and with them
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
}

/// Changes in a second while requests are timed.
const RATE: u64 = 100;
/// Requests in a second that are timed.
const REQUESTS: u64 = 200;
/// Between two looks at whether a change is live.
const LOOK: Duration = Duration::from_millis(1);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Control and gateway over a directory.
struct Mesh {
    directory: tempfile::TempDir,
    hosts: usize,
    ports: Ports,
    gateway: Process,
    control: Process,
    /// From the start of control to the first answer.
    ready: Duration,
}

/// What was found.
struct Found {
    memory: (u64, u64),
    ready: Duration,
    live: Vec<Duration>,
    quiet: Histogram<u64>,
    busy: Histogram<u64>,
    made: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sallyport = Rival::find(Kind::Sallyport)?;
    process::pin_load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("  hosts | gateway KiB | control KiB | ready ms | live ms min, median | p99 µs quiet, changing | changes");
    for hosts in &args.hosts {
        let found = runtime.block_on(measure(sallyport.program(), *hosts, args))?;
        print(*hosts, &found);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(hosts: usize, found: &Found) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut live = found.live.clone();
    live.sort();
    let at = |at: usize| live.get(at).copied().map_or(f64::NAN, ms);
    println!(
        "{hosts:>7} | {:>11} | {:>11} | {:>8.0} | {:>9.1} {:>9.1} | {:>11} {:>10} | {}",
        found.memory.0 >> 10,
        found.memory.1 >> 10,
        ms(found.ready),
        at(0),
        at(live.len() / 2),
        found.quiet.value_at_quantile(0.99),
        found.busy.value_at_quantile(0.99),
        found.made,
    );
}

async fn measure(sallyport: &Path, hosts: usize, args: &Args) -> anyhow::Result<Found> {
    let upstream = Upstream::bind().await?;
    let ports = Ports {
        gateway: free_port()?,
        upstream: upstream.ports()?.plain,
    };
    let directory = tempfile::tempdir()?;
    let identity = identity(directory.path())?;
    let _upstream = upstream.serve(identity)?;
    let mut mesh = Mesh::start(sallyport, directory, hosts, ports).await?;
    let memory = (mesh.gateway.memory(), mesh.control.memory());
    let mut live = Vec::new();
    for revision in 1..=args.changes {
        live.push(mesh.change(hosts / 2, revision).await?);
    }
    let length = Duration::from_secs(args.seconds);
    let (quiet, _) = mesh.requests(length, false).await?;
    let (busy, made) = mesh.requests(length, true).await?;
    Ok(Found {
        memory,
        ready: mesh.ready,
        live,
        quiet,
        busy,
        made,
    })
}

/// The gateway's identity, which is the site's, too: nobody looks at it here.
fn identity(directory: &Path) -> anyhow::Result<std::sync::Arc<certs::Live<certs::Identity>>> {
    let (now, domain) = (std::time::SystemTime::now(), TrustDomain::parse("cluster.local")?);
    let authority = certs::CertificateAuthority::root(&certs::CaRequest::mesh(&domain), now)?;
    let id = SpiffeId::new(&domain, "istio-egress", "gateway")?;
    let identity = authority.issue(&certs::LeafRequest::svid(&id), now)?;
    save(&identity, &directory.join("identity"), authority.roots())?;
    Ok(std::sync::Arc::new(certs::Live::new(identity)))
}

impl Mesh {
    async fn start(sallyport: &Path, directory: tempfile::TempDir, hosts: usize, ports: Ports) -> anyhow::Result<Self> {
        let resources = directory.path().join("resources");
        std::fs::create_dir(&resources)?;
        site::write(&resources, hosts, ports)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut control = Command::new(sallyport);
        control.args(["control", "--plaintext", "--listen", &listen, "--config"]);
        control.arg(&resources);
        let mut gateway = Command::new(sallyport);
        gateway.args(["gateway", "--workers", "1", "--labels", "app=gateway", "--control"]);
        gateway.arg(format!("http://{listen}")).arg("--identity");
        gateway.arg(directory.path().join("identity"));
        let began = Instant::now();
        let mut mesh = Self {
            control: Process::start(control, &directory.path().join("control.log"))?,
            gateway: Process::start(gateway, &directory.path().join("gateway.log"))?,
            directory,
            hosts,
            ports,
            ready: Duration::ZERO,
        };
        mesh.until(hosts - 1, 0).await?;
        mesh.ready = began.elapsed();
        Ok(mesh)
    }

    fn resources(&self) -> PathBuf {
        self.directory.path().join("resources")
    }

    /// Changes a host and waits until requests for it notice.
    async fn change(&mut self, number: usize, revision: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        site::change(&self.resources(), number, self.hosts, revision, self.ports)?;
        self.until(number, revision).await?;
        Ok(began.elapsed())
    }

    async fn until(&mut self, number: usize, revision: usize) -> anyhow::Result<()> {
        let (began, wanted) = (Instant::now(), format!("x-revision: {revision}\r\n"));
        while began.elapsed() < PATIENCE {
            self.gateway.alive()?;
            self.control.alive()?;
            match request(self.ports.gateway, number).await {
                Ok(answer) if answer.contains(&wanted) => return Ok(()),
                Ok(_) | Err(_) => sleep(LOOK).await,
            }
        }
        bail!("revision {revision} of host {number} is not live in time")
    }

    /// Latencies of requests at a fixed rate, from when each was due; and how many changes were made meanwhile.
    async fn requests(&self, length: Duration, changing: bool) -> anyhow::Result<(Histogram<u64>, usize)> {
        let (mut histogram, began) = (Histogram::new_with_max(60_000_000, 3)?, Instant::now());
        let (mut made, mut asked) = (0, 0u32);
        while began.elapsed() < length {
            let due = began + Duration::from_secs(1) / u32::try_from(REQUESTS)? * asked;
            sleep(due.saturating_duration_since(Instant::now())).await;
            if changing && u64::from(asked) % (REQUESTS / RATE) == 0 {
                made += 1;
                site::change(
                    &self.resources(),
                    made % self.hosts,
                    self.hosts,
                    1000 + made,
                    self.ports,
                )?;
            }
            let answer = timeout(PATIENCE, request(self.ports.gateway, self.hosts / 3)).await??;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            histogram.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            asked += 1;
        }
        Ok((histogram, made))
    }
}

/// One request on a connection of its own; the head and whatever came with it.
async fn request(port: u16, number: usize) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        site::host(number)
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
