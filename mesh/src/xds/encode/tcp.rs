//! `tcp_proxy`.

use crate::{
    listener::TcpProxy,
    route::WeightedClusters,
    xds::{
        encode::{common, log},
        pb::tcp_proxy::{
            self,
            tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
        },
    },
};

/// The filter.
pub(super) fn tcp_proxy(value: &TcpProxy) -> tcp_proxy::TcpProxy {
    tcp_proxy::TcpProxy {
        stat_prefix: value.stat_prefix.clone(),
        cluster_specifier: Some(clusters(&value.clusters)),
        idle_timeout: value.idle_timeout.map(common::duration),
        max_downstream_connection_duration: value.max_connection_duration.map(common::duration),
        access_log: value.access_logs.iter().map(log::access_log).collect(),
        ..Default::default()
    }
}

fn clusters(value: &WeightedClusters) -> ClusterSpecifier {
    match value.entries() {
        [(name, _)] => ClusterSpecifier::Cluster(name.to_string()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: name.to_string(),
                    weight: *weight,
                    metadata_match: None,
                })
                .collect(),
        }),
    }
}
