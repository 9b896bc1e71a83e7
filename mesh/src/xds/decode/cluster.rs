//! `config.cluster.v3`: clusters.

use crate::{
    ClusterName,
    cluster::{CircuitBreakers, Cluster, Discovery, DnsFamily, DnsSettings, Endpoints, LbPolicy, Reuse, UpstreamHttp},
    xds::{
        decode::{common, dns, endpoint, tls},
        pb::{
            cares,
            cluster::{
                self,
                circuit_breakers::Thresholds,
                cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy as WireLbPolicy},
            },
            core::{self, RoutingPriority},
            upstream_http::{
                self,
                http_protocol_options::{
                    self, ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of clusters.
    MESSAGES:
    cluster::Cluster {
        supported {
            name,
            alt_stat_name,
            eds_cluster_config,
            connect_timeout,
            per_connection_buffer_limit_bytes,
            lb_policy = "ROUND_ROBIN, LEAST_REQUEST, RANDOM; CLUSTER_PROVIDED with ORIGINAL_DST",
            load_assignment = "LOGICAL_DNS: one endpoint",
            circuit_breakers,
            http2_protocol_options = "deprecated: present means HTTP/2",
            typed_extension_protocol_options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            dns_refresh_rate,
            respect_dns_ttl,
            dns_lookup_family,
            typed_dns_resolver_config = "c-ares without resolvers: names are resolved by the bootstrap's resolvers",
            common_lb_config,
            transport_socket,
            cluster_discovery_type = "type: STATIC, STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST; cluster_type: DnsCluster",
        }
        ignored {
            metadata = "labels for tools and for Istio's filters",
            dns_jitter = "lookups are spread in our own way",
            stats_matcher = "chooses among Envoy's statistics",
            track_timeout_budgets = "a statistic",
            track_cluster_stats = "a statistic",
        }
        rejected {
            transport_socket_matches = "not supported; give the cluster one transport_socket",
            transport_socket_matcher,
            per_connection_buffer_high_watermark_timeout,
            health_checks,
            max_requests_per_connection,
            upstream_http_protocol_options = "write it in typed_extension_protocol_options",
            common_http_protocol_options = "write it in typed_extension_protocol_options",
            http_protocol_options = "HTTP/1.1 is the default, leave it unset",
            dns_failure_refresh_rate,
            dns_resolvers = "name the resolvers in the bootstrap",
            use_tcp_for_dns_lookups,
            dns_resolution_config = "name the resolvers in the bootstrap",
            wait_for_warm_on_init,
            outlier_detection,
            cleanup_interval,
            upstream_bind_config,
            lb_subset_config,
            protocol_selection = "write use_downstream_protocol_config in typed_extension_protocol_options",
            upstream_connection_options,
            close_connections_on_host_health_failure,
            ignore_health_on_host_removal,
            filters,
            load_balancing_policy = "use lb_policy",
            lrs_server,
            lrs_report_endpoint_metrics,
            upstream_config,
            preconnect_policy,
            connection_pool_per_downstream_connection,
            queuing_policies,
            lb_config,
        }
    }
    cluster::cluster::EdsClusterConfig {
        supported { eds_config, service_name }
    }
    cluster::cluster::CommonLbConfig {
        ignored {
            healthy_panic_threshold = "unhealthy endpoints are never used, as with 0 %",
            update_merge_window = "updates are applied at once",
        }
        rejected {
            ignore_new_hosts_until_first_hc, close_connections_on_host_set_change, consistent_hashing_lb_config,
            override_host_status, locality_config_specifier,
        }
    }
    cluster::CircuitBreakers {
        supported { thresholds = "at most one" }
        rejected { per_host_thresholds }
    }
    Thresholds {
        supported { priority = "DEFAULT", max_connections, max_pending_requests, max_requests, max_retries }
        ignored { track_remaining = "a statistic" }
        rejected { retry_budget, max_connection_pools }
    }
    upstream_http::HttpProtocolOptions {
        supported {
            common_http_protocol_options,
            upstream_http_protocol_options,
            upstream_protocol_options = "explicit_http_config, use_downstream_protocol_config",
        }
        rejected {
            http_filters, header_validation_config, outlier_detection, request_mirror_policies, hash_policy, retry_policy,
        }
    }
    ExplicitHttpConfig {
        supported { protocol_config = "http_protocol_options, http2_protocol_options" }
    }
    UseDownstreamHttpConfig {
        supported { http_protocol_options, http2_protocol_options }
        rejected { http3_protocol_options }
    }
    core::UpstreamHttpProtocolOptions {
        supported { auto_sni, auto_san_validation = "needs auto_sni" }
        rejected { override_auto_sni_header }
    }
    cares::CaresDnsResolverConfig {
        supported { resolvers = "in the bootstrap only" }
        ignored {
            udp_max_queries = "a bound on c-ares's sockets",
            query_timeout_seconds = "our resolver has its own timeouts",
            query_tries = "our resolver has its own retries",
            edns0_max_payload_size = "our resolver chooses it",
            max_udp_channel_duration = "our resolver uses a new socket for each query",
            reinit_channel_on_timeout = "our resolver uses a new socket for each query",
        }
        rejected {
            use_resolvers_as_fallback, filter_unroutable_families, dns_resolver_options, rotate_nameservers, qcache_max_ttl,
        }
    }
}

/// Key of the HTTP options in `typed_extension_protocol_options`.
pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A cluster.
pub(super) fn cluster(scope: &Scope<'_>, message: &cluster::Cluster) -> Decoded<Cluster> {
    scope.check(message);
    let name = scope.field("name").parse(&message.name, ClusterName::parse)?;
    let discovery = discovery(scope, message)?;
    let http = http_options(scope, message)?;
    if let Some(common) = &message.common_lb_config {
        scope.field("common_lb_config").check(common);
    }
    Ok(Cluster {
        name,
        alt_stat_name: common::non_empty(&message.alt_stat_name),
        lb_policy: lb_policy(scope, message, &discovery)?,
        discovery,
        connect_timeout: scope.duration("connect_timeout", &message.connect_timeout)?,
        tls: match &message.transport_socket {
            Some(socket) => tls::upstream_socket(&scope.field("transport_socket"), socket)?,
            None => None,
        },
        http: http.version,
        auto_sni: http.auto_sni,
        auto_san_validation: http.auto_san_validation,
        circuit_breakers: match &message.circuit_breakers {
            Some(breakers) => Some(circuit_breakers(&scope.field("circuit_breakers"), breakers)?),
            None => None,
        },
        buffer_limit: message.per_connection_buffer_limit_bytes.map(|limit| limit.value),
        reuse: http.reuse,
    })
}

fn discovery(scope: &Scope<'_>, message: &cluster::Cluster) -> Decoded<Discovery> {
    let kind = match &message.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => scope.field("type").enumeration(*kind)?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => return dns::custom(scope, message, custom),
        None => DiscoveryType::Static,
    };
    let at = scope.field("load_assignment");
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static(match &message.load_assignment {
            Some(assignment) => endpoint::by_address(&at, assignment)?,
            None => Endpoints::default(),
        })),
        DiscoveryType::StrictDns => {
            let assignment = scope.required("load_assignment", &message.load_assignment)?;
            let endpoints = endpoint::endpoints(&at, assignment)?;
            Ok(Discovery::StrictDns(endpoints, dns_settings(scope, message)?))
        }
        DiscoveryType::LogicalDns => {
            let assignment = scope.required("load_assignment", &message.load_assignment)?;
            let endpoint = endpoint::only(&at, endpoint::endpoints(&at, assignment)?)?;
            Ok(Discovery::LogicalDns(endpoint, dns_settings(scope, message)?))
        }
        DiscoveryType::Eds => {
            no_endpoints(&at, message);
            let config = scope.required("eds_cluster_config", &message.eds_cluster_config)?;
            eds(&scope.field("eds_cluster_config"), config)
        }
        DiscoveryType::OriginalDst => {
            no_endpoints(&at, message);
            Ok(Discovery::OriginalDst)
        }
    }
}

