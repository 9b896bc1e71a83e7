//! Starting and ending a sidecar.

use std::time::Duration;

use gateway::{Following, Gateway, ads};
use mesh::xds::proxy::{Interception, Pod, Role};
use tokio::sync::watch;

/// A sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Sidecar;

/// What a sidecar is started with.
pub struct Settings {
    /// Where it runs.
    pub pod: Pod,
    /// How the application's connections reach it.
    pub interception: Interception,
    /// The loopback port of the explicit proxy. `None`: the mesh's, if the mesh has one.
    pub http_proxy_port: Option<u16>,
    /// Who says what it serves.
    pub control: Control,
    /// The data plane: sockets, threads, the pod's certificate.
    pub plane: gateway::Settings,
}

/// A control plane.
#[derive(Debug, Clone)]
pub struct Control {
    /// `host:port`.
    pub server: String,
    /// How both sides know each other.
    pub security: ads::Security,
    /// The form of ADS.
    pub protocol: ads::Protocol,
}

/// A running sidecar. Dropping it ends it at once.
pub struct Handle {
    plane: gateway::Handle,
    following: Following,
    node: String,
}

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data plane cannot run here.
    #[error(transparent)]
    Plane(#[from] gateway::StartError),
    /// The control plane cannot be followed this way.
    #[error(transparent)]
    Control(#[from] ads::SettingsError),
}

impl Sidecar {
    /// Starts the data plane and follows the control plane. That the control plane does not answer is no error: the sidecar
    /// keeps asking.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Handle, StartError> {
        let role = Role::Sidecar {
            interception: settings.interception,
            http_proxy_port: settings.http_proxy_port,
        };
        let node = settings.pod.node(role);
        let id = node.id.clone();
        let control = ads::Settings {
            server: settings.control.server,
            security: settings.control.security,
            protocol: settings.control.protocol,
            wants: ads::Wants::default(),
            node_id: node.id,
            node_cluster: node.cluster,
            metadata: node.metadata,
        };
        let plane = Gateway::start(settings.plane).await?;
        let following = plane.follow(control)?;
        Ok(Handle {
            plane,
            following,
            node: id,
        })
    }
}

impl Handle {
    /// The data plane: what it listens on.
    pub fn plane(&self) -> &gateway::Handle {
        &self.plane
    }

    /// Where following the control plane stands, now and after each change.
    pub fn state(&self) -> watch::Receiver<ads::State> {
        self.following.state()
    }

    /// What the control plane knows it by.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Ends in order: takes no further configuration and no new connections, lets what runs finish for `deadline`, then cuts
    /// it off.
    pub async fn drain(self, deadline: Duration) {
        drop(self.following);
        self.plane.drain(deadline).await;
    }
}
