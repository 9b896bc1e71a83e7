//! A cluster at run time: its settings, the hosts that were found for it, what is in flight.
//!
//! Lives longer than a snapshot: a cluster whose settings did not change is carried over as it is, with its hosts and
//! counters.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use mesh::{
    ClusterName,
    cluster::{self as model, Discovery},
};
use rand::Rng;

use super::{
    balance::{Host, Hosts},
    breaker::Breakers,
};
use crate::{connection::Connection, error::ProxyError};

/// A configured cluster.
pub(crate) struct Cluster {
    settings: model::Cluster,
    hosts: ArcSwap<Hosts>,
    breakers: Breakers,
}

impl Cluster {
    /// A cluster without hosts yet.
    pub(crate) fn new(settings: model::Cluster) -> Self {
        let breakers = Breakers::new(settings.circuit_breakers);
        Self {
            settings,
            hosts: ArcSwap::default(),
            breakers,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &ClusterName {
        &self.settings.name
    }

    /// How it is configured.
    pub(crate) fn settings(&self) -> &model::Cluster {
        &self.settings
    }

    /// Bounds on what is in flight.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Chooses a host for a request or connection of `conn`, preferably none of `avoid`.
    ///
    /// # Errors
    /// [`ProxyError::NoHealthyHost`].
    pub(crate) fn pick(
        &self,
        conn: &Connection,
        avoid: &[SocketAddr],
        rng: &mut impl Rng,
    ) -> Result<Arc<Host>, ProxyError> {
        if self.settings.discovery == Discovery::OriginalDst {
            return original_destination(conn);
        }
        let hosts = self.hosts.load();
        let picked = hosts.pick(self.settings.lb_policy, avoid, rng);
        picked.cloned().ok_or(ProxyError::NoHealthyHost)
    }
}

/// The one host of a cluster that goes where the client went.
fn original_destination(conn: &Connection) -> Result<Arc<Host>, ProxyError> {
    let address = conn.original_destination.ok_or(ProxyError::NoHealthyHost)?;
    Ok(Arc::new(Host::new(address, address.to_string().into(), 1)))
}
