//! The receiving side: what a proxy holds, and how it answers.
//!
//! A response becomes an [`Offer`]: the bundle that should run if all goes well. Whoever runs it takes it, or names what it
//! cannot take and gets a smaller offer, until [`Client::conclude`] makes it what is held and writes the answer. Nothing is
//! acknowledged before that. What a client holds survives its streams.
//!
//! Invariants: a bundle never contains a listener without its route configurations nor a cluster without its endpoints:
//! until these arrive the earlier version stays; a refused resource leaves its last good version in force; resources are
//! dropped only when a server says so (clusters, listeners) or nothing points at them any more (the others).

mod delta;
mod holdings;
mod offer;
mod secrets;
mod sotw;
#[cfg(test)]
mod tests;

pub use delta::Delta;
pub use holdings::Outside;
pub use offer::Offer;
pub use secrets::{SecretClient, SecretOffer};
pub use sotw::Sotw;

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::google::rpc::Status;

use self::{holdings::Holdings, offer::Contents};
use super::{Name, Node, ProtocolError, Rejection, nack, types::ByType};
use crate::{bundle::Bundle, xds::ResourceType};

/// One of the two protocols, from the client's side.
pub trait Protocol: Default + Send + 'static {
    /// What the server is sent.
    type Request: Send;
    /// What the server sends.
    type Response: Send;

    /// The type of what a response carries.
    fn type_url(response: &Self::Response) -> &str;

    /// Describes the client; due in the first request of a stream.
    fn set_node(request: &mut Self::Request, node: Node);

    #[doc(hidden)]
    fn read(&mut self, response: Self::Response) -> Result<Contents, ProtocolError>;

    #[doc(hidden)]
    fn open(&mut self, subscription: &Subscription<'_>, holdings: &Holdings) -> Self::Request;

    #[doc(hidden)]
    fn change(&mut self, subscription: &Subscription<'_>, former: &BTreeSet<Name>) -> Self::Request;

    #[doc(hidden)]
    fn answer(&mut self, subscription: &Subscription<'_>, answer: Answer) -> Self::Request;
}

/// What a client wants of a type. No names: everything, of a type where that is meant.
#[derive(Debug)]
pub struct Subscription<'a> {
    resource_type: ResourceType,
    names: &'a BTreeSet<Name>,
}

/// How a response is answered.
#[derive(Debug)]
pub struct Answer {
    nonce: String,
    version: String,
    error: Option<Status>,
}

/// What a proxy asks a control plane for, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Its listeners.
    pub listeners: bool,
    /// Its clusters.
    pub clusters: bool,
}

/// A proxy's side of ADS.
#[derive(Debug, Default)]
pub struct Client<P> {
    wants: Wants,
    protocol: P,
    holdings: Holdings,
    active: Arc<Bundle>,
    subscribed: ByType<BTreeSet<Name>>,
    received: ByType<bool>,
}

/// What became of a response.
#[derive(Debug)]
pub enum Received {
    /// It is to be tried and concluded.
    Offer(Box<Offer>),
    /// It is of a type that was never asked for; nothing happened.
    UnknownType(String),
}

impl Wants {
    /// Whether all resources of a type are asked for.
    fn all(self, resource_type: ResourceType) -> bool {
        match resource_type {
            ResourceType::Cluster => self.clusters,
            ResourceType::Listener => self.listeners,
            ResourceType::Endpoints | ResourceType::RouteConfig | ResourceType::Secret => false,
        }
    }
}

impl Default for Wants {
    /// Everything.
    fn default() -> Self {
        Self {
            listeners: true,
            clusters: true,
        }
    }
}

impl<P: Protocol> Client<P> {
    /// Holds nothing yet.
    pub fn new(wants: Wants) -> Self {
        Self {
            wants,
            protocol: P::default(),
            holdings: Holdings::default(),
            active: Arc::default(),
            subscribed: ByType::default(),
            received: ByType::default(),
        }
    }

    /// What should be running.
    pub fn active(&self) -> &Arc<Bundle> {
        &self.active
    }

    /// Whether what is wanted was received, since it was made, and none of it waits for anything.
    pub fn is_complete(&self) -> bool {
        let lacks = |kind| self.wants.all(kind) && !self.received.get(kind);
        !lacks(ResourceType::Cluster) && !lacks(ResourceType::Listener) && self.warming().is_empty()
    }

    /// Whether there is anything to ask for.
    pub fn is_interested(&self) -> bool {
        let mut subscribed = self.subscribed.iter();
        subscribed.any(|(kind, names)| self.wants.all(kind) || !names.is_empty())
    }

