//! The incremental protocol.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::service::discovery::v3::Resource as Wrapper;

use super::{
    Answer, Holdings, Protocol, Subscription,
    offer::{Contents, Parcel},
};
use crate::xds::ads::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Name, Node, ProtocolError};

/// `DeltaAggregatedResources`.
#[derive(Debug, Default)]
pub struct Delta(());

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn type_url(response: &Self::Response) -> &str {
        &response.type_url
    }

    fn set_node(request: &mut Self::Request, node: Node) {
        request.node = Some(node);
    }

    fn read(&mut self, response: Self::Response) -> Result<Contents, ProtocolError> {
        if !response.removed_resource_names.is_empty() {
            return Err(ProtocolError::Unsupported("removed_resource_names"));
        }
        Ok(Contents {
            type_url: response.type_url,
            nonce: response.nonce,
            version: response.system_version_info,
            parcels: response.resources.into_iter().map(parcel).collect(),
            removed: response.removed_resources,
            complete: false,
        })
    }

    fn open(&mut self, subscription: &Subscription<'_>, holdings: &Holdings) -> Self::Request {
        DeltaDiscoveryRequest {
            type_url: subscription.resource_type.type_url().to_owned(),
            resource_names_subscribe: subscription.names.iter().map(|name| name.to_string()).collect(),
            initial_resource_versions: holdings.versions(subscription.resource_type),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn change(&mut self, subscription: &Subscription<'_>, former: &BTreeSet<Name>) -> Self::Request {
        let added = subscription.names.difference(former);
        let removed = former.difference(subscription.names);
        DeltaDiscoveryRequest {
            type_url: subscription.resource_type.type_url().to_owned(),
            resource_names_subscribe: added.map(|name| name.to_string()).collect(),
            resource_names_unsubscribe: removed.map(|name| name.to_string()).collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn answer(&mut self, subscription: &Subscription<'_>, answer: Answer) -> Self::Request {
        DeltaDiscoveryRequest {
            type_url: subscription.resource_type.type_url().to_owned(),
            response_nonce: answer.nonce,
            error_detail: answer.error,
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn parcel(wrapper: Wrapper) -> Parcel {
    let problem = if wrapper.ttl.is_some() {
        Some("ttl is not supported, a resource stays until it is removed")
    } else if wrapper.resource_name.is_some() || !wrapper.aliases.is_empty() {
        Some("resource_name and aliases are not supported, use name")
    } else {
        None
    };
    Parcel {
        name: Some(wrapper.name),
        version: wrapper.version,
        any: wrapper.resource,
        problem,
    }
}
