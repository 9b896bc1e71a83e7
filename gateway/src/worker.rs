//! One worker: a thread with its own runtime, listening sockets, connections and pools. Nothing of it is shared or locked on
//! the request path.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use mesh::ListenerName;
use rand::rngs::SmallRng;
use tokio::{
    net::TcpListener,
    runtime::{self, LocalOptions},
    sync::{mpsc, oneshot, watch},
};

use crate::{
    access_log,
    drain::{Drain, Phase},
    listener,
    network::Network,
    snapshot::{ChainId, Listener, SnapshotCell},
    upstream::pool::Pools,
};

/// What all workers and the control runtime share.
pub(crate) struct Shared {
    /// The configuration in force.
    pub(crate) snapshot: SnapshotCell,
    /// Sockets.
    pub(crate) network: Arc<dyn Network>,
    connections: AtomicU64,
}

/// One worker's state; lives on its thread.
pub(crate) struct Worker {
    /// What all workers share.
    pub(crate) shared: Arc<Shared>,
    /// The owner of this worker's tasks.
    pub(crate) drain: Drain,
    /// Connections to upstream hosts.
    pub(crate) pools: Pools,
    /// For balancing and weights; not for secrets.
    pub(crate) rng: RefCell<SmallRng>,
}

/// A listening socket: whose it is, and the configured address. A listener that moves has two for a while.
pub(crate) type Place = (ListenerName, SocketAddr);

/// The sockets of a snapshot's listeners.
pub(crate) type Places = BTreeMap<Place, Arc<Listener>>;

/// What a worker is told.
pub(crate) enum Order {
    /// Bind a socket at an address, to be served later.
    Bind {
        /// Where it belongs.
        place: Place,
        /// The address: that of the place, with the port another worker was given if it has none.
        at: SocketAddr,
        /// The address that was bound.
        bound: oneshot::Sender<io::Result<SocketAddr>>,
    },
    /// Accept connections at these places for these listeners, and close all other sockets.
    Serve(Arc<Places>),
}

/// Orders a worker may be behind with.
const ORDERS: usize = 64;

impl Shared {
    /// Nothing configured yet.
    pub(crate) fn new(network: Arc<dyn Network>) -> Self {
        Self {
            snapshot: SnapshotCell::new(),
            network,
            connections: AtomicU64::new(0),
        }
    }

    /// A new connection's number.
    pub(crate) fn connection_id(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

impl Worker {
    /// A worker on the current thread.
    pub(crate) fn new(shared: Arc<Shared>, drain: Drain) -> Self {
        Self {
            shared,
            pools: Pools::new(drain.clone()),
            drain,
            rng: RefCell::new(rand::make_rng()),
        }
    }

    /// Waits until connections of a filter chain should come to an end: the worker drains, or the chain is no longer
    /// configured as it was.
    pub(crate) async fn ending(&self, chain: ChainId) {
        let mut changes = self.shared.snapshot.subscribe();
        let gone =
            async { while self.shared.snapshot.load().chain(chain).is_some() && changes.changed().await.is_ok() {} };
        tokio::select! {
            () = gone => {}
            () = self.drain.draining() => {}
        }
    }
}

/// Starts a worker's thread. It ends when `phase` is [`Phase::Stopped`], or is [`Phase::Draining`] and nothing runs any more;
/// `alive` is dropped then.
///
/// # Errors
/// The operating system gives no thread or no event queue.
pub(crate) fn start(
    index: usize,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    alive: mpsc::Sender<()>,
) -> io::Result<mpsc::Sender<Order>> {
    let (sender, orders) = mpsc::channel(ORDERS);
    let (started, starting) = std::sync::mpsc::channel();
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        access_log::enter_worker(index);
        // Not a set of local tasks on a common runtime: each task that a socket wakes would wake that set first, through a system call.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        // Nobody waits any more only if the whole data plane is being dropped.
        let runtime = match runtime {
            Ok(runtime) => started.send(Ok(())).map(|()| runtime),
            Err(error) => return drop(started.send(Err(error))),
        };
        if let Ok(runtime) = runtime {
            runtime.block_on(run(shared, Drain::new(phase), orders));
        }
        drop(alive);
    })?;
    starting
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(sender)
}

async fn run(shared: Arc<Shared>, drain: Drain, mut orders: mpsc::Receiver<Order>) {
    let worker = Rc::new(Worker::new(shared, drain.clone()));
    let mut sockets = Sockets::default();
    loop {
        tokio::select! {
            biased;
            () = drain.draining() => break,
            order = orders.recv() => match order {
                Some(order) => sockets.follow(order, &worker),
                None => return,
            }
        }
    }
    drop(sockets);
    tokio::select! {
        () = drain.stopped() => {}
        () = drain.idle() => {}
    }
}

/// A worker's listening sockets.
#[derive(Default)]
struct Sockets {
    bound: BTreeMap<Place, TcpListener>,
    /// Dropping the sender ends the accept loop.
    serving: BTreeMap<Place, oneshot::Sender<()>>,
}

impl Sockets {
    fn follow(&mut self, order: Order, worker: &Rc<Worker>) {
        match order {
            Order::Bind { place, at, bound } => {
                // Nobody waits any more only if the whole data plane is being dropped.
                let _ = bound.send(self.bind(place, at, worker));
            }
            Order::Serve(places) => self.serve(&places, worker),
        }
    }

    fn bind(&mut self, place: Place, at: SocketAddr, worker: &Worker) -> io::Result<SocketAddr> {
        let socket = worker.shared.network.listen(at)?;
        let address = match at.port() {
            0 => socket.local_addr()?,
            _ => at,
        };
        self.bound.insert(place, socket);
        Ok(address)
    }

    fn serve(&mut self, places: &Places, worker: &Rc<Worker>) {
        self.serving.retain(|place, _| places.contains_key(place));
        for (place, socket) in std::mem::take(&mut self.bound) {
            let Some(listener) = places.get(&place) else {
                continue;
            };
            let (stop, stopped) = oneshot::channel::<()>();
            let stopped = async {
                let _ = stopped.await;
            };
            let accepting = listener::accept(worker.clone(), listener.clone(), socket, stopped);
            worker.drain.spawn(accepting);
            self.serving.insert(place, stop);
        }
    }
}
