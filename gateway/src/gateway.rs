//! Starting, configuring and ending a data plane.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use certs::FileWatcher;
use mesh::{ListenerName, bundle::Bundle};
use tokio::{
    runtime,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    Settings,
    access_log::Sinks,
    ads,
    catalog::{Catalog, Files, Moves},
    drain::{Background, Phase, Runtime},
    publish::{Parts, Publisher},
    snapshot::ChainIds,
    tls::secrets::{Origins, Secrets, Tools},
    upstream::dns::Resolver,
    worker::{self, Shared},
};

/// The data plane.
#[derive(Debug, Clone, Copy)]
pub struct Gateway;

/// A running data plane. Dropping it ends it at once; [`Self::drain`] ends it in order.
pub struct Handle {
    publisher: Arc<Publisher>,
    phase: watch::Sender<Phase>,
    /// Closed when the last worker is gone.
    alive: mpsc::Receiver<()>,
    /// Follows files of configuration, and secrets that arrive.
    _following: Background,
}

/// A control plane that is being followed.
#[derive(Debug)]
pub struct Following {
    state: watch::Receiver<ads::State>,
    _task: Background,
}

/// A resource that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What kind.
    pub resource: Resource,
    /// Its name.
    pub name: String,
    /// Why, in words for an operator.
    pub reason: String,
}

/// Kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// LDS.
    Listener,
    /// RDS.
    Routes,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
}

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread or event queue.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// The system's name servers cannot be found out.
    #[error("cannot find the name servers of this system: {0}")]
    NameServers(String),
    /// The configuration that is there from the beginning has resources that cannot be taken.
    #[error("the configuration cannot be used: {}", list(.0))]
    Rejected(Vec<Rejected>),
    /// Files that the configuration names are not there, or cannot be followed.
    #[error("the configuration names files that cannot be used: {}", .0.join("; "))]
    Files(Vec<String>),
}

impl Gateway {
    /// Starts workers and applies the configuration that is there from the beginning: static, and in files.
    ///
    /// # Errors
    /// Nothing runs then.
    pub async fn start(settings: Settings) -> Result<Handle, StartError> {
        let handle = Self::prepare(settings)?;
        handle.publisher.begin().await?;
        Ok(handle)
    }

    /// Checks whether [`Self::start`] could take this: everything is read and built, nothing is opened or dialled.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(settings: Settings) -> Result<(), StartError> {
        let handle = Self::prepare(settings)?;
        let checked = handle.publisher.check().await;
        handle.shutdown().await;
        checked
    }

    fn prepare(settings: Settings) -> Result<Handle, StartError> {
        let resolver = Resolver::new(&settings.name_servers);
        let resolver = resolver.map_err(|error| StartError::NameServers(error.to_string()))?;
        let (phase, phases) = watch::channel(Phase::Running);
        let (living, alive) = mpsc::channel(1);
        let files = Arc::new(FileWatcher::new());
        let shared = Arc::new(Shared::new(settings.network));
        let runtime = control_runtime(files.clone(), phases.clone())?;
        let worker = |index| worker::start(index, shared.clone(), phases.clone(), living.clone());
        let workers = (0..settings.workers.get())
            .map(worker)
            .collect::<io::Result<Vec<_>>>()?;
        let tools = Tools {
            files,
            runtime: runtime.clone(),
            arrivals: Arc::default(),
        };
        let arrivals = tools.arrivals.clone();
        let origins = Origins {
            workload: settings.workload,
            fixed: settings.secrets,
            services: settings.secret_services,
            node: settings.node,
            system_roots: settings.system_roots,
        };
        let parts = Parts {
            sinks: Sinks::new(workers.len(), settings.access_log_overflow).with_stdout(settings.stdout),
            shared,
            secrets: Arc::new(Secrets::new(origins, tools)),
            resolver: Arc::new(resolver),
            runtime,
            ids: ChainIds::default(),
        };
        let moves = Arc::new(Moves::default());
        let files = Files::new(moves.clone()).map_err(StartError::Thread)?;
        let catalog = Catalog::new(settings.fixed, settings.listeners_from, settings.clusters_from, files);
        let publisher = Arc::new(Publisher::new(parts, catalog, workers));
        let following = publisher.clone();
        let following = publisher.runtime().spawn(async move {
            tokio::join!(following.follow_files(&moves), following.follow_secrets(&arrivals));
        });
        Ok(Handle {
            publisher,
            phase,
            alive,
            _following: following,
        })
    }
}

impl Handle {
    /// The address each listener with a socket of its own listens on: the configured one, with the port that was given if
    /// it asked for any.
    pub fn bound(&self) -> BTreeMap<ListenerName, SocketAddr> {
        self.publisher.bound()
    }

    /// Resolves `changed()` after each configuration that comes in force, when [`Self::bound`] is up to date.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.publisher.changes()
    }

    /// The secrets that are asked for and have not arrived, with who has them. What needs one is not served.
    pub fn awaited_secrets(&self) -> Vec<String> {
        self.publisher.secrets().awaited()
    }

    /// Makes a bundle the configuration in force, together with the fixed one. Listeners whose filter chains alone changed
    /// keep their socket and connections.
    ///
    /// # Errors
    /// The resources that could not be taken; the last good version of each stays, everything else applies.
    pub async fn apply(&self, bundle: Bundle) -> Result<(), Vec<Rejected>> {
        self.publisher.apply(Arc::new(bundle)).await
    }

    /// Follows a control plane: what it sends is applied until the result is dropped, or this data plane ends.
    ///
    /// # Errors
    /// The settings cannot work.
    pub fn follow(&self, control: ads::Settings) -> Result<Following, ads::SettingsError> {
        let (sender, state) = watch::channel(ads::State::default());
        let following = ads::follow(
            control,
            self.publisher.secrets(),
            Arc::clone(&self.publisher),
            self.publisher.outside(),
            sender,
        )?;
        Ok(Following {
            state,
            _task: self.publisher.runtime().spawn(following),
        })
    }

    /// Ends in order: accepts nothing new, lets what runs finish for `deadline`, then cuts it off. Returns when every
    /// connection is gone and every line is in its log.
    pub async fn drain(mut self, deadline: Duration) {
        self.phase.send_replace(Phase::Draining);
        // Late or not, what is left ends now.
        let _ = timeout(deadline, self.alive.recv()).await;
        self.shutdown().await;
    }

    /// Ends at once. Returns when every connection is gone and every line is in its log.
    pub async fn shutdown(mut self) {
        self.phase.send_replace(Phase::Stopped);
        self.alive.recv().await;
        self.publisher.flush_logs();
    }
}

impl Following {
    /// Where it stands, now and after each change.
    pub fn state(&self) -> watch::Receiver<ads::State> {
        self.state.clone()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.resource, self.name, self.reason)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Routes => "route configuration",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints of",
        })
    }
}

/// A thread for everything that is no connection: lookups and files.
fn control_runtime(files: Arc<FileWatcher>, mut phases: watch::Receiver<Phase>) -> io::Result<Runtime> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = Runtime::new(runtime.handle().clone());
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = files.run() => {}
                // Ends with the data plane, also when its handle was dropped.
                _ = phases.wait_for(|phase| *phase == Phase::Stopped) => {}
            }
        });
    })?;
    Ok(handle)
}

fn list(rejected: &[Rejected]) -> String {
    rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
