//! Envoys that follow, in plaintext, from one mistake to the next: whatever is wrong in resources, what is served is in order.

use std::sync::Arc;

use control::{
    node::Node,
    serve::{Generation, Security, Server, Source},
};
use libtest_mimic::Trial;
use mesh::bundle::Bundle;
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

use crate::{
    block_on,
    examples::{Proxy, mistakes},
    follower::{Follower, Way},
    identity::Mesh,
    running::DEADLINE,
    trial,
};

/// One for every protocol and role.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for proxy in [Proxy::Gateway, Proxy::TeamX] {
        for (delta, protocol) in [(true, "delta"), (false, "state_of_the_world")] {
            let name = format!("follows::{protocol}::{}::every_mistake", proxy.name());
            trials.push(trial(name, move || block_on(every_mistake(proxy, delta))));
        }
    }
    trials
}

/// Serves the same to everybody.
struct Same(Bundle);

impl Source for Same {
    fn compile(&self, _: &Node) -> Bundle {
        self.0.clone()
    }
}

async fn every_mistake(proxy: Proxy, delta: bool) {
    let directory = TempDir::new().unwrap();
    let generation = |(number, bundle): (u64, Bundle)| Generation {
        number,
        source: Arc::new(Same(bundle)),
    };
    let (generations, changes) = watch::channel(generation((1, Bundle::default())));
    let server = Server::start(([127, 0, 0, 1], 0).into(), Security::PlaintextOnLoopback, changes);
    let server = server.await.unwrap();
    let way = Way {
        control: server.address(),
        identity: None,
        delta,
    };
    let mut follower = Follower::start(proxy, way, &Mesh::new(), directory.path()).await;
    for (number, state) in (2..).zip(mistakes()) {
        let bundle = state.bundle(proxy);
        generations.send_replace(generation((number, bundle.clone())));
        match timeout(DEADLINE, server.acknowledged_by(&follower.node())).await {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => panic!("{}: {refused}", state.name),
            Err(_) => panic!("{}: {:#?}\n{}", state.name, server.proxies(), follower.said()),
        }
        follower.runs(&state.name, &bundle, |_| false).await;
    }
    follower.stop().await;
    server.shutdown().await;
}
