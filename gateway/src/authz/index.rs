//! Finds the policies that could match a request, by its caller's namespace and its host.
//!
//! Every policy sits in the buckets of the namespaces and hosts it needs; a policy that needs neither sits in the one bucket
//! that every request looks into. A request looks into a number of buckets that depends on itself only: the namespaces of its
//! identity times the dots in its host.

use std::{collections::BTreeMap, sync::Arc};

use mesh::{
    PolicyName,
    authz::{Facts, Policy, Rbac, RbacAction},
};

use super::keys::{self, HostKey, Keys, MAX_SUFFIX};
use crate::map::Map;

/// The policies of one action.
#[derive(Debug)]
pub(super) struct Index {
    action: RbacAction,
    /// In byte order of their names.
    policies: Vec<(PolicyName, Arc<Policy>)>,
    namespaces: Map<Box<str>, Id>,
    hosts: Map<Box<str>, Id>,
    suffixes: Map<Box<str>, Id>,
    /// Positions in `policies`, ascending.
    buckets: Map<(Id, Id), Vec<Position>>,
}

/// A namespace, host or suffix that some policy names.
type Id = u32;
type Position = u32;

/// Stands for "whatever the request has".
const ANY: Id = 0;
/// A policy with more pairs of namespace and host than this is found by its hosts alone.
const MAX_PAIRS: usize = 4096;

impl Index {
    pub(super) fn build(rbac: &Rbac) -> Self {
        let mut index = Self {
            action: rbac.action,
            policies: Vec::with_capacity(rbac.policies.len()),
            namespaces: Map::default(),
            hosts: Map::default(),
            suffixes: Map::default(),
            buckets: Map::default(),
        };
        index.insert_all(&rbac.policies);
        index
    }

    fn insert_all(&mut self, policies: &BTreeMap<PolicyName, Arc<Policy>>) {
        for (position, (name, policy)) in (0..).zip(policies) {
            let hosts = self.host_ids(keys::of_permissions(&policy.permissions));
            let mut namespaces = self.namespace_ids(keys::of_principals(&policy.principals));
            if hosts != [ANY] && hosts.len().saturating_mul(namespaces.len()) > MAX_PAIRS {
                namespaces = vec![ANY];
            }
            for namespace in &namespaces {
                for host in &hosts {
                    self.buckets.entry((*namespace, *host)).or_default().push(position);
                }
            }
            self.policies.push((name.clone(), policy.clone()));
        }
    }

    fn namespace_ids(&mut self, keys: Keys<String>) -> Vec<Id> {
        match keys {
            Keys::Unknown => vec![ANY],
            Keys::OneOf(names) => names
                .into_iter()
                .map(|name| intern(&mut self.namespaces, name))
                .collect(),
        }
    }

    fn host_ids(&mut self, keys: Keys<HostKey>) -> Vec<Id> {
        // Hosts and suffixes share one range of ids, since both are the second half of a bucket's key.
        match keys {
            Keys::Unknown => vec![ANY],
            Keys::OneOf(keys) => keys
                .into_iter()
                .map(|key| {
                    let next = next_id(self.hosts.len() + self.suffixes.len());
                    let (table, name) = match key {
                        HostKey::Exact(name) => (&mut self.hosts, name),
                        HostKey::Suffix(name) => (&mut self.suffixes, name),
                    };
                    *table.entry(name.into()).or_insert(next)
                })
                .collect(),
        }
    }

    /// Whether the request may pass, and the policy that decided, if one did.
    pub(super) fn decide<F: Facts + ?Sized>(&self, facts: &F) -> (bool, Option<&PolicyName>) {
        let matched = self.first_match(facts);
        (self.action.allows(matched.is_some()), matched)
    }

    /// The first policy in byte order of its name that matches.
    fn first_match<F: Facts + ?Sized>(&self, facts: &F) -> Option<&PolicyName> {
        let mut first: Option<Position> = None;
        self.each_bucket(facts, |bucket| {
            let earlier = bucket
                .iter()
                .take_while(|position| first.is_none_or(|first| **position < first));
            if let Some(position) = earlier
                .copied()
                .find(|position| self.policy(*position).1.matches(facts))
            {
                first = Some(position);
            }
        });
        first.map(|position| &self.policy(position).0)
    }

    fn policy(&self, position: Position) -> &(PolicyName, Arc<Policy>) {
        // Positions are made while `policies` grows, which it never unlearns; u32 fits in usize on every target of ours.
        &self.policies[position as usize]
    }

    pub(super) fn each_bucket<F: Facts + ?Sized>(&self, facts: &F, mut visit: impl FnMut(&[Position])) {
        let mut namespaces = smallvec::SmallVec::<[Id; 2]>::from_slice(&[ANY]);
        if !self.namespaces.is_empty() {
            let names = facts.peer_names().unwrap_or_default();
            let known = names
                .iter()
                .flat_map(|name| keys::namespaces(name))
                .filter_map(|name| self.namespaces.get(name));
            for id in known {
                if !namespaces.contains(id) {
                    namespaces.push(*id);
                }
            }
        }
        let mut visit_host = |host: Id| {
            for namespace in &namespaces {
                if let Some(bucket) = self.buckets.get(&(*namespace, host)) {
                    visit(bucket);
                }
            }
        };
        visit_host(ANY);
        if (self.hosts.is_empty() && self.suffixes.is_empty()) || !facts.is_http() {
            return;
        }
        let Some(authority) = facts.header_lines(":authority").next() else {
            return;
        };
        if let Some(id) = self.hosts.get(&*keys::host(&authority)) {
            visit_host(*id);
        }
        if !self.suffixes.is_empty() {
            let authority = authority.to_ascii_lowercase();
            suffixes(&authority)
                .filter_map(|suffix| self.suffixes.get(suffix))
                .for_each(|id| visit_host(*id));
        }
    }
}

/// The ends of an authority that begin with a dot and are short enough to be in the index.
fn suffixes(authority: &str) -> impl Iterator<Item = &str> {
    let first = authority.len().saturating_sub(MAX_SUFFIX);
    let dots = authority.match_indices('.').map(|(dot, _)| dot);
    dots.filter(move |dot| *dot >= first).map(|dot| &authority[dot..])
}

fn intern(table: &mut Map<Box<str>, Id>, name: String) -> Id {
    let next = next_id(table.len());
    *table.entry(name.into()).or_insert(next)
}

/// Ids count from 1; 0 is [`ANY`]. Policies are bounded far below `u32::MAX` by the size of a resource; beyond it, every
/// name shares one bucket, which is slower but not wrong.
fn next_id(known: usize) -> Id {
    Id::try_from(known).unwrap_or(Id::MAX - 1) + 1
}
