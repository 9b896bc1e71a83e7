//! Keeps the hosts of a DNS cluster current: look up, publish, sleep until the answer ends.
//!
//! Invariants: what was found stays until something else is known. A failed lookup changes nothing; a name that does not
//! exist any more has no hosts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use mesh::{
    cluster::{DnsSettings, Endpoint, EndpointAddress},
    host::Host as Name,
};
use rand::RngExt;

use super::{
    balance::Host,
    cluster::HostSet,
    dns::{Answer, LookupError, Resolver},
};
use crate::limits;

/// What a DNS cluster looks up.
pub(crate) struct Discovery {
    endpoints: Vec<Endpoint>,
    settings: DnsSettings,
    /// `LOGICAL_DNS`: one address at a time.
    first_only: bool,
    /// The last answer of each endpoint.
    known: Vec<Answer>,
    failures: u32,
}

impl Discovery {
    /// Nothing is known yet.
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: DnsSettings, first_only: bool) -> Self {
        Self {
            known: vec![Answer::default(); endpoints.len()],
            endpoints,
            settings,
            first_only,
            failures: 0,
        }
    }

    /// Runs for ever; its owner ends it.
    pub(crate) async fn run(mut self, resolver: Arc<Resolver>, hosts: Arc<HostSet>) {
        loop {
            let lookups = self
                .endpoints
                .iter()
                .map(|endpoint| lookup(&resolver, endpoint, &self.settings));
            let results = join_all(lookups).await;
            let pause = self.take(results, &hosts);
            let jitter = rand::rng().random_range(Duration::ZERO..limits::DNS_JITTER);
            tokio::time::sleep(pause + jitter).await;
        }
    }

    /// Takes in one round of results, publishes hosts, says when to look again.
    fn take(&mut self, results: Vec<Result<Answer, LookupError>>, hosts: &HostSet) -> Duration {
        let mut failed = false;
        for ((known, endpoint), result) in self.known.iter_mut().zip(&self.endpoints).zip(results) {
            match result {
                Ok(answer) => *known = answer,
                Err(error) => {
                    failed = true;
                    tracing::warn!(cluster = %hosts.cluster(), name = ?endpoint.address, %error, "name lookup failed");
                }
            }
        }
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        hosts.publish(self.hosts());
        self.pause()
    }

    fn hosts(&self) -> Vec<Host> {
        let mut hosts = Vec::new();
        for (endpoint, known) in self
            .endpoints
            .iter()
            .zip(&self.known)
            .filter(|(endpoint, _)| endpoint.healthy)
        {
            let count = if self.first_only { 1 } else { known.addresses.len() };
            for ip in known.addresses.iter().take(count) {
                hosts.push(host(endpoint, SocketAddr::new(*ip, port(&endpoint.address))));
            }
        }
        hosts
    }

    fn pause(&self) -> Duration {
        let refresh = self
            .settings
            .refresh
            .unwrap_or(limits::DNS_REFRESH)
            .max(limits::DNS_MIN_REFRESH);
        if self.failures > 0 {
            let backoff = limits::DNS_MIN_REFRESH.saturating_mul(2u32.saturating_pow(self.failures - 1));
            return backoff.min(refresh);
        }
        let ttl = self.known.iter().filter_map(|answer| answer.ttl).min();
        ttl.filter(|ttl| self.settings.respect_ttl && !ttl.is_zero())
            .unwrap_or(refresh)
    }
}

/// A host with an endpoint's weight and name.
pub(crate) fn host(endpoint: &Endpoint, address: SocketAddr) -> Host {
    let hostname = match &endpoint.address {
        EndpointAddress::Name(name, _) => name.as_str().into(),
        EndpointAddress::Socket(address) => address.to_string().into(),
        EndpointAddress::Pipe(path) => path.display().to_string().into(),
    };
    Host::new(address, hostname, endpoint.weight.unwrap_or(1))
}

