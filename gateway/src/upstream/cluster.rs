//! A cluster at run time: its settings, the hosts that were found for it, what is in flight.
//!
//! Lives longer than a snapshot: a cluster whose settings did not change is carried over as it is, with its hosts and
//! counters. Invariant: a cluster without hosts refuses; it never falls back to an address that was not configured.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use mesh::{
    ClusterName,
    cluster::{self as model, EndpointAddress, Endpoints},
};
use rand::Rng;
use tokio::sync::watch;

use super::{
    balance::{Host, Hosts},
    breaker::Breakers,
    discovery::{self, Discovery},
    dns::Resolver,
};
use crate::{
    connection::Connection,
    drain::{Background, Runtime},
    error::ProxyError,
    tls::{connect::Connector, secrets::Secrets},
};

/// A configured cluster.
pub(crate) struct Cluster {
    settings: Arc<model::Cluster>,
    tls: Option<Connector>,
    hosts: Arc<HostSet>,
    /// The endpoint resource that they are of, so that one that did not change costs nothing.
    endpoints: Mutex<Option<Arc<Endpoints>>>,
    breakers: Breakers,
    alt_stat_name: Option<Arc<str>>,
    /// Ends the lookups when the cluster is no longer used.
    discovery_task: Option<Background>,
}

/// The hosts of a cluster, as they are now.
pub(crate) struct HostSet {
    cluster: ClusterName,
    hosts: ArcSwap<Hosts>,
    warm: watch::Sender<bool>,
}

/// What clusters need to come to life.
pub(crate) struct Environment<'a> {
    /// Certificates and roots.
    pub(crate) secrets: &'a Secrets,
    /// Names.
    pub(crate) resolver: &'a Arc<Resolver>,
    /// Where lookups run.
    pub(crate) runtime: &'a Runtime,
}

impl Cluster {
    /// Starts a cluster. `endpoints` are those of its endpoint resource, if it has one.
    ///
    /// # Errors
    /// What of the settings cannot be used, in words for an operator.
    pub(crate) fn start(
        settings: &Arc<model::Cluster>,
        endpoints: Option<&Arc<Endpoints>>,
        with: &Environment<'_>,
    ) -> Result<Self, String> {
        let tls = settings.tls.as_ref();
        let tls = tls
            .map(|tls| Connector::build(settings, tls, with.secrets))
            .transpose()?;
        let mut cluster = Self {
            settings: settings.clone(),
            tls,
            hosts: Arc::new(HostSet::new(settings.name.clone())),
            endpoints: Mutex::default(),
            breakers: Breakers::new(settings.circuit_breakers),
            alt_stat_name: settings.alt_stat_name.as_deref().map(Arc::from),
            discovery_task: None,
        };
        cluster.discovery_task = cluster.discover(endpoints, with)?;
        Ok(cluster)
    }

    fn discover(
        &self,
        endpoints: Option<&Arc<Endpoints>>,
        with: &Environment<'_>,
    ) -> Result<Option<Background>, String> {
        let discovery = match &self.settings.discovery {
            model::Discovery::Static(endpoints) => return self.hosts.publish_fixed(endpoints).map(|()| None),
            model::Discovery::Eds { .. } => return self.update(endpoints).map(|()| None),
            model::Discovery::OriginalDst => {
                self.hosts.publish(Vec::new());
                return Ok(None);
            }
            model::Discovery::StrictDns(endpoints, dns) => Discovery::new(endpoints.0.clone(), dns.clone(), false),
            model::Discovery::LogicalDns(endpoint, dns) => Discovery::new(vec![endpoint.clone()], dns.clone(), true),
        };
        let running = discovery.run(with.resolver.clone(), self.hosts.clone());
        Ok(Some(with.runtime.spawn(running)))
    }

