//! The proxies of a mesh in one process: how each of them is started, and ended.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use anyhow::Context as _;
use gateway::{Gateway, ads::Protocol};
use mesh::{id::SpiffeId, xds::proxy::Role};
use sidecar::{Control, Sidecar};

use super::surroundings::Surroundings;
use crate::{
    following,
    lab::{log::LogPipe, part::Part},
};

/// Threads of each proxy.
const WORKERS: NonZeroUsize = NonZeroUsize::MIN;
/// How long a proxy may take to finish what it is doing.
const DRAIN: Duration = Duration::from_secs(5);

/// A proxy and where it logs.
pub(super) struct Running {
    plane: Plane,
    pub(super) log: LogPipe,
}

enum Plane {
    Gateway(gateway::Handle, gateway::Following),
    Sidecar(sidecar::Handle),
}

/// Control's address and identity.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) address: SocketAddr,
    pub(super) identity: &'a SpiffeId,
}

impl Part {
    /// Starts the proxy and has it follow control.
    pub(super) async fn start(&self, around: &Surroundings, server: Server<'_>) -> anyhow::Result<Running> {
        let workload = around.mesh_ca.workload(self.namespace, self.service_account)?;
        let log = LogPipe::open().context("access log")?;
        let settings = gateway::Settings {
            network: around.network.on(self.address),
            workers: WORKERS,
            name_servers: vec![around.names.address()],
            system_roots: Some(around.outside_roots()),
            stdout: Some(log.path().clone()),
            workload: Some(workload.clone()),
            ..gateway::Settings::default()
        };
        let control = Control {
            server: server.address.to_string(),
            security: following::mutual_tls(workload, server.identity),
            protocol: Protocol::Delta,
        };
        let plane = self.follow(settings, control).await;
        Ok(Running {
            plane: plane.with_context(|| self.name)?,
            log,
        })
    }

    async fn follow(&self, plane: gateway::Settings, control: Control) -> anyhow::Result<Plane> {
        let Role::Sidecar {
            interception,
            http_proxy_port,
        } = self.role
        else {
            let handle = Gateway::start(plane).await?;
            let following = handle.follow(following::settings(self.node(), control))?;
            return Ok(Plane::Gateway(handle, following));
        };
        let settings = sidecar::Settings {
            pod: self.pod(),
            interception,
            http_proxy_port,
            control,
            plane,
        };
        Ok(Plane::Sidecar(Sidecar::start(settings).await?))
    }
}

impl Running {
    /// Ends the proxy in order; when this returns its log is complete.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.plane {
            Plane::Gateway(handle, following) => {
                drop(following);
                handle.drain(DRAIN).await;
            }
            Plane::Sidecar(handle) => handle.drain(DRAIN).await,
        }
        Ok(self.log.finish().await?)
    }
}