fn port(address: &EndpointAddress) -> u16 {
    match address {
        EndpointAddress::Name(_, port) => *port,
        EndpointAddress::Socket(address) => address.port(),
        EndpointAddress::Pipe(_) => 0,
    }
}

async fn lookup(resolver: &Resolver, endpoint: &Endpoint, settings: &DnsSettings) -> Result<Answer, LookupError> {
    match &endpoint.address {
        EndpointAddress::Name(name, _) => resolve(resolver, name, settings).await,
        EndpointAddress::Socket(address) => Ok(Answer {
            addresses: vec![address.ip()],
            ttl: None,
        }),
        // No traffic goes there, so that it is nobody's host.
        EndpointAddress::Pipe(_) => Ok(Answer {
            addresses: Vec::new(),
            ttl: None,
        }),
    }
}

async fn resolve(resolver: &Resolver, name: &Name, settings: &DnsSettings) -> Result<Answer, LookupError> {
    resolver.resolve(name, settings.family).await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh::ClusterName;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn discovery(names: &[&str], first_only: bool) -> (Discovery, HostSet) {
        let endpoint = |name: &&str| Endpoint {
            address: EndpointAddress::Name(Name::parse(name).unwrap(), 443),
            weight: None,
            healthy: true,
        };
        let settings = DnsSettings {
            refresh: Some(Duration::from_secs(60)),
            respect_ttl: true,
            ..DnsSettings::default()
        };
        let hosts = HostSet::new(ClusterName::parse("c").unwrap());
        (
            Discovery::new(names.iter().map(endpoint).collect(), settings, first_only),
            hosts,
        )
    }

    fn answer(last: &[u8]) -> Result<Answer, LookupError> {
        Ok(Answer {
            addresses: last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect(),
            ttl: Some(TTL),
        })
    }

    fn failure() -> Result<Answer, LookupError> {
        Err(LookupError::for_tests("timed out"))
    }

    fn published(hosts: &HostSet) -> Vec<String> {
        hosts.load().all().iter().map(|host| host.address.to_string()).collect()
    }

    #[test]
    fn every_address_of_every_name_is_a_host() {
        let (mut discovery, hosts) = discovery(&["a.test", "b.test"], false);
        let pause = discovery.take(vec![answer(&[1, 2]), answer(&[3])], &hosts);
        assert_eq!(published(&hosts), ["192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443"]);
        assert_eq!(pause, TTL);
        assert_eq!(&*hosts.load().all()[2].hostname, "b.test");
    }

    #[test]
    fn a_logical_name_has_one_address_at_a_time() {
        let (mut discovery, hosts) = discovery(&["a.test"], true);
        discovery.take(vec![answer(&[1, 2])], &hosts);
        assert_eq!(published(&hosts), ["192.0.2.1:443"]);
    }

    #[test]
    fn a_failed_lookup_changes_nothing_and_is_tried_again_soon() {
        let (mut discovery, hosts) = discovery(&["a.test", "b.test"], false);
        discovery.take(vec![answer(&[1]), answer(&[2])], &hosts);
        let pauses: Vec<_> = (0..8)
            .map(|_| discovery.take(vec![failure(), answer(&[3])], &hosts).as_secs())
            .collect();
        assert_eq!(published(&hosts), ["192.0.2.1:443", "192.0.2.3:443"]);
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(discovery.take(vec![answer(&[1]), answer(&[2])], &hosts), TTL);
    }

    #[test]
    fn a_name_that_is_gone_has_no_hosts() {
        let (mut discovery, hosts) = discovery(&["a.test"], false);
        discovery.take(vec![answer(&[1])], &hosts);
        let pause = discovery.take(vec![Ok(Answer::default())], &hosts);
        assert!(published(&hosts).is_empty());
        assert_eq!(pause, Duration::from_secs(60));
    }

    #[test]
    fn the_first_result_warms_the_cluster_even_if_it_is_a_failure() {
        let (mut discovery, hosts) = discovery(&["a.test"], false);
        assert!(!hosts.is_warm());
        discovery.take(vec![failure()], &hosts);
        assert!(hosts.is_warm());
    }
}
