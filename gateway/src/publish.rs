//! Bundles become what is served: build, bind, warm, publish, in this order.
//!
//! Invariants: one bundle at a time; what cannot be taken changes nothing and is named; a socket is bound before its listener
//! is published and closed after.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join_all;
use mesh::{ListenerName, bundle::Bundle};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};

use crate::{
    Rejected, Resource,
    access_log::Sinks,
    drain::Runtime,
    limits,
    snapshot::{Builder, ChainIds, Snapshot},
    tls::secrets::Secrets,
    upstream::{cluster::Environment, dns::Resolver},
    worker::{Order, Place, Places, Shared},
};

/// Publishes bundles.
pub(crate) struct Publisher {
    parts: Parts,
    workers: Vec<mpsc::Sender<Order>>,
    /// Held while a bundle is being published.
    turn: AsyncMutex<()>,
    bound: Mutex<BTreeMap<Place, SocketAddr>>,
}

/// What building a snapshot needs.
pub(crate) struct Parts {
    /// What workers see.
    pub(crate) shared: Arc<Shared>,
    /// Configuration that bundles add to.
    pub(crate) fixed: Bundle,
    /// Certificates and roots.
    pub(crate) secrets: Secrets,
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
    pub(crate) fn new(parts: Parts, workers: Vec<mpsc::Sender<Order>>) -> Self {
        Self {
            parts,
            workers,
            turn: AsyncMutex::default(),
            bound: Mutex::default(),
        }
    }

    /// Makes a bundle the configuration in force.
    ///
    /// # Errors
    /// The resources that could not be taken; the last good version of each stays, everything else applies.
    pub(crate) async fn apply(&self, bundle: Bundle) -> Result<(), Vec<Rejected>> {
        let _turn = self.turn.lock().await;
        let previous = self.parts.shared.snapshot.load_full();
        let mut bundle = self.parts.with_fixed(bundle);
        let (mut snapshot, mut rejected) = self.parts.build(&bundle, &previous);
        let unbound = self.bind(&snapshot).await;
        if !unbound.is_empty() {
            keep_previous(&mut bundle, &previous, &unbound);
            (snapshot, rejected) = self.parts.build(&bundle, &previous);
            rejected.extend(unbound);
        }
        warm(&snapshot).await;
        let places = Arc::new(places(&snapshot));
        self.parts.shared.snapshot.store(Arc::new(snapshot));
        self.serve(&places).await;
        if rejected.is_empty() { Ok(()) } else { Err(rejected) }
    }

    /// Where tasks run that are no worker's.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.parts.runtime
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
    fn build(&self, bundle: &Bundle, previous: &Snapshot) -> (Snapshot, Vec<Rejected>) {
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
        builder.build(bundle)
    }

    /// Fixed resources win over those of the same name, as in Envoy.
    fn with_fixed(&self, mut bundle: Bundle) -> Bundle {
        let fixed = self.fixed.clone();
        bundle.listeners.extend(fixed.listeners);
        bundle.routes.extend(fixed.routes);
        bundle.clusters.extend(fixed.clusters);
        bundle.endpoints.extend(fixed.endpoints);
        bundle
    }
}

/// Puts the last good version of the listeners in place of those that could not be bound.
fn keep_previous(bundle: &mut Bundle, previous: &Snapshot, unbound: &[Rejected]) {
    let is_unbound = |name: &ListenerName| unbound.iter().any(|rejected| rejected.name == name.as_str());
    bundle.listeners.retain(|name, _| !is_unbound(name));
    for listener in previous
        .listeners()
        .filter(|listener| is_unbound(&listener.settings().name))
    {
        let settings = listener.settings();
        bundle.listeners.insert(settings.name.clone(), settings.clone());
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
