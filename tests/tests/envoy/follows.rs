//! Envoys that follow control: over mutual TLS, with their identity from an agent, in either protocol.

use std::{net::SocketAddr, path::PathBuf};

use certs::{
    FileWatcher, Workload,
    sds::{Access, Server as Agent, Settings as AgentSettings},
};
use control::{Control, Handle, Settings, istio::load, mesh_config::MeshConfig, serve::Security};
use libtest_mimic::Trial;
use mesh::{
    cluster::EndpointAddress,
    id::SpiffeId,
    xds::render::{ControlPlane, Proxy as Rendered, Secrets, following},
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    dump,
    examples::{Proxy, State, steps},
    identity::{ISTIOD, Mesh, files},
    running::{DEADLINE, Envoy},
    trial,
};

/// One for every kind of proxy and protocol.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for proxy in Proxy::ALL {
        for (delta, protocol) in [(true, "delta"), (false, "state_of_the_world")] {
            let name = |what: &str| format!("follows::{protocol}::{}::{what}", proxy.name());
            trials.push(trial(name("every_step"), move || block_on(every_step(proxy, delta))));
            trials.push(trial(name("restart"), move || block_on(restart(proxy, delta))));
        }
    }
    trials
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

/// The tutorial, step by step and back again.
async fn every_step(proxy: Proxy, delta: bool) {
    let mut scene = Scene::start(proxy, delta).await;
    let steps = steps();
    for state in steps.iter().chain(steps.iter().rev()) {
        scene.follow(state).await;
    }
    scene.stop().await;
}

/// Control goes away and comes back with something else.
async fn restart(proxy: Proxy, delta: bool) {
    let mut scene = Scene::start(proxy, delta).await;
    let steps = steps();
    let (last, before) = (steps.last().unwrap(), &steps[steps.len() / 2]);
    scene.follow(last).await;
    scene.restart(before).await;
    scene.follow(last).await;
    scene.restart(last).await;
    scene.stop().await;
}

/// A control plane, an agent, and an Envoy that follows.
struct Scene {
    proxy: Proxy,
    control: Handle,
    istiod: Workload,
    envoy: Envoy,
    agent: Agent,
    directory: TempDir,
}

impl Scene {
    async fn start(proxy: Proxy, delta: bool) -> Self {
        let (mesh, directory) = (Mesh::new(), TempDir::new().unwrap());
        let at = |name: &str| directory.path().join(name);
        for (name, id) in [("istiod", ISTIOD.to_owned()), ("proxy", proxy.identity())] {
            mesh.issue(&id, &at(name));
        }
        std::fs::create_dir(at("resources")).unwrap();
        let watcher = FileWatcher::new();
        let istiod = watcher.workload(&at("istiod")).unwrap();
        let control = control(at("resources"), ([127, 0, 0, 1], 0).into(), &istiod).await;
        let agent = AgentSettings {
            socket: at("agent"),
            access: Access::Owner,
            workload: watcher.workload(&at("proxy")).unwrap(),
            system_roots: Some(watcher.roots(&files(&at("proxy")).system_roots).unwrap()),
        };
        let agent = Agent::start(agent).await.unwrap();
        let rendered = Rendered {
            node: proxy.node(),
            admin: Some(([127, 0, 0, 1], 0).into()),
            resolvers: vec![([127, 0, 0, 1], 53).into()],
            secrets: Secrets::Agent(at("agent")),
        };
        let plane = ControlPlane {
            address: EndpointAddress::Socket(control.address()),
            identity: Some(SpiffeId::parse(ISTIOD).unwrap()),
            delta,
        };
        Self {
            envoy: Envoy::start(&following(&rendered, &plane).unwrap()).await,
            proxy,
            control,
            istiod,
            agent,
            directory,
        }
    }

    fn resources(&self) -> PathBuf {
        self.directory.path().join("resources")
    }

    /// Changes the resources and sees Envoy run what follows from them.
    async fn follow(&mut self, state: &State) {
        state.write(&self.resources());
        self.arrives(state).await;
        let complaints = self.envoy.complaints();
        assert!(complaints.is_empty(), "{}: {complaints:#?}", state.name);
    }

    /// Stops control, changes the resources, and starts it again at the same address. That Envoy says it lost control is not
    /// about its configuration.
    async fn restart(&mut self, state: &State) {
        let address = self.control.address();
        state.write(&self.resources());
        let next = TempDir::new().unwrap();
        let idle = control(next.path().to_owned(), ([127, 0, 0, 1], 0).into(), &self.istiod).await;
        std::mem::replace(&mut self.control, idle).shutdown().await;
        let again = control(self.resources(), address, &self.istiod).await;
        std::mem::replace(&mut self.control, again).shutdown().await;
        self.arrives(state).await;
        let mut complaints = self.envoy.complaints();
        complaints.retain(|line| !line.contains("gRPC config stream to xds-grpc closed"));
        assert!(complaints.is_empty(), "{}: {complaints:#?}", state.name);
    }

    async fn arrives(&self, state: &State) {
        let wanted = load(&self.resources()).objects;
        let live = self
            .control
            .wait_for(|applied| applied.objects.iter().eq(wanted.iter()));
        timeout(DEADLINE, live).await.expect("control applies the resources");
        let node = self.proxy.node().id;
        let acknowledged = timeout(DEADLINE, self.control.acknowledged_by(&node)).await;
        match acknowledged {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => panic!("{}: {refused}", state.name),
            Err(_) => panic!(
                "{}: not acknowledged: {:#?}\n{}",
                state.name,
                self.control.proxies(),
                self.envoy.said()
            ),
        }
        let bundle = state.bundle(self.proxy);
        let runs = self
            .envoy
            .until(dump::PATH, |dump| dump::difference(dump, &bundle))
            .await;
        if let Err(wrong) = runs {
            panic!("{}: {wrong}\n{}", state.name, self.envoy.said());
        }
    }

    async fn stop(self) {
        let rejected = self.envoy.until("/stats?filter=(rejected|create_failure)$", |stats| {
            let bad: Vec<_> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
            if bad.is_empty() { Ok(()) } else { Err(bad.join(", ")) }
        });
        rejected.await.unwrap();
        self.envoy.stop().await;
        self.control.shutdown().await;
        self.agent.shutdown().await;
    }
}

async fn control(resources: PathBuf, address: SocketAddr, istiod: &Workload) -> Handle {
    let settings = Settings {
        resources,
        address,
        security: Security::MutualTls(istiod.clone()),
        mesh: MeshConfig::default(),
    };
    Control::start(settings).await.unwrap()
}
