//! `tcp_proxy`.

use crate::{
    ClusterName,
    listener::TcpProxy,
    route::WeightedClusters,
    xds::{
        decode::log,
        pb::tcp_proxy::{self, tcp_proxy::ClusterSpecifier, tcp_proxy::weighted_cluster::ClusterWeight},
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of TCP proxying.
    MESSAGES:
    tcp_proxy::TcpProxy {
        supported {
            stat_prefix,
            idle_timeout,
            access_log,
            max_connect_attempts = "1",
            max_downstream_connection_duration,
            cluster_specifier = "cluster, weighted_clusters",
        }
        rejected {
            on_demand, metadata_match, downstream_idle_timeout = "use idle_timeout",
            upstream_idle_timeout = "use idle_timeout", backoff_options, hash_policy, tunneling_config,
            max_downstream_connection_duration_jitter_percentage, access_log_flush_interval,
            flush_access_log_on_connected, access_log_options, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
            upstream_connect_mode, max_early_data_bytes, check_drain_close,
        }
    }
    tcp_proxy::tcp_proxy::WeightedCluster {
        supported { clusters }
    }
    ClusterWeight {
        supported { name, weight }
        rejected { metadata_match }
    }
}

/// The filter.
pub(super) fn tcp_proxy(scope: &Scope<'_>, message: &tcp_proxy::TcpProxy) -> Decoded<TcpProxy> {
    scope.check(message);
    if let Some(attempts) = message.max_connect_attempts.filter(|attempts| attempts.value != 1) {
        scope
            .field("max_connect_attempts")
            .refuse(attempts.value, "only 1 is supported");
    }
    Ok(TcpProxy {
        stat_prefix: message.stat_prefix.clone(),
        clusters: clusters(scope, message)?,
        idle_timeout: scope.duration("idle_timeout", &message.idle_timeout)?,
        max_connection_duration: scope.duration(
            "max_downstream_connection_duration",
            &message.max_downstream_connection_duration,
        )?,
        access_logs: scope.list("access_log", &message.access_log, log::access_log)?,
    })
}

fn clusters(scope: &Scope<'_>, message: &tcp_proxy::TcpProxy) -> Decoded<WeightedClusters> {
    match scope.required("cluster_specifier", &message.cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => Ok(WeightedClusters::one(
            scope.field("cluster").parse(name, ClusterName::parse)?,
        )),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let scope = scope.field("weighted_clusters");
            let entries = scope.list("clusters", &weighted.clusters, entry)?;
            WeightedClusters::parse(entries).map_err(|error| scope.field("clusters").refuse("weights", error))
        }
    }
}

fn entry(scope: &Scope<'_>, message: &ClusterWeight) -> Decoded<(ClusterName, u32)> {
    scope.check(message);
    Ok((
        scope.field("name").parse(&message.name, ClusterName::parse)?,
        message.weight,
    ))
}
