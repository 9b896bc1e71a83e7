//! The state-of-the-world protocol: every response of a type carries everything the client should hold of it.

use std::collections::BTreeSet;

use super::{Received, Report, Server, Status, Stream, plan};
use crate::xds::{
    ResourceType,
    ads::{
        DiscoveryRequest, DiscoveryResponse, MAX_RESOURCES, Name, Node, ProtocolError, ResourceSet, WILDCARD,
        parse_name,
    },
};

/// Serves one `StreamAggregatedResources` stream.
#[derive(Debug, Default)]
pub struct SotwServer(Stream);

impl Server for SotwServer {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn receive(&mut self, request: Self::Request) -> Result<Received, ProtocolError> {
        if !request.resource_locators.is_empty() {
            return Err(ProtocolError::Unsupported("resource_locators"));
        }
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return Ok(Received::UnknownType(request.type_url));
        };
        let names = parse_names(kind, &request.resource_names)?;
        let channel = self.0.channel(kind);
        if !channel.opened || request.response_nonce.is_empty() {
            channel.reset();
            channel.opened = true;
            return self.subscribe(kind, names, true);
        }
        if request.response_nonce != channel.last_nonce() {
            return Ok(Received::Stale(kind));
        }
        let answer = match request.error_detail {
            Some(error) => channel
                .nack(&request.response_nonce, error.message.clone())
                .then_some(Received::Nack(kind, error.message)),
            None => channel.ack(&request.response_nonce).then_some(Received::Ack(kind)),
        };
        let subscription = self.subscribe(kind, names, false)?;
        Ok(answer.unwrap_or(subscription))
    }

    fn next(&mut self, set: &ResourceSet) -> Option<Self::Response> {
        let push = plan::next(&mut self.0, set, usize::MAX)?;
        let channel = self.0.channel(push.kind);
        channel.supersede();
        Some(DiscoveryResponse {
            version_info: set.version(push.kind).to_string(),
            resources: channel.held_entries().map(|entry| entry.any.clone()).collect(),
            type_url: push.kind.type_url().to_owned(),
            nonce: push.nonce,
            ..DiscoveryResponse::default()
        })
    }

    fn status(&self, set: &ResourceSet) -> Status {
        self.0.status(set)
    }

    fn report(&self) -> Vec<Report> {
        self.0.report()
    }
}

impl SotwServer {
    /// Sets what the client wants. Unchanged names mean nothing, none at all end the subscription of a type that is
    /// subscribed to by name.
    fn subscribe(
        &mut self,
        kind: ResourceType,
        names: BTreeSet<Name>,
        initial: bool,
    ) -> Result<Received, ProtocolError> {
        let channel = self.0.channel(kind);
        let wildcard = names.contains(WILDCARD) || kind.is_wildcard() && names.is_empty();
        let names: BTreeSet<_> = names.into_iter().filter(|name| &**name != WILDCARD).collect();
        if !wildcard && names.is_empty() {
            channel.unsubscribe();
            return Ok(Received::Subscription(kind));
        }
        match wildcard {
            true => channel.wildcard = true,
            false => channel.remove_wildcard(),
        }
        for name in channel.names().difference(&names).cloned().collect::<Vec<_>>() {
            channel.remove(&name);
        }
        for name in names {
            channel.add(kind, name)?;
        }
        channel.owes_reply |= initial;
        if initial {
            self.0.repeat_dependents(kind);
        }
        Ok(Received::Subscription(kind))
    }
}

fn parse_names(kind: ResourceType, names: &[String]) -> Result<BTreeSet<Name>, ProtocolError> {
    if names.len() > MAX_RESOURCES {
        return Err(ProtocolError::TooMany(kind));
    }
    names.iter().map(|name| parse_name(kind, name)).collect()
}
