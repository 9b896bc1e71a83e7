//! The incremental protocol.

use envoy_types::pb::envoy::service::discovery::v3::Resource;

use super::{Received, Report, Server, Status, Stream, plan};
use crate::xds::{
    ResourceType,
    ads::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Entry, MAX_RESOURCES, Node, ProtocolError, RESPONSE_TARGET,
        ResourceSet, WILDCARD, parse_name,
    },
};

/// Serves one `DeltaAggregatedResources` stream.
#[derive(Debug, Default)]
pub struct DeltaServer(Stream);

impl Server for DeltaServer {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn receive(&mut self, request: Self::Request) -> Result<Received, ProtocolError> {
        if !(request.resource_locators_subscribe.is_empty() && request.resource_locators_unsubscribe.is_empty()) {
            return Err(ProtocolError::Unsupported("resource_locators"));
        }
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return Ok(Received::UnknownType(request.type_url));
        };
        let subscribed = self.subscribe(kind, &request)?;
        if request.response_nonce.is_empty() {
            return Ok(Received::Subscription(kind));
        }
        // Both roles may be combined in one message.
        Ok(match self.answer(kind, request) {
            Received::Stale(kind) if subscribed => Received::Subscription(kind),
            answer => answer,
        })
    }

    fn next(&mut self, set: &ResourceSet) -> Option<Self::Response> {
        let push = plan::next(&mut self.0, set, RESPONSE_TARGET)?;
        let removed = push.difference.removed.iter().map(|name| name.to_string());
        Some(DeltaDiscoveryResponse {
            system_version_info: set.version(push.kind).to_string(),
            resources: push.difference.changed.iter().map(|entry| resource(entry)).collect(),
            type_url: push.kind.type_url().to_owned(),
            removed_resources: removed.collect(),
            nonce: push.nonce,
            ..DeltaDiscoveryResponse::default()
        })
    }

    fn status(&self, set: &ResourceSet) -> Status {
        self.0.status(set)
    }

    fn report(&self) -> Vec<Report> {
        self.0.report()
    }
}

impl DeltaServer {
    /// Applies the changes of subscription in a request; `false` if it has none.
    fn subscribe(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Result<bool, ProtocolError> {
        let first = !self.0.channel(kind).opened;
        let (add, remove) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        if !first && add.is_empty() && remove.is_empty() {
            return Ok(false);
        }
        if first {
            self.open(kind, request)?;
        }
        for name in add {
            self.add(kind, name, first)?;
        }
        for name in remove {
            self.remove(kind, name)?;
        }
        self.0.channel(kind).drop_unwanted_claims();
        self.0.repeat_dependents(kind);
        Ok(true)
    }

    /// The first request for a type: what the client has from earlier streams, and whether it means everything.
    fn open(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Result<(), ProtocolError> {
        if request.initial_resource_versions.len() > MAX_RESOURCES {
            return Err(ProtocolError::TooMany(kind));
        }
        let channel = self.0.channel(kind);
        channel.opened = true;
        for (name, version) in &request.initial_resource_versions {
            channel.claim(parse_name(kind, name)?, version.as_str().into());
        }
        if kind.is_wildcard() && request.resource_names_subscribe.is_empty() {
            channel.wildcard = true;
            channel.owes_reply = true;
        }
        Ok(())
    }

    fn add(&mut self, kind: ResourceType, name: &str, first: bool) -> Result<(), ProtocolError> {
        let channel = self.0.channel(kind);
        if name == WILDCARD {
            channel.wildcard = true;
            channel.owes_reply = true;
            return Ok(());
        }
        let name = parse_name(kind, name)?;
        let added = channel.add(kind, name.clone())?;
        // Asked for again, it is sent again: the client may have dropped it in between.
        if !(first && added) {
            channel.forget(&name);
        }
        Ok(())
    }

    fn remove(&mut self, kind: ResourceType, name: &str) -> Result<(), ProtocolError> {
        let channel = self.0.channel(kind);
        if name == WILDCARD {
            channel.remove_wildcard();
            channel.owes_reply = false;
        } else {
            channel.remove(&parse_name(kind, name)?);
        }
        Ok(())
    }

    fn answer(&mut self, kind: ResourceType, request: DeltaDiscoveryRequest) -> Received {
        let channel = self.0.channel(kind);
        match request.error_detail {
            Some(error) if channel.nack(&request.response_nonce, error.message.clone()) => {
                Received::Nack(kind, error.message)
            }
            None if channel.ack(&request.response_nonce) => Received::Ack(kind),
            Some(_) | None => Received::Stale(kind),
        }
    }
}

fn resource(entry: &Entry) -> Resource {
    Resource {
        name: entry.name.to_string(),
        version: entry.version.to_string(),
        resource: Some(entry.any.clone()),
        ..Resource::default()
    }
}
