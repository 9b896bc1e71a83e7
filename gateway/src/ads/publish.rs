//! The data plane as the one who runs what was received.

use std::sync::Arc;

use mesh::{
    bundle::Bundle,
    xds::{ResourceType, ads::Rejection},
};

use super::driver::Apply;
use crate::{Rejected, Resource, publish::Publisher};

impl Apply for Arc<Publisher> {
    async fn apply(&mut self, bundle: Arc<Bundle>) -> Result<(), Vec<Rejection>> {
        let applied = Publisher::apply(self, bundle).await;
        applied.map_err(|rejected| rejected.into_iter().map(rejection).collect())
    }
}

fn rejection(rejected: Rejected) -> Rejection {
    Rejection {
        resource_type: match rejected.resource {
            Resource::Listener => ResourceType::Listener,
            Resource::Routes => ResourceType::RouteConfig,
            Resource::Cluster => ResourceType::Cluster,
            Resource::Endpoints => ResourceType::Endpoints,
        },
        name: rejected.name.into(),
        reason: rejected.reason,
    }
}
