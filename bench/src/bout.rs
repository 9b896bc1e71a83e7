//! One measurement of one proxy: what it is given, and what every kind of run needs.

use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::{net::TcpStream, time::sleep};

use crate::{
    flood, load,
    metric::Metric,
    process::Process,
    rival::Rival,
    scenario::{Run, Scenario},
    stage::Stage,
};

/// How long anything may take to get going.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what no event tells.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// What a measurement found.
pub(crate) type Found = Vec<(Metric, f64)>;

/// One measurement of one proxy.
pub(crate) struct Bout<'a> {
    pub(crate) scenario: &'static Scenario,
    pub(crate) rival: &'a Rival,
    /// Shared by all bouts of a scenario; the upstream is up.
    pub(crate) stage: &'a Stage,
    /// How long to measure.
    pub(crate) length: Duration,
}

impl Bout<'_> {
    /// Makes the measurement.
    pub(crate) async fn measure(&self) -> anyhow::Result<Found> {
        match self.scenario.run {
            Run::Load(load) => load::measure(self, load).await,
            Run::Flood(load) => flood::measure(self, load).await,
        }
    }

    /// Starts the proxy; how long it takes until it listens.
    pub(crate) async fn proxy(&self) -> anyhow::Result<(Process, Duration)> {
        let command = self.rival.command(self.stage)?;
        let began = Instant::now();
        let mut proxy = Process::start(command, &self.stage.path("proxy.log"))?;
        for listener in [self.stage.mutual(), self.stage.passthrough()] {
            while TcpStream::connect(listener).await.is_err() {
                proxy.alive()?;
                if began.elapsed() > PATIENCE {
                    bail!("it does not listen in time");
                }
                sleep(LOOK).await;
            }
        }
        let listening = began.elapsed();
        // Not somebody else who listens there.
        proxy.alive()?;
        Ok((proxy, listening))
    }
}
