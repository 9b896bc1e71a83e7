//! One tenant asks now and then, another floods: what the first one sees of it.
//!
//! The flood comes from a thread of its own at the lowest priority, so that a wait is the proxy's and not the load generator's.

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    bout::{Bout, Found},
    load::{self, Clients, Load, Protocol, Tally},
    metric::Metric,
    report::count,
    stage::PLAIN,
};

/// What the tenant who does not flood does.
const POLITE: Load = Load::Paced {
    protocol: Protocol::Http2,
    host: PLAIN,
    rate: 100,
};

/// Measures the polite tenant's latency under the flood, and the flood's rate.
pub(crate) async fn measure(bout: &Bout<'_>, flood: Load) -> anyhow::Result<Found> {
    let (mut proxy, _) = bout.proxy().await?;
    let stage = bout.stage;
    let mut polite = Clients::new(POLITE, stage, &stage.caller)?.start();
    load::going(&mut polite, &mut proxy).await?;
    let flood = Flood::start(Clients::new(flood, stage, &stage.flooder)?)?;
    sleep(bout.length / 4).await;
    polite.measure()?;
    let (units, began) = (flood.tally.units(), Instant::now());
    sleep(bout.length).await;
    let rate = count(flood.tally.units() - units) / began.elapsed().as_secs_f64();
    polite.check()?;
    let latencies = polite.stop().await?;
    flood.stop().await?;
    ensure!(
        rate > 0.0,
        "the flood does not get through at all: nothing was measured"
    );
    let mut found = vec![(Metric::Rate, rate)];
    found.extend(load::quantiles(&latencies));
    Ok(found)
}

/// Clients in a thread of their own.
struct Flood {
    tally: Arc<Tally>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Flood {
    fn start(clients: Clients) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tally = clients.tally();
        let thread = std::thread::spawn(move || {
            yield_to_others()?;
            runtime.block_on(async { clients.start().ended().await })
        });
        Ok(Self { tally, thread })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.tally.stop();
        // The last requests need the upstream, which is on this thread.
        let ended = spawn_blocking(|| self.thread.join()).await?;
        ended.ok().context("the flood's thread panicked")?
    }
}

/// Gives the calling thread the lowest priority.
fn yield_to_others() -> anyhow::Result<()> {
    // The link is <process>/task/<thread>, as proc(5) has it.
    let own = fs::read_link("/proc/thread-self")?;
    let thread = own.file_name().context("/proc/thread-self names no thread")?;
    let mut command = Command::new("renice");
    let command = command.args(["-n", "19", "-p"]).arg(thread).stdout(Stdio::null());
    let status = command
        .status()
        .context("renice, of util-linux, holds the flood back")?;
    ensure!(status.success(), "the flood's priority cannot be lowered");
    Ok(())
}
