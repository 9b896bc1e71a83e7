//! The tutorial's mesh: control, egress gateway, the sidecars of team-x and team-y, and everything around them.
//!
//! Starts without resources; [`Mesh::apply`] adds them as an operator would, by writing files. Nothing here sleeps: what is
//! awaited is the acknowledgement of every proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use control::{Control, diag::Diagnostic, istio, mesh_config::MeshConfig, serve::Security};
use tokio::time::timeout;

use super::{
    client::App,
    dns::NameServer,
    log::Log,
    manifests::Manifest,
    network::{Process, VirtualNetwork},
    outside::Outside,
    part::{GATEWAY, TEAM_X, TEAM_Y},
    pki::{MeshCa, PublicCa},
};
use running::{Running, Server};
use surroundings::Surroundings;

mod running;
mod surroundings;

/// How long a change may take to arrive everywhere.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running mesh; ends when dropped, or in order with [`Mesh::stop`].
pub struct Mesh {
    control: control::Handle,
    gateway: Running,
    team_x: Running,
    team_y: Running,
    around: Surroundings,
}

/// The access logs of the proxies.
#[derive(Clone)]
pub struct Logs {
    /// The sidecar of team-x.
    pub team_x: Log,
    /// The sidecar of team-y.
    pub team_y: Log,
    /// The gateway.
    pub gateway: Log,
}

impl Mesh {
    /// Starts a mesh without resources.
    ///
    /// # Errors
    /// A part cannot be started.
    pub async fn start() -> anyhow::Result<Self> {
        let around = Surroundings::start().await?;
        let istiod = around.mesh_ca.workload("istio-system", "istiod")?;
        let settings = control::Settings {
            resources: around.config_directory(),
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            security: Security::MutualTls(istiod.clone()),
            mesh: MeshConfig::default(),
        };
        let control = Control::start(settings).await.context("control")?;
        let server = Server {
            address: control.address(),
            identity: istiod.id(),
        };
        let mesh = Self {
            gateway: GATEWAY.start(&around, server).await?,
            team_x: TEAM_X.start(&around, server).await?,
            team_y: TEAM_Y.start(&around, server).await?,
            around,
            control,
        };
        mesh.settled().await?;
        Ok(mesh)
    }

    /// Writes resources into the watched directory and waits until every proxy runs what follows from them.
    ///
    /// # Errors
    /// The resources are not in order, a proxy refuses its part, or it takes too long.
    pub async fn apply(&self, files: &[&Manifest]) -> anyhow::Result<()> {
        let directory = self.config_directory();
        for file in files {
            file.write(&directory).with_context(|| file.name)?;
        }
        let wanted = istio::load(&directory).objects;
        let live = self
            .control
            .wait_for(|applied| applied.objects.iter().eq(wanted.iter()));
        let applied = timeout(DEADLINE, live)
            .await
            .context("control has not applied the resources in time")?;
        let wrong = applied.diagnostics.iter().filter(|found| found.is_error());
        let wrong: Vec<_> = wrong.map(Diagnostic::to_string).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        self.settled().await
    }

    /// The application in a pod, behind its sidecar.
    ///
    /// # Errors
    /// Its TLS cannot be configured.
    pub fn app(&self, host: IpAddr) -> anyhow::Result<App> {
        self.client(self.around.network.app(host))
    }

    /// A process in a pod that capture does not see.
    ///
    /// # Errors
    /// Its TLS cannot be configured.
    pub fn uncaptured(&self, host: IpAddr) -> anyhow::Result<App> {
        self.client(self.around.network.process(host))
    }

    /// The access logs.
    pub fn logs(&self) -> Logs {
        Logs {
            team_x: self.team_x.log.log().clone(),
            team_y: self.team_y.log.log().clone(),
            gateway: self.gateway.log.log().clone(),
        }
    }

    /// The control plane.
    pub fn control(&self) -> &control::Handle {
        &self.control
    }

    /// The world outside.
    pub fn outside(&self) -> &Outside {
        &self.around.outside
    }

    /// Who says where the names of the world outside lead.
    pub fn names(&self) -> &NameServer {
        &self.around.names
    }

    /// The network.
    pub fn network(&self) -> &VirtualNetwork {
        &self.around.network
    }

    /// Who certifies the world outside.
    pub fn public_ca(&self) -> &PublicCa {
        &self.around.public_ca
    }

    /// Who certifies the mesh.
    pub fn mesh_ca(&self) -> &MeshCa {
        &self.around.mesh_ca
    }

    /// Scratch space that ends with the mesh.
    pub fn directory(&self) -> &Path {
        self.around.files.path()
    }

    /// The watched directory.
    pub fn config_directory(&self) -> PathBuf {
        self.around.config_directory()
    }

    /// Ends in order: every proxy finishes what it is doing, and when this returns its log is complete.
    ///
    /// # Errors
    /// A log is full.
    pub async fn stop(self) -> anyhow::Result<()> {
        for proxy in [self.team_x, self.team_y, self.gateway] {
            proxy.stop().await?;
        }
        self.control.shutdown().await;
        Ok(())
    }

    fn client(&self, process: Process) -> anyhow::Result<App> {
        Ok(App::new(
            process,
            self.around.names.address(),
            self.around.public_ca.trusting()?,
        ))
    }

    /// Waits until every proxy is connected and runs what is in force.
    async fn settled(&self) -> anyhow::Result<()> {
        let all = async {
            for part in [&GATEWAY, &TEAM_X, &TEAM_Y] {
                self.control.acknowledged_by(&part.node().id).await?;
            }
            anyhow::Ok(())
        };
        timeout(DEADLINE, all)
            .await
            .context("a proxy has not acknowledged its configuration in time")?
    }
}
