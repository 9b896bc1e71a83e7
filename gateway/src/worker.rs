//! One worker: a thread with its own runtime, listening sockets, connections and pools. Nothing of it is shared or locked on
//! the request path.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::rngs::SmallRng;

use crate::{drain::Drain, network::Network, snapshot::SnapshotCell};

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
    /// For balancing and weights; not for secrets.
    pub(crate) rng: RefCell<SmallRng>,
}

impl Shared {
    /// Nothing configured yet.
    pub(crate) fn new(network: Arc<dyn Network>) -> Self {
        Self {
            snapshot: SnapshotCell::default(),
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
            drain,
            rng: RefCell::new(rand::make_rng()),
        }
    }
}
