//! Connections to upstream hosts, kept for the next request. One set of pools per worker; nothing of it is shared or locked.
//!
//! HTTP/1 connections serve one request at a time and wait in the pool between two. HTTP/2 connections serve as many as the
//! peer lets them; another is opened when all are full. A pool belongs to a cluster object, not to its name: a cluster whose
//! settings changed starts with no connections, and those of the old one end with their last request.
//!
//! Does not choose hosts and does not retry.

mod host;
mod lease;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use super::{balance::Host, cluster::Cluster, connect::Purpose};
use crate::{drain::Drain, error::ProxyError, limits, map::Map, network::Network};
use host::HostPool;
pub(crate) use host::LocalExecutor;
pub(crate) use lease::{Lease, SendError};

/// All pools of a worker.
pub(crate) struct Pools {
    hosts: Rc<RefCell<Map<Key, Rc<HostPool>>>>,
    drain: Drain,
    sweeping: Cell<bool>,
}

/// Connections that are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Address of the cluster object, which the pool's weak reference keeps from being used again.
    cluster: usize,
    address: SocketAddr,
    http2: bool,
    server_name: Option<mesh::host::Host>,
}

/// Where a request goes.
pub(crate) struct Target<'a> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) host: &'a Arc<Host>,
    /// Over HTTP/2.
    pub(crate) http2: bool,
    pub(crate) purpose: Purpose,
}

impl Pools {
    /// No connections yet. Those to come end when `drain` says so.
    pub(crate) fn new(drain: Drain) -> Self {
        Self {
            hosts: Rc::default(),
            drain,
            sweeping: Cell::new(false),
        }
    }

    /// A connection for one request: an idle one, a place on a shared one, or a new one.
    ///
    /// # Errors
    /// [`ProxyError::Overflow`] if a circuit breaker is open, [`ProxyError::Connect`].
    pub(crate) async fn checkout(&self, network: &Arc<dyn Network>, target: &Target<'_>) -> Result<Lease, ProxyError> {
        let request = target
            .cluster
            .breakers()
            .requests
            .acquire()
            .ok_or(ProxyError::Overflow)?;
        let flight = target.host.begin();
        let pool = self.pool(target);
        let (connection, reused) = match pool.reuse(target.http2) {
            Some(connection) => (connection, true),
            // Boxed, for making a connection takes far more state than most requests need.
            None => Box::pin(pool.connection(network, target, &self.drain)).await?,
        };
        Ok(Lease::new(connection, reused, pool, request, flight))
    }

    fn pool(&self, target: &Target<'_>) -> Rc<HostPool> {
        self.start_sweeping();
        let key = Key {
            cluster: Arc::as_ptr(target.cluster).addr(),
            address: target.host.address,
            http2: target.http2,
            server_name: target.purpose.host.clone(),
        };
        let mut hosts = self.hosts.borrow_mut();
        let make = || Rc::new(HostPool::new(target.cluster));
        hosts.entry(key).or_insert_with(make).clone()
    }

    /// Starts, once, the task that ends what nobody uses any more.
    fn start_sweeping(&self) {
        if self.sweeping.replace(true) {
            return;
        }
        let (hosts, drain) = (self.hosts.clone(), self.drain.clone());
        self.drain.spawn(async move {
            while tokio::time::timeout(limits::POOL_SWEEP, drain.draining())
                .await
                .is_err()
            {
                hosts.borrow_mut().retain(|_, pool| pool.sweep());
            }
            hosts.borrow_mut().drain().for_each(|(_, pool)| pool.retire());
        });
    }
}