fn no_endpoints(scope: &Scope<'_>, message: &cluster::Cluster) {
    if message.load_assignment.is_some() {
        scope.refuse("set", "must be unset for a cluster of this type");
    }
}

fn eds(scope: &Scope<'_>, message: &cluster::cluster::EdsClusterConfig) -> Decoded<Discovery> {
    scope.check(message);
    let source = common::config_source(
        &scope.field("eds_config"),
        scope.required("eds_config", &message.eds_config)?,
    )?;
    let service_name = match message.service_name.as_str() {
        "" => None,
        name => Some(scope.field("service_name").parse(name, ClusterName::parse)?),
    };
    Ok(Discovery::Eds { service_name, source })
}

#[allow(deprecated)] // istiod still writes the fields of the cluster itself
fn dns_settings(scope: &Scope<'_>, message: &cluster::Cluster) -> Decoded<DnsSettings> {
    if let Some(resolver) = &message.typed_dns_resolver_config {
        cluster_resolver(&scope.field("typed_dns_resolver_config"), resolver)?;
    }
    let refresh = scope.duration("dns_refresh_rate", &message.dns_refresh_rate)?;
    if refresh.is_some_and(|rate| rate.as_millis() <= 1) {
        scope.field("dns_refresh_rate").refuse("1 ms or less", "more than 1 ms");
    }
    Ok(DnsSettings {
        family: match scope
            .field("dns_lookup_family")
            .enumeration(message.dns_lookup_family)?
        {
            DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        },
        refresh,
        respect_ttl: message.respect_dns_ttl,
    })
}

