//! Chooses one host of a cluster. Holds no sockets, reads no clock; randomness is a parameter.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use mesh::cluster::LbPolicy;
use rand::{Rng, RngExt};

/// One address a cluster's traffic may go to.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The name it was resolved from; the address in text form if there is none. `%UPSTREAM_HOST_NAME%`.
    pub(crate) hostname: Arc<str>,
    /// Share of traffic; at least 1.
    pub(crate) weight: u32,
    active: AtomicU32,
}

/// A request or connection in flight to a host, until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Host>);

/// The hosts of a cluster at one time. Never changes; a discovery result replaces the whole.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    all: Vec<Arc<Host>>,
    /// Running sums of the weights.
    sums: Vec<u64>,
    next: AtomicUsize,
}

impl Host {
    /// A host with nothing in flight.
    pub(crate) fn new(address: SocketAddr, hostname: Arc<str>, weight: u32) -> Self {
        Self {
            address,
            hostname,
            weight: weight.max(1),
            active: AtomicU32::new(0),
        }
    }

    /// Counts a request or connection, for choosing the less busy host.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.active.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Requests and connections in flight.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hosts {
    /// A set of hosts.
    pub(crate) fn new(all: Vec<Arc<Host>>) -> Self {
        let sums = all
            .iter()
            .scan(0u64, |sum, host| {
                *sum += u64::from(host.weight);
                Some(*sum)
            })
            .collect();
        Self {
            all,
            sums,
            next: AtomicUsize::new(0),
        }
    }

    /// The hosts, in order.
    #[cfg(test)]
    pub(crate) fn all(&self) -> &[Arc<Host>] {
        &self.all
    }

    /// The set that follows this one. A host that stays keeps what it counts.
    pub(crate) fn followed_by(&self, hosts: Vec<Host>) -> Self {
        let key = |host: &Host| (host.address, host.weight, host.hostname.clone());
        let known: HashMap<_, _> = self.all.iter().map(|host| (key(host), host)).collect();
        let keep = |host: Host| {
            known
                .get(&key(&host))
                .map_or_else(|| Arc::new(host), |known| Arc::clone(known))
        };
        Self::new(hosts.into_iter().map(keep).collect())
    }

    /// Chooses a host that is not in `avoid`; if all are, any. `None`: there are none.
    pub(crate) fn pick(&self, policy: LbPolicy, avoid: &[SocketAddr], rng: &mut impl Rng) -> Option<&Arc<Host>> {
        let mut host = self.draw(policy, rng)?;
        for _ in 0..self.all.len() {
            if !avoid.contains(&host.address) {
                return Some(host);
            }
            host = self.in_turn()?;
        }
        Some(host)
    }

    fn draw(&self, policy: LbPolicy, rng: &mut impl Rng) -> Option<&Arc<Host>> {
        match policy {
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided => self.in_turn(),
            LbPolicy::Random => self.at_random(rng),
            LbPolicy::LeastRequest => {
                let (one, two) = (self.at_random(rng)?, self.at_random(rng)?);
                Some(if two.active() < one.active() { two } else { one })
            }
        }
    }

    /// Walks the weights, so that a host of weight 2 has two turns of each round.
    fn in_turn(&self) -> Option<&Arc<Host>> {
        let total = *self.sums.last()?;
        let turn = u64::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        self.at(turn % total)
    }

    fn at_random(&self, rng: &mut impl Rng) -> Option<&Arc<Host>> {
        let total = *self.sums.last()?;
        self.at(rng.random_range(0..total))
    }

    fn at(&self, point: u64) -> Option<&Arc<Host>> {
        self.all.get(self.sums.partition_point(|sum| *sum <= point))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn hosts(weights: &[u32]) -> Hosts {
        let host =
            |(at, weight): (usize, &u32)| Arc::new(Host::new(address(u8::try_from(at).unwrap()), "h".into(), *weight));
        Hosts::new(weights.iter().enumerate().map(host).collect())
    }

    fn counts(hosts: &Hosts, policy: LbPolicy, picks: usize) -> Vec<usize> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = vec![0; hosts.all().len()];
        for _ in 0..picks {
            let picked = hosts.pick(policy, &[], &mut rng).unwrap();
            counts[usize::from(match picked.address.ip() {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => unreachable!(),
            })] += 1;
        }
        counts
    }

    #[test]
    fn takes_turns_by_weight() {
        assert_eq!(counts(&hosts(&[1, 2, 1]), LbPolicy::RoundRobin, 8), [2, 4, 2]);
    }

    #[test]
    fn draws_by_weight() {
        let counts = counts(&hosts(&[1, 3]), LbPolicy::Random, 4000);
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn prefers_the_less_busy_of_two() {
        let hosts = hosts(&[1, 1]);
        let busy: Vec<_> = (0..10).map(|_| hosts.all()[0].begin()).collect();
        let seen = counts(&hosts, LbPolicy::LeastRequest, 400);
        assert!(seen[0] < 150 && seen[1] > 250, "{seen:?}");
        drop(busy);
        assert_eq!(hosts.all()[0].active(), 0);
    }

    #[test]
    fn avoids_hosts_while_there_is_another() {
        let (hosts, mut rng) = (hosts(&[1, 1, 1]), StdRng::seed_from_u64(1));
        for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest] {
            for _ in 0..20 {
                let picked = hosts.pick(policy, &[address(0), address(1)], &mut rng).unwrap();
                assert_eq!(picked.address, address(2));
            }
            assert!(
                hosts
                    .pick(policy, &[address(0), address(1), address(2)], &mut rng)
                    .is_some()
            );
        }
    }

    #[test]
    fn a_host_that_stays_keeps_what_it_counts() {
        let old = hosts(&[1, 1]);
        let _busy = old.all()[0].begin();
        let host = |last, weight| Host::new(address(last), "h".into(), weight);
        let new = old.followed_by(vec![host(0, 1), host(1, 2), host(2, 1)]);
        let active: Vec<_> = new.all().iter().map(|host| host.active()).collect();
        assert_eq!(active, [1, 0, 0]);
        assert!(Arc::ptr_eq(&old.all()[0], &new.all()[0]) && !Arc::ptr_eq(&old.all()[1], &new.all()[1]));
    }

    #[test]
    fn no_hosts_give_none() {
        let mut rng = StdRng::seed_from_u64(1);
        for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest] {
            assert!(Hosts::default().pick(policy, &[], &mut rng).is_none());
        }
    }
}