    /// Takes a new version of the endpoint resource. `None`: there is none yet; hosts stay as they are.
    ///
    /// # Errors
    /// An endpoint is a name, which only DNS clusters resolve.
    pub(crate) fn update(&self, endpoints: Option<&Arc<Endpoints>>) -> Result<(), String> {
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(endpoints) = endpoints.filter(|endpoints| known.as_ref() != Some(*endpoints)) else {
            return Ok(());
        };
        self.hosts.publish_fixed(endpoints)?;
        *known = Some(Arc::clone(endpoints));
        Ok(())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &ClusterName {
        &self.settings.name
    }

    /// Its name in logs, where that is another.
    pub(crate) fn alt_stat_name(&self) -> Option<&Arc<str>> {
        self.alt_stat_name.as_ref()
    }

    /// How it is configured.
    pub(crate) fn settings(&self) -> &Arc<model::Cluster> {
        &self.settings
    }

    /// How TLS is begun. `None`: plaintext.
    pub(crate) fn tls(&self) -> Option<&Connector> {
        self.tls.as_ref()
    }

    /// Bounds on what is in flight.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Whether its hosts are found by looking names up.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.discovery_task.is_some()
    }

    /// The hosts as they are now.
    pub(crate) fn hosts(&self) -> &HostSet {
        &self.hosts
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
        if self.settings.discovery == model::Discovery::OriginalDst {
            return original_destination(conn);
        }
        let hosts = self.hosts.load();
        let picked = hosts.pick(self.settings.lb_policy, avoid, rng);
        picked.cloned().ok_or(ProxyError::NoHealthyHost)
    }
}

impl HostSet {
    /// No hosts, not warm.
    pub(crate) fn new(cluster: ClusterName) -> Self {
        Self {
            cluster,
            hosts: ArcSwap::default(),
            warm: watch::Sender::new(false),
        }
    }

    /// Whose they are.
    pub(crate) fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// As they are now.
    pub(crate) fn load(&self) -> Guard<Arc<Hosts>> {
        self.hosts.load()
    }

    /// Replaces the hosts. One that stays keeps what it counts.
    pub(crate) fn publish(&self, hosts: Vec<Host>) {
        self.hosts.store(Arc::new(self.hosts.load().followed_by(hosts)));
        self.warm.send_replace(true);
    }

    /// Whether something is known, if only that there are no hosts.
    pub(crate) fn is_warm(&self) -> bool {
        *self.warm.borrow()
    }

    /// Waits until something is known.
    pub(crate) async fn warm(&self) {
        // The sender is in `self`, so that it cannot be gone.
        let _ = self.warm.subscribe().wait_for(|warm| *warm).await;
    }

    fn publish_fixed(&self, endpoints: &Endpoints) -> Result<(), String> {
        let usable = endpoints.0.iter().filter(|endpoint| endpoint.healthy);
        let host = |endpoint: &model::Endpoint| fixed_address(endpoint).map(|at| discovery::host(endpoint, at));
        self.publish(usable.map(host).collect::<Result<_, _>>()?);
        Ok(())
    }
}

/// The address of an endpoint that is not looked up.
fn fixed_address(endpoint: &model::Endpoint) -> Result<SocketAddr, String> {
    match &endpoint.address {
        EndpointAddress::Socket(address) => Ok(*address),
        EndpointAddress::Pipe(path) => Err(format!(
            "endpoint {} is a Unix socket; only control planes and secret discovery services may be reached there",
            path.display()
        )),
        EndpointAddress::Name(name, port) => name.ip().map(|ip| SocketAddr::new(ip, *port)).ok_or_else(|| {
            format!("endpoint {name}:{port} is a name; only STRICT_DNS and LOGICAL_DNS clusters resolve names, others need addresses")
        }),
    }
}

/// The one host of a cluster that goes where the client went.
fn original_destination(conn: &Connection) -> Result<Arc<Host>, ProxyError> {
    let address = conn.original_destination.ok_or(ProxyError::NoHealthyHost)?;
    Ok(Arc::new(Host::new(address, address.to_string().into(), 1)))
}
