//! Bounds on what is in flight to a cluster: Envoy's circuit breakers, counted over all workers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use mesh::cluster::CircuitBreakers;

use crate::limits;

/// The breakers of one cluster.
#[derive(Debug)]
pub(crate) struct Breakers {
    /// Connections.
    pub(crate) connections: Breaker,
    /// Requests waiting for a connection.
    pub(crate) pending: Breaker,
    /// Requests in flight.
    pub(crate) requests: Breaker,
    /// Retries in flight.
    pub(crate) retries: Breaker,
}

/// One bound. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    limit: u32,
    used: Arc<AtomicU32>,
}

/// A place within a bound, held until dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicU32>);

impl Breakers {
    /// Breakers with nothing in flight.
    pub(crate) fn new(settings: Option<CircuitBreakers>) -> Self {
        let settings = settings.unwrap_or_default();
        Self {
            connections: Breaker::new(settings.max_connections.unwrap_or(limits::BREAKER)),
            pending: Breaker::new(settings.max_pending_requests.unwrap_or(limits::BREAKER)),
            requests: Breaker::new(settings.max_requests.unwrap_or(limits::BREAKER)),
            retries: Breaker::new(settings.max_retries.unwrap_or(limits::BREAKER_RETRIES)),
        }
    }
}

impl Breaker {
    fn new(limit: u32) -> Self {
        Self {
            limit,
            used: Arc::default(),
        }
    }

    /// Takes a place. `None`: the breaker is open.
    pub(crate) fn acquire(&self) -> Option<Permit> {
        let take = |used: u32| (used < self.limit).then(|| used + 1);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| Permit(self.used.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_dropped() {
        let breaker = Breaker::new(2);
        let (one, two) = (breaker.acquire(), breaker.acquire());
        assert!(one.is_some() && two.is_some() && breaker.acquire().is_none());
        drop(one);
        assert!(breaker.acquire().is_some());
    }

    #[test]
    fn defaults_are_envoys() {
        let breakers = Breakers::new(None);
        assert_eq!((breakers.connections.limit, breakers.retries.limit), (1024, 3));
    }
}
