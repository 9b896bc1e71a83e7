//! `extensions.clusters.dns.v3`: clusters whose endpoints are names, in today's form. The older form, which istiod writes, is
//! fields of the cluster itself.

use crate::{
    cluster::{Discovery, DnsFamily, DnsSettings},
    xds::{
        decode::{cluster::cluster_resolver, endpoint},
        pb::{
            cluster::{self, cluster::CustomClusterType},
            dns_cluster::DnsCluster,
            dns_family::DnsLookupFamily,
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of DNS clusters.
    MESSAGES:
    CustomClusterType {
        supported { typed_config = "envoy.extensions.clusters.dns.v3.DnsCluster" }
        ignored { name = "the type decides" }
    }
    DnsCluster {
        supported {
            dns_refresh_rate,
            respect_dns_ttl,
            typed_dns_resolver_config = "c-ares without resolvers: names are resolved by the bootstrap's resolvers",
            dns_lookup_family,
            all_addresses_in_single_endpoint = "true is LOGICAL_DNS, false STRICT_DNS",
        }
        ignored { dns_jitter = "lookups are spread in our own way" }
        rejected { dns_failure_refresh_rate, dns_min_refresh_rate }
    }
}

/// The endpoints of a cluster with a type of its own.
pub(super) fn custom(scope: &Scope<'_>, message: &cluster::Cluster, kind: &CustomClusterType) -> Decoded<Discovery> {
    older_form_unset(scope, message);
    let assignment = scope.required("load_assignment", &message.load_assignment)?;
    let assigned = scope.field("load_assignment");
    let endpoints = endpoint::endpoints(&assigned, assignment)?;
    let scope = scope.field("cluster_type");
    scope.check(kind);
    let any = scope.required("typed_config", &kind.typed_config)?;
    let config: DnsCluster = scope.field("typed_config").unpack(any)?;
    let settings = settings(&scope.field("typed_config"), &config)?;
    if config.all_addresses_in_single_endpoint {
        endpoint::only(&assigned, endpoints).map(|endpoint| Discovery::LogicalDns(endpoint, settings))
    } else {
        Ok(Discovery::StrictDns(endpoints, settings))
    }
}

/// Envoy would not look at them.
#[allow(deprecated)] // that is what this is about
fn older_form_unset(scope: &Scope<'_>, message: &cluster::Cluster) {
    const INSTEAD: &str = "write it in cluster_type";
    scope.reject("dns_refresh_rate", &message.dns_refresh_rate, INSTEAD);
    scope.reject("respect_dns_ttl", &message.respect_dns_ttl, INSTEAD);
    scope.reject("dns_lookup_family", &message.dns_lookup_family, INSTEAD);
    scope.reject("typed_dns_resolver_config", &message.typed_dns_resolver_config, INSTEAD);
}

fn settings(scope: &Scope<'_>, message: &DnsCluster) -> Decoded<DnsSettings> {
    scope.check(message);
    if let Some(resolver) = &message.typed_dns_resolver_config {
        cluster_resolver(&scope.field("typed_dns_resolver_config"), resolver)?;
    }
    let refresh = scope.duration("dns_refresh_rate", &message.dns_refresh_rate)?;
    if refresh.is_some_and(|rate| rate.as_millis() == 0) {
        scope
            .field("dns_refresh_rate")
            .refuse("less than 1 ms", "at least 1 ms");
    }
    let family = scope.field("dns_lookup_family");
    Ok(DnsSettings {
        family: match family.enumeration(message.dns_lookup_family)? {
            DnsLookupFamily::Unspecified | DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        },
        refresh,
        respect_ttl: message.respect_dns_ttl,
    })
}
