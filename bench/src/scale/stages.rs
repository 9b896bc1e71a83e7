//! `bench stages`: how long a change takes at each station from a file to the snapshot, in one process without sockets between.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use control::{applied::Applied, compile, istio, mesh_config::MeshConfig, node, world::World};
use gateway::{Gateway, Settings};
use mesh::{
    bundle::Bundle,
    xds::ads::{
        Encoding, ResourceSet,
        client::{Client, Delta, Offer, Received, Wants},
        server::{DeltaServer, Server as _},
    },
};

use super::site::{self, Ports};

/// Times each station from files to the gateway's snapshot
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hosts
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    hosts: usize,
    /// Changes of one host after the first load; the fastest of each station counts
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    changes: usize,
}

/// Everything between the files and the data plane, kept from change to change as the real parts keep it.
struct Line {
    directory: tempfile::TempDir,
    reader: istio::Reader,
    applied: Applied,
    encoding: Encoding,
    server: DeltaServer,
    client: Client<Delta>,
    handle: gateway::Handle,
}

/// Stations and how long each took.
type Times = Vec<(&'static str, Duration)>;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ports = Ports {
            gateway: crate::stage::free_port()?,
            upstream: 9,
        };
        let directory = tempfile::tempdir()?;
        site::write(directory.path(), args.hosts, ports)?;
        let mut line = Line::new(directory).await?;
        let first = line.pass().await?;
        let mut fastest = Times::new();
        for revision in 1..=args.changes.max(1) {
            site::change(line.directory.path(), args.hosts / 2, args.hosts, revision, ports)?;
            fastest = faster(fastest, line.pass().await?);
        }
        print(args.hosts, &first, &fastest);
        line.handle.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn faster(known: Times, new: Times) -> Times {
    if known.is_empty() {
        return new;
    }
    let pairs = known.into_iter().zip(new);
    pairs.map(|((name, a), (_, b))| (name, a.min(b))).collect()
}

fn print(hosts: usize, first: &Times, changed: &Times) {
    println!("{hosts} hosts, ms            first  one changed");
    for ((name, first), (_, changed)) in first.iter().zip(changed) {
        println!(
            "{name:<24}{:>8.1} {:>10.2}",
            first.as_secs_f64() * 1e3,
            changed.as_secs_f64() * 1e3
        );
    }
    let sum = |times: &Times| times.iter().map(|(_, took)| took.as_secs_f64() * 1e3).sum::<f64>();
    println!("{:<24}{:>8.1} {:>10.2}", "sum", sum(first), sum(changed));
}

impl Line {
    async fn new(directory: tempfile::TempDir) -> anyhow::Result<Self> {
        let settings = Settings {
            workers: std::num::NonZeroUsize::MIN,
            ..Settings::default()
        };
        let mut client = Client::new(Wants::default());
        let mut server = DeltaServer::default();
        for request in client.connect() {
            server.receive(request)?;
        }
        Ok(Self {
            directory,
            reader: istio::Reader::default(),
            applied: Applied::default(),
            encoding: Encoding::default(),
            server,
            client,
            handle: Gateway::start(settings).await?,
        })
    }

    /// Takes what the files say now to the data plane.
    async fn pass(&mut self) -> anyhow::Result<Times> {
        let mut times = Times::new();
        let root = MeshConfig::default().root_namespace;
        let loaded = timed(&mut times, "read files", || self.reader.load(self.directory.path()));
        self.applied = timed(&mut times, "check", || self.applied.advance(loaded, &root));
        ensure!(self.applied.withheld.is_empty(), "{:?}", self.applied.diagnostics);
        let world = timed(&mut times, "index", || World::new(&self.applied.objects));
        let bundle = timed(&mut times, "compile", || compiled(&world));
        self.encoding = timed(&mut times, "encode", || self.encoding.followed_by(bundle));
        let set = Arc::clone(self.encoding.set());
        self.deliver(&set, &mut times).await?;
        Ok(times)
    }

    /// Speaks ADS until both sides agree.
    async fn deliver(&mut self, set: &ResourceSet, times: &mut Times) -> anyhow::Result<()> {
        let (mut serving, mut decoding, mut publishing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        loop {
            let began = Instant::now();
            let response = self.server.next(set);
            serving += began.elapsed();
            let Some(response) = response else { break };
            let began = Instant::now();
            let received = self.client.receive(response)?;
            let Received::Offer(offer) = received else {
                bail!("a type that was not asked for");
            };
            let news = self.client.is_news(&offer);
            decoding += began.elapsed();
            let began = Instant::now();
            if news {
                apply(&self.handle, &offer).await?;
            }
            publishing += began.elapsed();
            let began = Instant::now();
            let answers = self.client.conclude(*offer);
            decoding += began.elapsed();
            let began = Instant::now();
            for answer in answers {
                self.server.receive(answer)?;
            }
            serving += began.elapsed();
        }
        let _status = timed(times, "status", || self.server.status(set));
        times.extend([
            ("serve (delta ADS)", serving),
            ("decode", decoding),
            ("publish", publishing),
        ]);
        Ok(())
    }
}

async fn apply(handle: &gateway::Handle, offer: &Offer) -> anyhow::Result<()> {
    let applied = handle.apply(Bundle::clone(offer.bundle())).await;
    applied.map_err(|rejected| anyhow::anyhow!("the gateway refuses {rejected:?}"))
}

fn compiled(world: &World) -> Bundle {
    let node = node::Node {
        role: node::Role::Gateway,
        namespace: "istio-egress".to_owned(),
        service_account: "gateway".to_owned(),
        labels: [("app".to_owned(), "gateway".to_owned())].into(),
        ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        interception: node::Interception::default(),
        http_proxy_port: None,
    };
    compile::compile(world, &MeshConfig::default(), &node).0
}

fn timed<T>(times: &mut Times, station: &'static str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    times.push((station, began.elapsed()));
    done
}
