//! Everything one proxy is configured with; the unit control compiles and the data plane builds its snapshot from.

use std::collections::BTreeMap;

use crate::{
    ClusterName, ListenerName, RouteConfigName,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
};

/// A proxy's configuration. Sorted by name, so that equal inputs give equal bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bundle {
    /// LDS.
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// RDS.
    pub routes: BTreeMap<RouteConfigName, RouteConfig>,
    /// CDS.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// EDS, by the name clusters ask for.
    pub endpoints: BTreeMap<ClusterName, Endpoints>,
}
