//! A real Envoy as a proxy of the mesh, started as Istio's agent starts it: a bootstrap that follows control, identity from an
//! agent's Unix socket.
//!
//! The sidecars follow over the incremental protocol and the gateway over the other, so that both are walked through.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use mesh::{
    cluster::EndpointAddress,
    id::SpiffeId,
    xds::{
        proxy::Role,
        render::{self, ControlPlane, Secrets},
    },
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{CONTROL, Proxy, Start};
use crate::lab::{
    namespaces::{
        PROXY_USER,
        credentials::Member,
        network::{Network, Place},
        process::Process,
    },
    part::Part,
};

/// Envoy's administration, on its pod's loopback; Istio's port.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15000);
const ISTIOD: &str = "spiffe://cluster.local/ns/istio-system/sa/istiod";
/// How long an Envoy may take to use what it has acknowledged.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(20);

/// What runs beside an Envoy, and how it is asked.
pub(super) struct Beside {
    place: Place,
    agent: Process,
}

impl Start<'_> {
    pub(super) async fn envoy(
        &self,
        part: &Part,
        member: Member,
        place: Place,
        binary: &Path,
    ) -> anyhow::Result<Proxy> {
        let socket = self.credentials.of(member).join("agent.sock");
        let agent = self.agent(member, place, &socket).await?;
        let bootstrap = self.around.path(&format!("{}.json", member.name()));
        fs::write(&bootstrap, bootstrap_of(part, &socket)?.to_string())?;
        let mut command = self.network.command_as(PROXY_USER, place, self.around.lend(binary)?);
        command.arg("-c").arg(&bootstrap);
        command.args(["-l", "warning", "--concurrency", "1", "--disable-hot-restart"]);
        // A connection that a listener's update has left behind keeps its old policies for that long.
        command.args(["--drain-time-s", "1", "--drain-strategy", "immediate"]);
        command.args(["--local-address-ip-version", "v4"]);
        // By default, lines of the access log are kept for up to ten seconds.
        command.args(["--file-flush-interval-msec", "20"]);
        Ok(Proxy {
            process: Process::start(member.name(), command, PROXY_USER)?,
            envoy: Some(Beside { place, agent }),
        })
    }

    async fn agent(&self, member: Member, place: Place, socket: &Path) -> anyhow::Result<Process> {
        let mut command = self.network.command_as(PROXY_USER, place, self.around.program());
        command
            .args(["certs", "agent"])
            .arg("--identity")
            .arg(self.credentials.of(member));
        command.arg("--socket").arg(socket);
        command.arg("--system-roots").arg(self.around.roots());
        let mut agent = Process::start("agent", command, PROXY_USER)?;
        agent.await_line("readiness", |line| line.contains("serving")).await?;
        Ok(agent)
    }
}

/// What an Envoy has warned of before it was told to end: its end breaks off what it follows, which it warns of too.
pub(super) fn warnings(said: Vec<String>) -> impl Iterator<Item = String> {
    said.into_iter()
        .take_while(|line| !line.contains("caught ENVOY_SIGTERM"))
}

fn bootstrap_of(part: &Part, agent: &Path) -> anyhow::Result<Value> {
    let proxy = render::Proxy {
        node: part.node(),
        admin: Some(ADMIN),
        resolvers: Vec::new(),
        secrets: Secrets::Agent(agent.to_owned()),
    };
    let control = ControlPlane {
        address: EndpointAddress::Socket(CONTROL),
        identity: Some(SpiffeId::parse(ISTIOD)?),
        delta: matches!(part.role, Role::Sidecar { .. }),
    };
    Ok(render::following(&proxy, &control)?)
}

impl Beside {
    /// Waits until Envoy serves, everything it has acknowledged is in use, and nothing else: the connections of what was before
    /// are gone.
    pub(super) async fn warmed(&self, network: &Network) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.is_warm(network)? {
            ensure!(
                Instant::now() < deadline,
                "the Envoy in {:?} does not use what it has acknowledged",
                self.place
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn is_warm(&self, network: &Network) -> anyhow::Result<bool> {
        let ask = |path: &str| network.run(self.place, &format!("curl --silent http://{ADMIN}{path}"));
        // It does not listen at once, so no answer is an answer.
        if !ask("/ready").is_ok_and(|state| state.starts_with("LIVE")) {
            return Ok(false);
        }
        let dump: Value = serde_json::from_str(&ask("/config_dump")?).context("the configuration of an Envoy")?;
        Ok(!mentions_warming(&dump) && is_drained(&ask("/stats?filter=draining")?))
    }

    pub(super) fn said(&self) -> String {
        self.agent.said()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.agent.stop().await.map(drop)
    }
}

/// Whether a resource is accepted and not yet in use: `warming_state` of a listener, `dynamic_warming_clusters`,
/// `dynamic_warming_secrets`.
fn mentions_warming(dump: &Value) -> bool {
    match dump {
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains("warming") || mentions_warming(value)),
        Value::Array(values) => values.iter().any(mentions_warming),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether every line of such statistics, `listener_manager.total_filter_chains_draining: 0`, ends with a nought.
fn is_drained(stats: &str) -> bool {
    stats.lines().all(|line| line.ends_with(": 0"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_warming_is_found_at_any_depth() {
        let warming = json!({"configs": [{"dynamic_listeners": [{"warming_state": {}}]}]});
        let warm = json!({"configs": [{"dynamic_listeners": [{"active_state": {}}]}]});
        assert!(mentions_warming(&warming) && !mentions_warming(&warm));
    }

    #[test]
    fn one_draining_chain_is_enough_to_wait_for() {
        let stats = |chains| {
            format!(
                "listener_manager.total_filter_chains_draining: {chains}\nlistener_manager.total_listeners_draining: 0\n"
            )
        };
        assert!(is_drained(&stats(0)) && !is_drained(&stats(10)));
    }
}
