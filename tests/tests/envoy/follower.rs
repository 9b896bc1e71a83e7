//! An Envoy that follows a control plane, with its identity from an agent beside it.

use std::{net::SocketAddr, path::Path};

use certs::{
    FileWatcher,
    sds::{Access, Server as Agent, Settings},
};
use mesh::{
    bundle::Bundle,
    cluster::EndpointAddress,
    id::SpiffeId,
    xds::render::{ControlPlane, Proxy as Rendered, Secrets, following},
};

use crate::{
    dump,
    examples::Proxy,
    identity::{Mesh, files},
    log,
    running::Envoy,
};

/// How an Envoy follows.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Where control is.
    pub(crate) control: SocketAddr,
    /// Who it is, over mutual TLS.
    pub(crate) identity: Option<SpiffeId>,
    /// By changes, instead of by the state of the world.
    pub(crate) delta: bool,
}

/// An Envoy and its agent.
pub(crate) struct Follower {
    proxy: Proxy,
    envoy: Envoy,
    agent: Agent,
}

impl Follower {
    /// Starts both. Certificates and the agent's socket are in `directory`.
    pub(crate) async fn start(proxy: Proxy, way: Way, mesh: &Mesh, directory: &Path) -> Self {
        let identity = directory.join("proxy");
        mesh.issue(&proxy.identity(), &identity);
        let watcher = FileWatcher::new();
        let agent = Settings {
            socket: directory.join("agent"),
            access: Access::Owner,
            workload: watcher.workload(&identity).unwrap(),
            system_roots: Some(watcher.roots(&files(&identity).system_roots).unwrap()),
        };
        let agent = Agent::start(agent).await.unwrap();
        let rendered = Rendered {
            node: proxy.node(),
            admin: Some(([127, 0, 0, 1], 0).into()),
            resolvers: vec![([127, 0, 0, 1], 53).into()],
            secrets: Secrets::Agent(agent.socket().to_owned()),
        };
        let control = ControlPlane {
            address: EndpointAddress::Socket(way.control),
            identity: way.identity,
            delta: way.delta,
        };
        Self {
            proxy,
            envoy: Envoy::start(&following(&rendered, &control).unwrap()).await,
            agent,
        }
    }

    /// Its node id.
    pub(crate) fn node(&self) -> String {
        self.proxy.node().id
    }

    /// What Envoy has said.
    pub(crate) fn said(&self) -> String {
        self.envoy.said()
    }

    /// Waits until Envoy runs exactly this, and checks how it came there. `forgiven` says what may be said
    /// against that.
    pub(crate) async fn runs(&mut self, name: &str, bundle: &Bundle, forgiven: impl Fn(&str) -> bool) {
        let runs = self
            .envoy
            .until(dump::PATH, |dump| dump::difference(dump, bundle))
            .await;
        if let Err(wrong) = runs {
            panic!("{name}: {wrong}\n{}", self.said());
        }
        let fresh = self.envoy.fresh();
        let mut wrong = log::complaints(&fresh);
        wrong.extend(log::disorder(&fresh));
        wrong.retain(|line| !forgiven(line));
        assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{fresh}");
    }

    /// Ends both; nothing was refused all the time.
    pub(crate) async fn stop(self) {
        let refused = self.envoy.until("/stats?filter=(rejected|create_failure)$", |stats| {
            let bad: Vec<_> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
            if bad.is_empty() { Ok(()) } else { Err(bad.join(", ")) }
        });
        refused.await.unwrap();
        assert!(log::tells_of_changes(&self.said()), "{}", self.said());
        self.envoy.stop().await;
        self.agent.shutdown().await;
    }
}
