//! The state-of-the-world protocol.

use std::collections::BTreeSet;

use super::{
    Answer, Holdings, Protocol, Subscription,
    offer::{Contents, Parcel},
};
use crate::xds::{
    ResourceType,
    ads::{DiscoveryRequest, DiscoveryResponse, Name, Node, ProtocolError, types::ByType},
};

/// `StreamAggregatedResources`.
#[derive(Debug, Default)]
pub struct Sotw(ByType<Last>);

/// What every request of a type must repeat.
#[derive(Debug, Default)]
struct Last {
    /// Of the last response.
    nonce: String,
    /// Of the last response that was taken in full.
    version: String,
}

impl Protocol for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn type_url(response: &Self::Response) -> &str {
        &response.type_url
    }

    fn set_node(request: &mut Self::Request, node: Node) {
        request.node = Some(node);
    }

    fn read(&mut self, response: Self::Response) -> Result<Contents, ProtocolError> {
        if let Some(resource_type) = ResourceType::from_type_url(&response.type_url) {
            self.0.get_mut(resource_type).nonce.clone_from(&response.nonce);
        }
        let version = &response.version_info;
        let parcels = response.resources.into_iter().map(|any| Parcel {
            name: None,
            version: version.clone(),
            any: Some(any),
            problem: None,
        });
        Ok(Contents {
            type_url: response.type_url,
            nonce: response.nonce,
            parcels: parcels.collect(),
            version: response.version_info,
            removed: Vec::new(),
            complete: true,
        })
    }

    fn open(&mut self, subscription: &Subscription<'_>, _holdings: &Holdings) -> Self::Request {
        self.request(subscription)
    }

    fn change(&mut self, subscription: &Subscription<'_>, _former: &BTreeSet<Name>) -> Self::Request {
        self.request(subscription)
    }

    fn answer(&mut self, subscription: &Subscription<'_>, answer: Answer) -> Self::Request {
        if answer.error.is_none() {
            self.0.get_mut(subscription.resource_type).version = answer.version;
        }
        DiscoveryRequest {
            response_nonce: answer.nonce,
            error_detail: answer.error,
            ..self.request(subscription)
        }
    }
}

impl Sotw {
    fn request(&self, subscription: &Subscription<'_>) -> DiscoveryRequest {
        let last = self.0.get(subscription.resource_type);
        DiscoveryRequest {
            version_info: last.version.clone(),
            resource_names: subscription.names.iter().map(|name| name.to_string()).collect(),
            type_url: subscription.resource_type.type_url().to_owned(),
            response_nonce: last.nonce.clone(),
            ..DiscoveryRequest::default()
        }
    }
}