/// istiod gives every DNS cluster a resolver for its socket options only.
pub(super) fn cluster_resolver(scope: &Scope<'_>, message: &core::TypedExtensionConfig) -> Decoded<()> {
    let config = cares_config(scope, message)?;
    if !config.resolvers.is_empty() {
        scope
            .field("typed_config.resolvers")
            .refuse("set", "name the resolvers in the bootstrap");
    }
    Ok(())
}

/// A c-ares resolver's settings.
pub(super) fn cares_config(
    scope: &Scope<'_>,
    message: &core::TypedExtensionConfig,
) -> Decoded<cares::CaresDnsResolverConfig> {
    scope.check(message);
    let any = scope.required("typed_config", &message.typed_config)?;
    let scope = scope.field("typed_config");
    let config: cares::CaresDnsResolverConfig = scope.unpack(any)?;
    scope.check(&config);
    Ok(config)
}

fn lb_policy(scope: &Scope<'_>, message: &cluster::Cluster, discovery: &Discovery) -> Decoded<LbPolicy> {
    let scope = scope.field("lb_policy");
    let policy: WireLbPolicy = scope.enumeration(message.lb_policy)?;
    let policy = match policy {
        WireLbPolicy::RoundRobin => LbPolicy::RoundRobin,
        WireLbPolicy::LeastRequest => LbPolicy::LeastRequest,
        WireLbPolicy::Random => LbPolicy::Random,
        WireLbPolicy::ClusterProvided => LbPolicy::ClusterProvided,
        WireLbPolicy::RingHash | WireLbPolicy::Maglev | WireLbPolicy::LoadBalancingPolicyConfig => {
            return Err(scope.refuse(policy.as_str_name(), "ROUND_ROBIN, LEAST_REQUEST or RANDOM"));
        }
    };
    let original = matches!(discovery, Discovery::OriginalDst);
    match (original, policy) {
        (true, LbPolicy::ClusterProvided) => Ok(policy),
        (true, _) => Err(scope.refuse(message.lb_policy, "ORIGINAL_DST needs CLUSTER_PROVIDED")),
        (false, LbPolicy::ClusterProvided) => Err(scope.refuse("CLUSTER_PROVIDED", "only with ORIGINAL_DST")),
        (false, _) => Ok(policy),
    }
}

fn circuit_breakers(scope: &Scope<'_>, message: &cluster::CircuitBreakers) -> Decoded<CircuitBreakers> {
    scope.check(message);
    let mut thresholds = scope.list("thresholds", &message.thresholds, threshold)?;
    let first = thresholds.pop().unwrap_or_default();
    if !thresholds.is_empty() {
        scope.field("thresholds").refuse("several", "at most one is supported");
    }
    Ok(first)
}

fn threshold(scope: &Scope<'_>, message: &Thresholds) -> Decoded<CircuitBreakers> {
    scope.check(message);
    if message.priority != i32::from(RoutingPriority::Default) {
        scope.field("priority").refuse("HIGH", "only DEFAULT is supported");
    }
    let value = |wrapper: Option<crate::xds::pb::protobuf::UInt32Value>| wrapper.map(|wrapper| wrapper.value);
    Ok(CircuitBreakers {
        max_connections: value(message.max_connections),
        max_pending_requests: value(message.max_pending_requests),
        max_requests: value(message.max_requests),
        max_retries: value(message.max_retries),
    })
}

#[derive(Default)]
struct HttpOptions {
    version: UpstreamHttp,
    reuse: Reuse,
    auto_sni: bool,
    auto_san_validation: bool,
}

