//! The proxies of the tutorial: who each of them is, and how it is started.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use anyhow::Context as _;
use gateway::{Gateway, ads::Protocol};
use mesh::{
    id::SpiffeId,
    xds::proxy::{Interception, Pod, Role},
};
use sidecar::{Control, Sidecar};

use super::{PROXY_PORT, surroundings::Surroundings};
use crate::{
    following,
    lab::{cluster, log::LogPipe},
};

/// Threads of each proxy.
const WORKERS: NonZeroUsize = NonZeroUsize::MIN;
/// How long a proxy may take to finish what it is doing.
const DRAIN: Duration = Duration::from_secs(5);

/// Who a proxy is.
pub(super) struct Part {
    role: Role,
    name: &'static str,
    namespace: &'static str,
    service_account: &'static str,
    labels: &'static [(&'static str, &'static str)],
    address: IpAddr,
}

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

const SIDECAR: Role = Role::Sidecar {
    interception: Interception::Redirect,
    http_proxy_port: Some(PROXY_PORT),
};

pub(super) const GATEWAY: Part = Part {
    role: Role::Gateway,
    name: "istio-egressgateway-754d9684d5-jjkdz",
    namespace: "istio-egress",
    service_account: "istio-egressgateway-service-account",
    labels: &[("app", "istio-egressgateway"), ("istio", "egressgateway")],
    address: cluster::GATEWAY,
};
pub(super) const TEAM_X: Part = Part {
    role: SIDECAR,
    name: "test-d5bdf6f4f-9nxfv",
    namespace: "team-x",
    service_account: "test",
    labels: &[("app", "test")],
    address: cluster::TEAM_X,
};
pub(super) const TEAM_Y: Part = Part {
    role: SIDECAR,
    name: "test-d5bdf6f4f-x2k8m",
    namespace: "team-y",
    service_account: "test",
    labels: &[("app", "test")],
    address: cluster::TEAM_Y,
};

impl Part {
    /// What control knows the proxy by.
    pub(super) fn node_id(&self) -> String {
        self.pod().node(self.role).id
    }

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
            let following = handle.follow(following::settings(self.pod().node(self.role), control))?;
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

    fn pod(&self) -> Pod {
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Pod {
            name: self.name.to_owned(),
            namespace: self.namespace.to_owned(),
            service_account: self.service_account.to_owned(),
            labels: labels.collect(),
            address: self.address,
        }
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
