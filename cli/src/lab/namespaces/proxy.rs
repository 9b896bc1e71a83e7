//! A proxy of the mesh: our own program, or a real Envoy with the agent that Envoy needs.

use std::{fmt, net::SocketAddr, path::PathBuf};

use mesh::xds::proxy::Role;

use super::{
    PROXY_USER,
    credentials::{Credentials, Member},
    network::{self, Network, Place},
    process::Process,
    surroundings::Surroundings,
};
use crate::lab::{cluster, log::Log, part::Part};

mod envoy;

/// Where control serves.
pub(super) const CONTROL: SocketAddr = SocketAddr::new(network::CONTROL, 15012);

/// What a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Ours.
    Sallyport,
    /// A real Envoy: the binary.
    Envoy(PathBuf),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sallyport => "sallyport",
            Self::Envoy(_) => "envoy",
        })
    }
}

/// A running proxy.
pub(super) struct Proxy {
    process: Process,
    /// What an Envoy has beside it.
    envoy: Option<envoy::Beside>,
}

/// How the proxies are started.
pub(super) struct Start<'a> {
    pub(super) control: Process,
    pub(super) network: &'a Network,
    pub(super) around: &'a Surroundings,
    pub(super) credentials: &'a Credentials,
}

impl Start<'_> {
    /// Starts a proxy and waits until it is served by control.
    pub(super) async fn proxy(
        &mut self,
        part: &Part,
        member: Member,
        place: Place,
        program: &Program,
    ) -> anyhow::Result<Proxy> {
        let proxy = match program {
            Program::Sallyport => self.sallyport(part, member, place).await?,
            Program::Envoy(binary) => self.envoy(part, member, place, binary).await?,
        };
        let is_it = |line: &str| line.contains("proxy connected") && line.contains(part.name);
        self.control.await_line("the connection of a proxy", is_it).await?;
        proxy.warmed(self.network).await?;
        Ok(proxy)
    }

    async fn sallyport(&self, part: &Part, member: Member, place: Place) -> anyhow::Result<Proxy> {
        let mut command = self.network.command_as(PROXY_USER, place, self.around.program());
        match part.role {
            Role::Gateway => command.arg("gateway"),
            Role::Sidecar { .. } => {
                command.args(["sidecar", "--proxy-port", &cluster::EXPLICIT_PROXY.port().to_string()])
            }
        };
        let labels = part.labels.iter().map(|(key, value)| format!("{key}={value}"));
        command.args(["--labels", &labels.collect::<Vec<_>>().join(",")]);
        command.args(["--pod", part.name, "--address", &part.address.to_string()]);
        command.args(["--control", &format!("https://{CONTROL}"), "--drain", "5s"]);
        command.arg("--identity").arg(self.credentials.of(member));
        command.arg("--system-roots").arg(self.around.roots());
        let mut process = Process::start(member.name(), command, PROXY_USER)?;
        process
            .await_line("its first configuration", |line| {
                line.contains("configured and serving")
            })
            .await?;
        Ok(Proxy { process, envoy: None })
    }
}

impl Proxy {
    /// Waits until everything that was acknowledged is in use; ours acknowledges nothing sooner.
    pub(super) async fn warmed(&self, network: &Network) -> anyhow::Result<()> {
        match &self.envoy {
            None => Ok(()),
            Some(beside) => beside.warmed(network).await,
        }
    }

    pub(super) fn log(&self) -> &Log {
        self.process.log()
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(super) fn said(&self) -> String {
        self.process.said() + &self.envoy.as_ref().map(envoy::Beside::said).unwrap_or_default()
    }

    /// Ends it in order; returns the log lines that nobody has taken, and what an Envoy warned of.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<String>> {
        let mut ended = self.process.stop().await?;
        if let Some(beside) = self.envoy {
            ended.rest.extend(envoy::warnings(ended.said));
            beside.stop().await?;
        }
        Ok(ended.rest)
    }
}
