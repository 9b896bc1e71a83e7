//! `extensions.clusters.dns.v3`: clusters whose endpoints are names. The fields of the cluster itself that said the same are
//! deprecated in Envoy, which warns of each.

use crate::{
    cluster::{DnsFamily, DnsSettings},
    xds::{
        encode::common,
        pb::{cluster::cluster::CustomClusterType, dns_cluster::DnsCluster, dns_family::DnsLookupFamily},
    },
};

/// How many addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    /// Every one is an endpoint: `STRICT_DNS`.
    All,
    /// One at a time: `LOGICAL_DNS`.
    One,
}

/// The cluster's type.
pub(super) fn cluster_type(addresses: Addresses, settings: &DnsSettings) -> CustomClusterType {
    let family = match settings.family {
        DnsFamily::Auto => DnsLookupFamily::Auto,
        DnsFamily::V4Only => DnsLookupFamily::V4Only,
        DnsFamily::V6Only => DnsLookupFamily::V6Only,
        DnsFamily::V4Preferred => DnsLookupFamily::V4Preferred,
        DnsFamily::All => DnsLookupFamily::All,
    };
    let config = DnsCluster {
        dns_refresh_rate: settings.refresh.map(common::duration),
        respect_dns_ttl: settings.respect_ttl,
        dns_lookup_family: family.into(),
        all_addresses_in_single_endpoint: addresses == Addresses::One,
        ..Default::default()
    };
    CustomClusterType {
        name: "envoy.clusters.dns".to_owned(),
        typed_config: Some(common::any(&config)),
    }
}
