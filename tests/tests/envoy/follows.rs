//! Envoys that follow control over mutual TLS, in either protocol, through all steps of the tutorial.

use std::{fs, mem, net::SocketAddr, path::PathBuf};

use certs::{FileWatcher, Workload};
use control::{Control, Handle, Settings, istio::load, mesh_config::MeshConfig, serve::Security};
use libtest_mimic::Trial;
use mesh::id::SpiffeId;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    block_on,
    examples::{Proxy, State, steps},
    follower::{Follower, Way},
    identity::{ISTIOD, Mesh},
    running::DEADLINE,
    trial,
};

/// Two for every kind of proxy and protocol.
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

/// A control plane and an Envoy that follows it.
struct Scene {
    proxy: Proxy,
    delta: bool,
    follower: Follower,
    control: Handle,
    istiod: Workload,
    directory: TempDir,
}

impl Scene {
    async fn start(proxy: Proxy, delta: bool) -> Self {
        let (mesh, directory) = (Mesh::new(), TempDir::new().unwrap());
        let resources = directory.path().join("resources");
        fs::create_dir(&resources).unwrap();
        mesh.issue(ISTIOD, &directory.path().join("istiod"));
        let istiod = FileWatcher::new().workload(&directory.path().join("istiod")).unwrap();
        let control = control(resources, ([127, 0, 0, 1], 0).into(), &istiod).await;
        let way = Way {
            control: control.address(),
            identity: Some(SpiffeId::parse(ISTIOD).unwrap()),
            delta,
        };
        Self {
            proxy,
            delta,
            follower: Follower::start(proxy, way, &mesh, directory.path()).await,
            control,
            istiod,
            directory,
        }
    }

    fn resources(&self) -> PathBuf {
        self.directory.path().join("resources")
    }

    /// Changes the resources and sees Envoy run what follows from them.
    async fn follow(&mut self, state: &State) {
        state.write(&self.resources());
        self.acknowledged(state).await;
        self.follower
            .runs(&state.name, &state.bundle(self.proxy), |_| false)
            .await;
    }

    /// Stops control, changes the resources, and starts it again at the same address. That Envoy says it lost control is not
    /// about its configuration; and on a new stream of the state of the world nobody tells control which clusters Envoy
    /// still uses.
    async fn restart(&mut self, state: &State) {
        let address = self.control.address();
        state.write(&self.resources());
        let other = TempDir::new().unwrap();
        let other = control(other.path().to_owned(), ([127, 0, 0, 1], 0).into(), &self.istiod).await;
        mem::replace(&mut self.control, other).shutdown().await;
        let again = control(self.resources(), address, &self.istiod).await;
        mem::replace(&mut self.control, again).shutdown().await;
        self.acknowledged(state).await;
        let delta = self.delta;
        let lost = |line: &str| {
            let unknown = !delta && line.starts_with("a cluster went first");
            unknown || line.contains("gRPC config stream to xds-grpc closed")
        };
        self.follower.runs(&state.name, &state.bundle(self.proxy), lost).await;
    }

    async fn acknowledged(&self, state: &State) {
        let wanted = load(&self.resources()).objects;
        let live = self
            .control
            .wait_for(|applied| applied.objects.iter().eq(wanted.iter()));
        timeout(DEADLINE, live).await.expect("control applies the resources");
        match timeout(DEADLINE, self.control.acknowledged_by(&self.follower.node())).await {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => panic!("{}: {refused}", state.name),
            Err(_) => panic!(
                "{}: {:#?}\n{}",
                state.name,
                self.control.proxies(),
                self.follower.said()
            ),
        }
    }

    async fn stop(self) {
        self.follower.stop().await;
        self.control.shutdown().await;
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