    /// Accepted clusters and listeners that do not run, because what they point at was not received yet; and what is
    /// [pointed at from outside](Self::point_at) and was not received yet.
    pub fn warming(&self) -> Vec<(ResourceType, Name)> {
        self.holdings.warming()
    }

    /// The first requests of a new stream.
    pub fn connect(&mut self) -> Vec<P::Request> {
        self.protocol = P::default();
        let mut requests = Vec::new();
        for (resource_type, names) in self.subscribed.iter() {
            if self.wants.all(resource_type) || !names.is_empty() {
                let subscription = Subscription { resource_type, names };
                requests.push(self.protocol.open(&subscription, &self.holdings));
            }
        }
        requests
    }

    /// Judges a response.
    ///
    /// # Errors
    /// The stream must be ended.
    pub fn receive(&mut self, response: P::Response) -> Result<Received, ProtocolError> {
        let contents = self.protocol.read(response)?;
        let Some(resource_type) = ResourceType::from_type_url(&contents.type_url) else {
            return Ok(Received::UnknownType(contents.type_url));
        };
        if resource_type.is_wildcard() && !self.wants.all(resource_type) {
            return Ok(Received::UnknownType(contents.type_url));
        }
        if contents.nonce.is_empty() {
            return Err(ProtocolError::NoNonce(resource_type));
        }
        let wanted = |name: &str| resource_type.is_wildcard() || self.subscribed.get(resource_type).contains(name);
        let offer = Offer::judge(resource_type, contents, wanted, &self.holdings, &self.active);
        Ok(Received::Offer(Box::new(offer)))
    }

    /// Whether an offer changes what should run; if not, there is nothing to try.
    pub fn is_news(&self, offer: &Offer) -> bool {
        *offer.bundle() != self.active
    }

    /// Takes out of an offer what could not be run. If that does not make it smaller, all of it is taken back.
    pub fn reject(&self, offer: &mut Offer, rejections: Vec<Rejection>) {
        offer.reject(rejections, &self.holdings, &self.active);
    }

    /// Makes an offer what is held, and answers it: changed subscriptions first, the acknowledgement last, so that a server
    /// that sees the latter knows the former.
    pub fn conclude(&mut self, offer: Offer) -> Vec<P::Request> {
        let Offer {
            resource_type,
            nonce,
            version,
            rejections,
            holdings,
            active,
            ..
        } = offer;
        self.holdings = holdings;
        self.active = active;
        *self.received.get_mut(resource_type) = true;
        // What clusters and their endpoints point at does not depend on listeners and their routes, and the other way round.
        let concerned = match resource_type {
            ResourceType::Cluster | ResourceType::Endpoints => Some(ResourceType::Endpoints),
            ResourceType::Listener | ResourceType::RouteConfig => Some(ResourceType::RouteConfig),
            ResourceType::Secret => None,
        };
        let mut requests: Vec<_> = concerned.and_then(|kind| self.follow(kind)).into_iter().collect();
        let answer = Answer {
            nonce,
            version,
            error: nack(&rejections),
        };
        let names = self.subscribed.get(resource_type);
        requests.push(self.protocol.answer(&Subscription { resource_type, names }, answer));
        requests
    }

    /// Takes note of what is pointed at from outside: it is subscribed to, and is part of every bundle once it is there.
    /// Returns the requests that are due on an open stream.
    pub fn point_at(&mut self, outside: Arc<Outside>) -> Vec<P::Request> {
        self.holdings.set_outside(outside);
        self.follow_pointers()
    }

    fn follow_pointers(&mut self) -> Vec<P::Request> {
        let kinds = [ResourceType::Endpoints, ResourceType::RouteConfig].into_iter();
        kinds.filter_map(|kind| self.follow(kind)).collect()
    }

    /// Subscribes to what is pointed at now, and forgets the rest.
    fn follow(&mut self, resource_type: ResourceType) -> Option<P::Request> {
        let names = self.holdings.pointed_at(resource_type, &self.active);
        if names == *self.subscribed.get(resource_type) {
            return None;
        }
        self.holdings.retain(resource_type, &names);
        let former = std::mem::replace(self.subscribed.get_mut(resource_type), names);
        let names = self.subscribed.get(resource_type);
        let subscription = Subscription { resource_type, names };
        if former.is_empty() {
            return Some(self.protocol.open(&subscription, &self.holdings));
        }
        Some(self.protocol.change(&subscription, &former))
    }
}
