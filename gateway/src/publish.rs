//! What the [catalog](Catalog) holds becomes what is served: build, bind, warm, publish, in this order.
//!
//! Invariants: one publication at a time; what cannot be taken changes nothing and is named; a socket is bound before its listener
//! is published and closed after.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use mesh::{ListenerName, bundle::Bundle, source::Source, xds::ads::client::Outside};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    Rejected, Resource, StartError,
    access_log::Sinks,
    catalog::{Attributed, Catalog, Desired, Moves},
    drain::Runtime,
    limits,
    snapshot::{Builder, ChainIds, Snapshot},
    tls::secrets::{self, Secrets},
    upstream::{cluster::Environment, dns::Resolver},
    worker::{Order, Place, Places, Shared},
};

/// Publishes what is to run.
pub(crate) struct Publisher {
    parts: Parts,
    workers: Vec<mpsc::Sender<Order>>,
    /// Locked while something is being published.
    catalog: AsyncMutex<Catalog>,
    outside: watch::Sender<Arc<Outside>>,
    published: watch::Sender<()>,
    bound: Mutex<BTreeMap<Place, SocketAddr>>,
}

/// What building a snapshot needs.
pub(crate) struct Parts {
    /// What workers see.
    pub(crate) shared: Arc<Shared>,
    /// Certificates and roots.
    pub(crate) secrets: Arc<Secrets>,
    /// Names.
    pub(crate) resolver: Arc<Resolver>,
    /// Where lookups run.
    pub(crate) runtime: Runtime,
    /// Open log files.
    pub(crate) sinks: Sinks,
    /// Ids of filter chains.
    pub(crate) ids: ChainIds,
}

impl Publisher {
    /// Publishes to these workers.
    pub(crate) fn new(parts: Parts, catalog: Catalog, workers: Vec<mpsc::Sender<Order>>) -> Self {
        Self {
            parts,
            workers,
            catalog: AsyncMutex::new(catalog),
            outside: watch::Sender::default(),
            published: watch::Sender::default(),
            bound: Mutex::default(),
        }
    }

    /// Returns when every line that was logged is in its file.
    pub(crate) fn flush_logs(&self) {
        self.parts.sinks.flush();
    }

    /// Publishes what is there before a control plane has said anything.
    ///
    /// # Errors
    /// What of it cannot be used; nothing is served then that was not before.
    pub(crate) async fn begin(&self) -> Result<(), StartError> {
        self.parts.secrets.begin();
        let mut catalog = self.catalog.lock().await;
        let Attributed { fixed, files, .. } = self.publish(&mut catalog).await;
        catalog.report(&files);
        match catalog.missing() {
            missing if !missing.is_empty() => Err(StartError::Files(missing)),
            _ if !fixed.is_empty() => Err(StartError::Rejected(fixed)),
            _ => Ok(()),
        }
    }