#[allow(deprecated)] // older control planes write http2_protocol_options
fn http_options(scope: &Scope<'_>, message: &cluster::Cluster) -> Decoded<HttpOptions> {
    let extensions = &message.typed_extension_protocol_options;
    for key in extensions.keys().filter(|key| *key != HTTP_OPTIONS) {
        scope
            .key("typed_extension_protocol_options", key)
            .refuse("set", format_args!("only {HTTP_OPTIONS} is supported"));
    }
    if let Some(any) = extensions.get(HTTP_OPTIONS) {
        let scope = scope.key("typed_extension_protocol_options", HTTP_OPTIONS);
        if message.http2_protocol_options.is_some() {
            return Err(scope.refuse("set", "exclusive with http2_protocol_options of the cluster"));
        }
        return protocol_options(&scope, &scope.unpack(any)?);
    }
    let mut options = HttpOptions::default();
    if let Some(http2) = &message.http2_protocol_options {
        no_settings(&scope.field("http2_protocol_options"), http2);
        options.version = UpstreamHttp::Http2;
    }
    Ok(options)
}

fn protocol_options(scope: &Scope<'_>, message: &upstream_http::HttpProtocolOptions) -> Decoded<HttpOptions> {
    scope.check(message);
    let reuse = match &message.common_http_protocol_options {
        Some(common) => common_options(&scope.field("common_http_protocol_options"), common)?,
        None => Reuse::default(),
    };
    let version = match scope.required("upstream_protocol_options", &message.upstream_protocol_options)? {
        UpstreamProtocolOptions::ExplicitHttpConfig(explicit) => {
            explicit_version(&scope.field("explicit_http_config"), explicit)?
        }
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(config) => {
            use_downstream(&scope.field("use_downstream_protocol_config"), config);
            UpstreamHttp::AsDownstream
        }
        UpstreamProtocolOptions::AutoConfig(http_protocol_options::AutoHttpConfig { .. }) => {
            return Err(scope
                .field("auto_config")
                .refuse("set", "explicit_http_config or use_downstream_protocol_config"));
        }
    };
    let mut options = HttpOptions {
        version,
        reuse,
        ..HttpOptions::default()
    };
    if let Some(upstream) = &message.upstream_http_protocol_options {
        let scope = scope.field("upstream_http_protocol_options");
        scope.check(upstream);
        options.auto_sni = upstream.auto_sni;
        options.auto_san_validation = upstream.auto_san_validation;
        if options.auto_san_validation && !options.auto_sni {
            scope.field("auto_san_validation").refuse("true", "needs auto_sni");
        }
    }
    Ok(options)
}

fn common_options(scope: &Scope<'_>, message: &core::HttpProtocolOptions) -> Decoded<Reuse> {
    scope.check(message);
    let rest = core::HttpProtocolOptions {
        idle_timeout: None,
        max_requests_per_connection: None,
        ..*message
    };
    common::unset(
        scope,
        &rest,
        "only idle_timeout and max_requests_per_connection may be set for an upstream",
    );
    Ok(Reuse {
        idle_timeout: scope.duration("idle_timeout", &message.idle_timeout)?,
        max_requests: message.max_requests_per_connection.and_then(requests),
    })
}

/// Zero is no limit.
fn requests(limit: crate::xds::pb::protobuf::UInt32Value) -> Option<u32> {
    Some(limit.value).filter(|limit| *limit > 0)
}

fn explicit_version(scope: &Scope<'_>, message: &ExplicitHttpConfig) -> Decoded<UpstreamHttp> {
    scope.check(message);
    match scope.required("protocol_config", &message.protocol_config)? {
        ProtocolConfig::HttpProtocolOptions(options) => {
            no_settings(&scope.field("http_protocol_options"), options);
            Ok(UpstreamHttp::Http1)
        }
        ProtocolConfig::Http2ProtocolOptions(options) => {
            no_settings(&scope.field("http2_protocol_options"), options);
            Ok(UpstreamHttp::Http2)
        }
        ProtocolConfig::Http3ProtocolOptions(_) => Err(scope
            .field("http3_protocol_options")
            .refuse("set", "http_protocol_options or http2_protocol_options")),
    }
}

fn use_downstream(scope: &Scope<'_>, message: &UseDownstreamHttpConfig) {
    scope.check(message);
    if let Some(options) = &message.http_protocol_options {
        no_settings(&scope.field("http_protocol_options"), options);
    }
    if let Some(options) = &message.http2_protocol_options {
        no_settings(&scope.field("http2_protocol_options"), options);
    }
}

fn no_settings<T: Default + PartialEq>(scope: &Scope<'_>, options: &T) {
    common::unset(
        scope,
        options,
        "settings of an upstream's protocol are not supported, write {}",
    );
}
