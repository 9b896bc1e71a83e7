//! The serving side of one stream.
//!
//! A machine remembers what the client subscribed to and what it holds. [`Server::next`] compares that with what it should
//! hold and makes the one message that is due; it is called until it returns `None`, whenever the set changed or a request
//! came, but only when there is room to send. So changes coalesce by themselves and nothing queues up here.
//!
//! Order: clusters, endpoints, listeners, route configurations; then, once listeners and route configurations are
//! acknowledged, the clusters and endpoints that nothing needs any more are taken away.

mod channel;
mod delta;
mod plan;
mod sotw;
#[cfg(test)]
mod tests;

pub use delta::DeltaServer;
pub use sotw::SotwServer;

use super::{Name, Node, ProtocolError, ResourceSet, types::ByType};
use crate::xds::ResourceType;

use channel::Channel;

/// One of the two protocols, from the server's side.
pub trait Server: Default + Send + 'static {
    /// What the client sends.
    type Request: Send;
    /// What the client is sent.
    type Response: Send;

    /// Takes the description of the client out of a request; the first one on a stream must have it.
    fn take_node(request: &mut Self::Request) -> Option<Node>;

    /// Digests a request.
    ///
    /// # Errors
    /// The stream must be ended.
    fn receive(&mut self, request: Self::Request) -> Result<Received, ProtocolError>;

    /// The next message that brings the client closer to `set`, as if it were sent at once.
    fn next(&mut self, set: &ResourceSet) -> Option<Self::Response>;

    /// Where the client stands in respect of `set`.
    fn status(&self, set: &ResourceSet) -> Status;

    /// Where the client stands, type by type.
    fn report(&self) -> Vec<Report>;
}

/// What a request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The client wants something else than before.
    Subscription(ResourceType),
    /// It took a response.
    Ack(ResourceType),
    /// It refused one, and why.
    Nack(ResourceType, String),
    /// It speaks of a response that was followed by another one; nothing happened.
    Stale(ResourceType),
    /// It asks for what nobody serves here; nothing happened.
    UnknownType(String),
}

/// Where a client stands in respect of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Something is still to be sent, subscribed to or acknowledged.
    Pending,
    /// It took everything it subscribed to.
    Acknowledged,
    /// Everything was sent and answered, but some of it refused.
    Rejected(Vec<Refusal>),
}

/// A type of which the client refused something it has not been sent a better version of since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The type.
    pub resource_type: ResourceType,
    /// Resources of the refused response: the culprits are among them.
    pub names: Vec<Name>,
    /// The client's explanation.
    pub reason: String,
}

/// Where a client stands with one type it subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The type.
    pub resource_type: ResourceType,
    /// Version of the last set of which it took everything; `None`: none yet.
    pub acknowledged: Option<Name>,
    /// Resources it was sent or says it has.
    pub resources: usize,
    /// What it refused last, unless that is mended.
    pub refused: Option<String>,
}

/// The state that both protocols share.
#[derive(Debug, Default)]
struct Stream {
    channels: ByType<Channel>,
    nonces: u64,
}

impl Stream {
    fn channel(&mut self, resource_type: ResourceType) -> &mut Channel {
        self.channels.get_mut(resource_type)
    }

    /// Sends endpoints again after a request for clusters: the client's clusters wait for them, even if it knows them.
    fn repeat_dependents(&mut self, resource_type: ResourceType) {
        if resource_type == ResourceType::Cluster {
            self.channel(ResourceType::Endpoints).forget_sent();
        }
    }

    fn status(&self, set: &ResourceSet) -> Status {
        if self.channels.iter().any(|(_, channel)| channel.awaits_answer()) || plan::makes(self, set) {
            return Status::Pending;
        }
        let refusals: Vec<_> = self
            .channels
            .iter()
            .filter_map(|(kind, channel)| channel.refusal(kind))
            .collect();
        if !refusals.is_empty() {
            return Status::Rejected(refusals);
        }
        let lacks = |kind| self.lacks_dependents(kind, set);
        if plan::breaks(self, set) || lacks(ResourceType::Cluster) || lacks(ResourceType::Listener) {
            return Status::Pending;
        }
        Status::Acknowledged
    }

    /// Whether the client took resources but has not asked yet for what they point at.
    fn lacks_dependents(&self, kind: ResourceType, set: &ResourceSet) -> bool {
        kind.dependents().is_some_and(|dependents| {
            let wanted = self.channels.get(dependents);
            let mut names = self
                .channels
                .get(kind)
                .target(kind, set)
                .flat_map(|entry| &entry.requires);
            names.any(|name| !wanted.wants(name))
        })
    }

    fn report(&self) -> Vec<Report> {
        self.channels
            .iter()
            .filter_map(|(kind, channel)| channel.report(kind))
            .collect()
    }
}
