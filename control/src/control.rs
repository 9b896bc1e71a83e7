//! The control plane as a whole: a directory of Istio resources, and every proxy kept at what it says.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use mesh::bundle::Bundle;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    applied::Applied,
    compile::compile,
    diag::Severity,
    mesh_config::MeshConfig,
    node::Node,
    serve::{Generation, NotAcknowledged, Proxy, Security, ServeError, Server, Source},
    watch::Directory,
    world::World,
};

/// The control plane.
#[derive(Debug, Clone, Copy)]
pub struct Control;

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory (or file) of Istio resources that is served and followed.
    pub resources: PathBuf,
    /// Where proxies connect.
    pub address: SocketAddr,
    /// How they are told apart.
    pub security: Security,
    /// What is the same for the whole mesh.
    pub mesh: MeshConfig,
}

/// A running control plane. Dropping it ends it; proxies keep what they have.
#[derive(Debug)]
pub struct Handle {
    server: Server,
    in_force: watch::Receiver<Arc<Applied>>,
    _tasks: JoinSet<()>,
}

/// The objects in force at one moment.
struct Configuration {
    world: World,
    mesh: Arc<MeshConfig>,
}

/// Makes a generation of every change.
struct Advance {
    mesh: Arc<MeshConfig>,
    applied: watch::Receiver<Arc<Applied>>,
    generations: watch::Sender<Generation>,
    in_force: watch::Sender<Arc<Applied>>,
}

impl Control {
    /// Reads the resources and serves them. Resources that are not in order are diagnostics, not errors.
    ///
    /// # Errors
    /// It cannot listen, or not this way.
    pub async fn start(settings: Settings) -> Result<Handle, ServeError> {
        let mesh = Arc::new(settings.mesh);
        let directory = Directory::open(&settings.resources, &mesh.root_namespace);
        let mut applied = directory.subscribe();
        let first = Arc::clone(&applied.borrow_and_update());
        let (generations, changes) = watch::channel(generation(1, &first, &mesh));
        let server = Server::start(settings.address, settings.security, changes).await?;
        let (in_force, states) = watch::channel(first);
        let advance = Advance {
            mesh,
            applied,
            generations,
            in_force,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(directory.follow());
        tasks.spawn(advance.run());
        Ok(Handle {
            server,
            in_force: states,
            _tasks: tasks,
        })
    }
}

impl Handle {
    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What is served, and what there is to say about it.
    pub fn in_force(&self) -> Arc<Applied> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Waits until what is served is as described.
    pub async fn wait_for(&self, mut described: impl FnMut(&Applied) -> bool) -> Arc<Applied> {
        let mut states = self.in_force.clone();
        match states.wait_for(|applied| described(applied)).await {
            Ok(applied) => Arc::clone(&applied),
            // Changes come from a task that ends with this handle only.
            Err(_) => std::future::pending().await,
        }
    }

    /// Who is connected, and where they stand.
    pub fn proxies(&self) -> Vec<Proxy> {
        self.server.proxies()
    }

    /// Waits until every connected proxy runs what is served now.
    ///
    /// # Errors
    /// A proxy refused a part of it.
    pub async fn acknowledged(&self) -> Result<(), NotAcknowledged> {
        self.server.acknowledged().await
    }

    /// Waits until the proxy with this node id is connected and runs what is served now.
    ///
    /// # Errors
    /// It refused a part of it.
    pub async fn acknowledged_by(&self, node: &str) -> Result<(), NotAcknowledged> {
        self.server.acknowledged_by(node).await
    }

    /// Ends in order. Proxies keep what they have.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

impl Advance {
    async fn run(mut self) {
        let mut number = 1;
        while self.applied.changed().await.is_ok() {
            number += 1;
            let applied = Arc::clone(&self.applied.borrow_and_update());
            let (seen, mesh) = (Arc::clone(&applied), Arc::clone(&self.mesh));
            match tokio::task::spawn_blocking(move || generation(number, &seen, &mesh)).await {
                Ok(generation) => {
                    tracing::info!(generation = number, "configuration changed");
                    self.generations.send_replace(generation);
                    self.in_force.send_replace(applied);
                }
                Err(error) => tracing::error!(%error, "the configuration could not be indexed; the earlier one stays"),
            }
        }
    }
}

fn generation(number: u64, applied: &Applied, mesh: &Arc<MeshConfig>) -> Generation {
    let configuration = Configuration {
        world: World::new(&applied.objects),
        mesh: Arc::clone(mesh),
    };
    Generation {
        number,
        source: Arc::new(configuration),
    }
}

impl Source for Configuration {
    fn compile(&self, node: &Node) -> Bundle {
        let (bundle, findings) = compile(&self.world, &self.mesh, node);
        for finding in findings.iter().filter(|finding| finding.severity != Severity::Info) {
            tracing::warn!(role = ?node.role, namespace = node.namespace, %finding, "not compiled as written");
        }
        bundle
    }
}
