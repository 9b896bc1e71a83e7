//! Every part of the tutorial as a process of its own, each in its namespace and started as an operator would.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;
use control::istio;
use tokio::task::spawn_blocking;

use super::{
    PROXY_USER,
    credentials::{Credentials, Member},
    network::{Network, Place},
    process::Process,
    proxy::{CONTROL, Program, Proxy, Start},
    surroundings::Surroundings,
};
use crate::lab::{log::Log, manifests::Manifest, part};

/// What to build.
#[derive(Debug, Clone)]
pub struct Setup {
    /// A `sallyport` binary.
    pub sallyport: PathBuf,
    /// What stands beside the applications.
    pub sidecar: Program,
    /// What stands at the exit.
    pub gateway: Program,
}

/// The mesh and what surrounds it. Processes end before their namespaces, and those before the files.
pub struct Mesh {
    gateway: Proxy,
    team_x: Proxy,
    team_y: Proxy,
    control: Process,
    network: Network,
    credentials: Credentials,
    around: Surroundings,
}

const PODS: [Place; 2] = [Place::TeamX, Place::TeamY];

impl Mesh {
    /// Starts everything, without resources, and waits until every proxy is served by control.
    ///
    /// # Errors
    /// The machine cannot have such a network ([`Network::missing`] says why), or a part cannot be started.
    pub async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let network = spawn_blocking(Network::build).await??;
        let around = Surroundings::start(&network, &setup.sallyport).await?;
        let config = config(&around);
        fs::create_dir(&config)?;
        let credentials = Credentials::create(around.program(), around.path("mesh"))?;
        for pod in PODS {
            capture(&network, &around, pod, "apply")?;
        }
        let mut start = Start {
            control: start_control(&network, &around, &credentials).await?,
            network: &network,
            around: &around,
            credentials: &credentials,
        };
        let gateway = start.proxy(&part::GATEWAY, Member::Gateway, Place::Gateway, &setup.gateway);
        let gateway = gateway.await?;
        let team_x = start.proxy(&part::TEAM_X, Member::TeamX, Place::TeamX, &setup.sidecar);
        let team_x = team_x.await?;
        let team_y = start.proxy(&part::TEAM_Y, Member::TeamY, Place::TeamY, &setup.sidecar);
        let team_y = team_y.await?;
        let control = start.control;
        Ok(Self {
            gateway,
            team_x,
            team_y,
            control,
            network,
            credentials,
            around,
        })
    }

    /// Writes resources into the watched directory and waits until every proxy runs what follows from them.
    ///
    /// # Errors
    /// The resources are not in order, a proxy refuses its part, or it takes too long.
    pub async fn install(&mut self, files: &[&Manifest]) -> anyhow::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let config = config(&self.around);
        for file in files {
            file.write(&config).with_context(|| file.name)?;
        }
        let objects = istio::load(&config).objects.len();
        let live = format!("objects={objects} proxies=3");
        let is_live = |line: &str| line.contains("every proxy runs what is in force") && line.contains(&live);
        self.control
            .await_line("acknowledgement by three proxies", is_live)
            .await?;
        for proxy in [&self.gateway, &self.team_x, &self.team_y] {
            proxy.warmed(&self.network).await?;
        }
        Ok(())
    }

    /// Kills control, does something, and starts control again; waits until every proxy is back.
    ///
    /// # Errors
    /// Control does not start, or a proxy does not find it again.
    pub async fn without_control<T>(&mut self, meanwhile: impl AsyncFnOnce(&mut Self) -> T) -> anyhow::Result<T> {
        self.control.kill().await?;
        let done = meanwhile(self).await;
        self.control = start_control(&self.network, &self.around, &self.credentials).await?;
        for _ in 0..3 {
            let is_back = |line: &str| line.contains("proxy connected");
            self.control.await_line("the return of a proxy", is_back).await?;
        }
        Ok(done)
    }

    /// Certifies the proxies anew, with new keys, where they have their credentials.
    ///
    /// # Errors
    /// The authority does not do it.
    pub fn renew(&self) -> anyhow::Result<()> {
        [Member::Gateway, Member::TeamX, Member::TeamY]
            .into_iter()
            .try_for_each(|member| self.credentials.issue(self.around.program(), member))
    }

    /// The gateway.
    pub fn gateway(&mut self) -> &mut Process {
        self.gateway.process()
    }

    /// The sidecar in a pod; `None` where there is none.
    pub fn sidecar(&mut self, pod: Place) -> Option<&mut Process> {
        match pod {
            Place::TeamX => Some(self.team_x.process()),
            Place::TeamY => Some(self.team_y.process()),
            Place::Gateway | Place::Outside | Place::Router => None,
        }
    }

    /// What the proxies log, by whose they are.
    pub(crate) fn logs(&self) -> [(&'static str, Log); 3] {
        let log = |proxy: &Proxy| proxy.log().clone();
        [
            ("team-x", log(&self.team_x)),
            ("team-y", log(&self.team_y)),
            ("gateway", log(&self.gateway)),
        ]
    }

    /// The watched directory.
    pub fn config_directory(&self) -> PathBuf {
        config(&self.around)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What was there before the mesh.
    pub fn around(&mut self) -> &mut Surroundings {
        &mut self.around
    }

    /// A curl that trusts the web sites, run as a user in a namespace.
    pub fn curl(&self, user: u32, place: Place) -> Command {
        self.around.curl(&self.network, user, place)
    }

    /// Where a member's `cert-chain.pem`, `key.pem` and `root-cert.pem` are.
    pub fn credentials(&self, of: Member) -> PathBuf {
        self.credentials.of(of)
    }

    /// Takes capture away again; returns what is left of it.
    ///
    /// # Errors
    /// The rules cannot be removed, or not be read.
    pub fn release(&self) -> anyhow::Result<String> {
        let mut left = String::new();
        for pod in PODS {
            capture(&self.network, &self.around, pod, "remove")?;
            for rules in ["iptables-save", "ip6tables-save"] {
                let rules = self.network.run(pod, rules)?;
                left.extend(rules.lines().filter(|line| line.contains("SALLYPORT")));
            }
        }
        Ok(left)
    }

    /// Ends everything in order; returns the log lines and requests that nobody has accounted for, and whatever an Envoy or
    /// control had to say against the configuration.
    ///
    /// # Errors
    /// A part does not stop in time.
    pub async fn stop(self) -> anyhow::Result<Vec<String>> {
        let mut rest = Vec::new();
        for proxy in [self.team_x, self.team_y, self.gateway] {
            rest.extend(proxy.stop().await?);
        }
        let control = self.control.stop().await?;
        rest.extend(control.said.into_iter().filter(|line| line.contains("refused")));
        rest.extend(self.around.stop().await?);
        Ok(rest)
    }

    /// What the processes have said about themselves.
    pub fn said(&self) -> String {
        let proxies = [&self.gateway, &self.team_x, &self.team_y].map(Proxy::said);
        self.control.said() + &proxies.concat()
    }
}

/// The directory that control watches.
fn config(around: &Surroundings) -> PathBuf {
    around.path("config")
}

fn capture(network: &Network, around: &Surroundings, pod: Place, action: &str) -> anyhow::Result<()> {
    let program = around.program().display();
    network
        .run(pod, &format!("{program} sidecar capture {action}"))
        .map(drop)
}

async fn start_control(network: &Network, around: &Surroundings, credentials: &Credentials) -> anyhow::Result<Process> {
    let mut command = network.command_as(PROXY_USER, Place::Router, around.program());
    command.args(["control", "--listen", &CONTROL.to_string(), "--config"]);
    command.arg(config(around));
    command.arg("--identity").arg(credentials.of(Member::Control));
    let mut control = Process::start("control", command, PROXY_USER)?;
    control.await_line("readiness", |line| line.contains("serving")).await?;
    Ok(control)
}