    /// Builds what would be published first, but opens no listener and waits for nothing.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(crate) async fn check(&self) -> Result<(), StartError> {
        let mut catalog = self.catalog.lock().await;
        let nothing = Snapshot::default();
        catalog.read(&nothing).await;
        let (_, rejected) = self.parts.build(&catalog.desired(), &nothing);
        match catalog.problems() {
            problems if !problems.is_empty() => Err(StartError::Files(problems)),
            _ if !rejected.is_empty() => {
                let rejected = rejected.into_iter().map(|(_, rejected)| rejected);
                Err(StartError::Rejected(rejected.collect()))
            }
            _ => Ok(()),
        }
    }

    /// Makes a control plane's bundle part of the configuration in force, in place of its last one.
    ///
    /// # Errors
    /// The resources of it that could not be taken; the last good version of each stays, everything else applies.
    pub(crate) async fn apply(&self, bundle: Arc<Bundle>) -> Result<(), Vec<Rejected>> {
        let mut catalog = self.catalog.lock().await;
        catalog.take(bundle);
        let rejected = self.publish(&mut catalog).await;
        catalog.report(&rejected.others());
        if rejected.control.is_empty() {
            Ok(())
        } else {
            Err(rejected.control)
        }
    }

    /// Reads again, for ever, what was moved, and publishes what has changed.
    pub(crate) async fn follow_files(&self, moves: &Moves) {
        loop {
            let moved = moves.next().await;
            let mut catalog = self.catalog.lock().await;
            if catalog.reread(moved.as_ref()).await {
                let rejected = self.publish(&mut catalog).await;
                catalog.report(&rejected.others());
            }
        }
    }

    /// Publishes, for ever, what waited for secrets when they arrive.
    pub(crate) async fn follow_secrets(&self, arrivals: &Notify) {
        loop {
            arrivals.notified().await;
            let mut catalog = self.catalog.lock().await;
            let rejected = self.publish(&mut catalog).await;
            catalog.report(&rejected.all());
        }
    }

    /// What is wanted of a control plane by others than its own resources, now and after each change.
    pub(crate) fn outside(&self) -> watch::Receiver<Arc<Outside>> {
        self.outside.subscribe()
    }

    /// Publishes what the catalog holds. Returns what of it could not be taken.
    async fn publish(&self, catalog: &mut Catalog) -> Attributed {
        let previous = self.parts.shared.snapshot.load_full();
        catalog.read(&previous).await;
        let mut desired = catalog.desired();
        let (mut snapshot, mut rejected) = self.parts.build(&desired, &previous);
        let unbound = self.bind(&snapshot).await;
        if !unbound.is_empty() {
            keep_previous(&mut desired, &previous, &unbound);
            (snapshot, rejected) = self.parts.build(&desired, &previous);
            rejected.extend(unbound.into_iter().map(|unbound| (Source::Ads, unbound)));
        }
        warm(&snapshot).await;
        let places = Arc::new(places(&snapshot));
        let outside = catalog.outside(&snapshot);
        let listeners = desired
            .listeners
            .values()
            .flat_map(|listener| secrets::of_listener(listener));
        let clusters = desired
            .clusters
            .values()
            .flat_map(|cluster| secrets::of_cluster(cluster));
        self.parts.secrets.retain(listeners.chain(clusters));
        self.parts.shared.snapshot.store(Arc::new(snapshot));
        self.serve(&places).await;
        self.published.send_replace(());
        self.outside.send_if_modified(|current| {
            let news = **current != outside;
            *current = Arc::new(outside);
            news
        });
        catalog.attribute(rejected)
    }

    /// Where tasks run that are no worker's.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.parts.runtime
    }

    /// Resolves `changed()` after each publication, when [`Self::bound`] is up to date.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Where certificates and roots are.
    pub(crate) fn secrets(&self) -> &Arc<Secrets> {
        &self.parts.secrets
    }

    /// The addresses that are listened on.
    pub(crate) fn bound(&self) -> BTreeMap<ListenerName, SocketAddr> {
        self.addresses()
            .iter()
            .map(|((name, _), at)| (name.clone(), *at))
            .collect()
    }

    /// Binds what is not bound yet. Returns the listeners that could not be.
    async fn bind(&self, snapshot: &Snapshot) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for place in places(snapshot).into_keys() {
            if self.addresses().contains_key(&place) {
                continue;
            }
            match self.bind_everywhere(&place).await {
                Ok(at) => {
                    self.addresses().insert(place, at);
                }
                Err(error) => rejected.push(Rejected {
                    resource: Resource::Listener,
                    name: place.0.to_string(),
                    reason: format!("cannot listen on {}: {error}", place.1),
                }),
            }
        }
        rejected
    }

    /// Binds one address on every worker; the first one's port is everybody's.
    async fn bind_everywhere(&self, place: &Place) -> io::Result<SocketAddr> {
        let mut at = place.1;
        for worker in &self.workers {
            let (bound, answer) = oneshot::channel();
            let order = Order::Bind {
                place: place.clone(),
                at,
                bound,
            };
            let gone = || io::Error::other("the data plane is shutting down");
            worker.send(order).await.map_err(|_| gone())?;
            at = answer.await.map_err(|_| gone())??;
        }
        Ok(at)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<Place, SocketAddr>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, places: &Arc<Places>) {
        self.addresses().retain(|place, _| places.contains_key(place));
        for worker in &self.workers {
            // A worker that is gone serves nothing, which is all that could be asked of it.
            let _ = worker.send(Order::Serve(places.clone())).await;
        }
    }
}

impl Parts {
    fn build(&self, desired: &Desired<'_>, previous: &Snapshot) -> (Snapshot, Vec<(Source, Rejected)>) {
        let builder = Builder {
            previous,
            environment: Environment {
                secrets: &self.secrets,
                resolver: &self.resolver,
                runtime: &self.runtime,
            },
            sinks: &self.sinks,
            ids: &self.ids,
            rejected: Vec::new(),
        };
        builder.build(desired)
    }
}

/// Puts the last good version of the listeners in place of those that could not be bound.
fn keep_previous<'a>(desired: &mut Desired<'a>, previous: &'a Snapshot, unbound: &[Rejected]) {
    let is_unbound = |name: &ListenerName| unbound.iter().any(|rejected| rejected.name == name.as_str());
    desired.listeners.retain(|name, _| !is_unbound(name));
    for listener in previous
        .listeners()
        .filter(|listener| is_unbound(&listener.settings().name))
    {
        let settings = listener.settings();
        desired.listeners.insert(&settings.name, settings);
    }
}

/// Waits until every cluster knows something of its hosts, but not for ever.
async fn warm(snapshot: &Snapshot) {
    let cold = snapshot
        .clusters()
        .filter(|cluster| !cluster.hosts().is_warm() && cluster.is_looked_up());
    let warming = join_all(cold.map(|cluster| cluster.hosts().warm()));
    if timeout(limits::WARMING, warming).await.is_err() {
        tracing::warn!("some names are not resolved yet; their clusters have no hosts until they are");
    }
}

fn places(snapshot: &Snapshot) -> Places {
    let bound = snapshot.listeners().filter(|listener| listener.settings().bind_to_port);
    bound
        .map(|listener| {
            let settings = listener.settings();
            ((settings.name.clone(), settings.address), listener.clone())
        })
        .collect()
}
