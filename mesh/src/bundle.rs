//! Everything one proxy is configured with; the unit control compiles and the data plane builds its snapshot from.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ClusterName, ListenerName, RouteConfigName,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
};

/// A proxy's configuration. Sorted by name, so that equal inputs give equal bytes. Versions share what did not change, and are
/// compared by looking at the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// LDS.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// RDS.
    pub routes: BTreeMap<RouteConfigName, Arc<RouteConfig>>,
    /// CDS.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// EDS, by the name clusters ask for.
    pub endpoints: BTreeMap<ClusterName, Arc<Endpoints>>,
}
