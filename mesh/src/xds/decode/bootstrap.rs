//! `config.bootstrap.v3`.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    ClusterName, SecretName,
    secret::{Secret, SecretContent},
    source::Source,
    xds::{
        bootstrap::{Ads, Bootstrap, Node},
        decode::{cluster, common, listener, secret, structure},
        pb::{
            bootstrap::{self, bootstrap::DynamicResources, bootstrap::StaticResources},
            cluster as cluster_message,
            core::{self, ApiVersion, api_config_source::ApiType, grpc_service},
            downstream_connections, overload,
        },
        scope::{Decoded, Scope},
        support::{IgnoredExtension, messages},
    },
};

messages! {
    /// Messages of the bootstrap.
    MESSAGES:
    bootstrap::Bootstrap {
        supported {
            node, static_resources, dynamic_resources, admin = "read; nothing listens there yet, which a warning says", typed_dns_resolver_config = "c-ares with resolvers",
            bootstrap_extensions = "only those that change nothing here", cluster_manager, overload_manager,
        }
        ignored {
            stats_config = "our metrics have fixed names and labels",
            stats_flush_interval = "metrics are read, not pushed",
            stats_flush = "metrics are read, not pushed",
            stats_eviction = "metrics have bounded labels",
            deferred_stat_options = "about the memory of Envoy's statistics",
            layered_runtime = "switches of Envoy's own code",
            enable_dispatcher_stats = "a statistic",
            stats_server_version_override = "a statistic",
            application_log_config = "the log of the process is configured by flags",
            memory_allocator_manager = "about Envoy's allocator",
            enable_worker_cpu_affinity = "workers are placed by the kernel",
            flags_path = "there are no runtime flags",
            tracing = "no spans are reported; trace headers pass through",
        }
        rejected {
            node_context_params, hds_config, stats_sinks = "metrics are read, not pushed", watchdog, watchdogs,
            header_prefix, use_tcp_for_dns_lookups, dns_resolution_config = "use typed_dns_resolver_config",
            fatal_actions, config_sources, default_config_source, default_socket_interface,
            certificate_provider_instances, inline_headers, perf_tracing_file_path, default_regex_engine,
            xds_delegate_extension, xds_config_tracker_extension, listener_manager, grpc_async_client_manager_config,
        }
    }
    bootstrap::ClusterManager {
        ignored {
            local_cluster_name = "balancing does not look at localities",
            outlier_detection = "a log of ejections, of which there are none",
            enable_deferred_cluster_creation = "about Envoy's memory",
        }
        rejected { upstream_bind_config, load_stats_config }
    }
    overload::OverloadManager {
        supported { resource_monitors }
        ignored { refresh_interval = "what we monitor is always known" }
        rejected { actions, loadshed_points, buffer_factory_config }
    }
    overload::ResourceMonitor {
        supported { config_type = "typed_config: DownstreamConnectionsConfig" }
        ignored { name = "the type decides" }
    }
    downstream_connections::DownstreamConnectionsConfig {
        supported { max_active_downstream_connections = "2147483647 or more, which is no limit" }
    }
    core::Node {
        supported { id, cluster, metadata }
        ignored {
            locality = "balancing does not look at localities",
            user_agent_name = "we say who we are ourselves",
            user_agent_version_type = "we say who we are ourselves",
            extensions = "we say what we support ourselves",
            client_features = "we say what we support ourselves",
        }
        rejected { dynamic_parameters, listening_addresses }
    }
    StaticResources {
        supported {
            listeners,
            clusters = "of the control plane's, circuit_breakers, upstream_connection_options and max_requests_per_connection are ignored: it is called over one stream",
            secrets,
        }
    }
    DynamicResources {
        supported { lds_config, cds_config, ads_config = "needed by whatever comes over ads" }
        rejected { lds_resources_locator, cds_resources_locator }
    }
    core::ApiConfigSource {
        supported { api_type = "GRPC, DELTA_GRPC", transport_api_version = "V3", grpc_services = "one" }
        ignored {
            set_node_on_first_message_only = "always so",
            request_timeout = "only used by REST",
        }
        rejected { cluster_names, refresh_delay, rate_limit_settings, config_validators }
    }
    core::GrpcService {
        supported { target_specifier = "envoy_grpc" }
        rejected { timeout, initial_metadata, retry_policy }
    }
    grpc_service::EnvoyGrpc {
        supported { cluster_name }
        rejected { authority, retry_policy, max_receive_message_length, skip_envoy_headers }
    }
    bootstrap::Admin {
        supported { address }
        ignored {
            access_log = "nothing listens there yet",
            access_log_path = "nothing listens there yet",
            profile_path = "there is no profiler",
            ignore_global_conn_limit = "there is no such limit",
        }
        rejected { socket_options, allow_paths }
    }
}

/// Extensions of the whole process that change nothing here.
pub(crate) const IGNORED_EXTENSIONS: &[IgnoredExtension] = &[IgnoredExtension {
    message: "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
    reason: "allows internal listeners, which are refused where they are written",
}];

/// As many connections as Istio writes to say "without limit".
const UNLIMITED_CONNECTIONS: i64 = 2_147_483_647;

/// The port of a DNS server that names none.
const DNS_PORT: u16 = 53;

/// A bootstrap.
pub(super) fn bootstrap(scope: &Scope<'_>, message: &bootstrap::Bootstrap) -> Decoded<Bootstrap> {
    scope.check(message);
    let control = control_cluster(message);
    let mut out = Bootstrap::default();
    if let Some(message) = &message.node {
        out.node = node(&scope.field("node"), message)?;
    }
    if let Some(message) = &message.admin {
        out.admin = admin(&scope.field("admin"), message)?;
    }
    scope.list("bootstrap_extensions", &message.bootstrap_extensions, extension)?;
    if let Some(message) = &message.cluster_manager {
        scope.field("cluster_manager").check(message);
    }
    if let Some(message) = &message.overload_manager {
        overload_manager(&scope.field("overload_manager"), message)?;
    }
    if let Some(message) = &message.static_resources {
        static_resources(&scope.field("static_resources"), message, control, &mut out)?;
    }
    if let Some(message) = &message.dynamic_resources {
        dynamic_resources(&scope.field("dynamic_resources"), message, &mut out)?;
    }
    if let Some(message) = &message.typed_dns_resolver_config {
        let scope = scope.field("typed_dns_resolver_config");
        let config = cluster::cares_config(&scope, message)?;
        out.resolvers = scope.list("resolvers", &config.resolvers, resolver)?;
    }
    Ok(out)
}

fn extension(scope: &Scope<'_>, message: &core::TypedExtensionConfig) -> Decoded<()> {
    scope.check(message);
    let config = scope.required("typed_config", &message.typed_config)?;
    let name = common::message_name(&scope.field("typed_config"), config)?;
    match IGNORED_EXTENSIONS.iter().any(|ignored| ignored.message == name) {
        true => Ok(()),
        false => Err(scope.refuse(name, "an extension that we do not have; leave it out")),
    }
}

fn overload_manager(scope: &Scope<'_>, message: &overload::OverloadManager) -> Decoded<()> {
    scope.check(message);
    scope.list("resource_monitors", &message.resource_monitors, resource_monitor)?;
    Ok(())
}

fn resource_monitor(scope: &Scope<'_>, message: &overload::ResourceMonitor) -> Decoded<()> {
    scope.check(message);
    let overload::resource_monitor::ConfigType::TypedConfig(any) =
        scope.required("typed_config", &message.config_type)?;
    let scope = scope.field("typed_config");
    let config: downstream_connections::DownstreamConnectionsConfig = scope.unpack(any)?;
    scope.check(&config);
    let most = config.max_active_downstream_connections;
    match most >= UNLIMITED_CONNECTIONS {
        true => Ok(()),
        false => Err(scope.field("max_active_downstream_connections").refuse(
            most,
            format_args!("there is no such limit: {UNLIMITED_CONNECTIONS} or more"),
        )),
    }
}

fn node(scope: &Scope<'_>, message: &core::Node) -> Decoded<Node> {
    scope.check(message);
    Ok(Node {
        id: message.id.clone(),
        cluster: message.cluster.clone(),
        metadata: match &message.metadata {
            Some(metadata) => structure::object(&scope.field("metadata"), metadata)?,
            None => serde_json::Map::new(),
        },
    })
}

fn admin(scope: &Scope<'_>, message: &bootstrap::Admin) -> Decoded<Option<SocketAddr>> {
    scope.check(message);
    match &message.address {
        Some(address) => common::socket(&scope.field("address"), address).map(Some),
        None => Ok(None),
    }
}

fn resolver(scope: &Scope<'_>, message: &core::Address) -> Decoded<SocketAddr> {
    let mut address = common::socket(scope, message)?;
    if address.port() == 0 {
        address.set_port(DNS_PORT);
    }
    Ok(address)
}

/// The cluster through which the control plane is called.
fn control_cluster(message: &bootstrap::Bootstrap) -> Option<&str> {
    let config = message.dynamic_resources.as_ref()?.ads_config.as_ref()?;
    match config.grpc_services.first()?.target_specifier.as_ref()? {
        grpc_service::TargetSpecifier::EnvoyGrpc(grpc) => Some(&grpc.cluster_name),
        grpc_service::TargetSpecifier::GoogleGrpc(_) => None,
    }
}

/// The control plane is called over one stream that we keep alive ourselves: how Envoy would pool connections to it is left
/// out, so that nothing of it is refused.
#[allow(deprecated)] // Istio's agent still writes one of them
fn without_pool(message: &cluster_message::Cluster) -> cluster_message::Cluster {
    cluster_message::Cluster {
        circuit_breakers: None,
        upstream_connection_options: None,
        max_requests_per_connection: None,
        ..message.clone()
    }
}

fn static_resources(
    scope: &Scope<'_>,
    message: &StaticResources,
    control: Option<&str>,
    out: &mut Bootstrap,
) -> Decoded<()> {
    scope.check(message);
    out.listeners = scope.list("listeners", &message.listeners, listener::listener)?;
    out.clusters = scope.list("clusters", &message.clusters, |scope, message| {
        match control == Some(&message.name) {
            true => cluster::cluster(scope, &without_pool(message)),
            false => cluster::cluster(scope, message),
        }
    })?;
    let secrets = scope.list("secrets", &message.secrets, secret::secret)?;
    out.secrets = unique(scope, secrets)?;
    Ok(())
}

fn unique(scope: &Scope<'_>, secrets: Vec<Secret>) -> Decoded<BTreeMap<SecretName, SecretContent>> {
    let mut map = BTreeMap::new();
    for Secret { name, content } in secrets {
        if map.contains_key(&name) {
            return Err(scope.field("secrets").refuse(name, "each name once"));
        }
        map.insert(name, content);
    }
    Ok(map)
}

fn dynamic_resources(scope: &Scope<'_>, message: &DynamicResources, out: &mut Bootstrap) -> Decoded<()> {
    scope.check(message);
    let source = |name, message: &Option<core::ConfigSource>| {
        let message = message.as_ref();
        message
            .map(|message| common::config_source(&scope.field(name), message))
            .transpose()
    };
    out.listeners_from = source("lds_config", &message.lds_config)?;
    out.clusters_from = source("cds_config", &message.cds_config)?;
    let config = message.ads_config.as_ref();
    let config = config.map(|config| grpc_source(&scope.field("ads_config"), config));
    out.ads = config.transpose()?;
    let over_ads = [&out.listeners_from, &out.clusters_from].contains(&&Some(Source::Ads));
    match over_ads && out.ads.is_none() {
        true => Err(scope.field("ads_config").missing()),
        false => Ok(()),
    }
}

/// A service that discovers resources: its static cluster, and whether the protocol is the incremental one.
pub(super) fn grpc_source(scope: &Scope<'_>, message: &core::ApiConfigSource) -> Decoded<Ads> {
    scope.check(message);
    let at = scope.field("api_type");
    let api_type: ApiType = at.enumeration(message.api_type)?;
    let delta = match api_type {
        ApiType::Grpc => false,
        ApiType::DeltaGrpc => true,
        other => return Err(at.refuse(other.as_str_name(), "GRPC or DELTA_GRPC")),
    };
    if message.transport_api_version != i32::from(ApiVersion::V3) {
        scope
            .field("transport_api_version")
            .refuse(message.transport_api_version, "V3");
    }
    match message.grpc_services.as_slice() {
        [service] => Ok(Ads {
            cluster: grpc_cluster(&scope.index("grpc_services", 0), service)?,
            delta,
        }),
        services => Err(scope
            .field("grpc_services")
            .refuse(format_args!("{} services", services.len()), "exactly one")),
    }
}

fn grpc_cluster(scope: &Scope<'_>, message: &core::GrpcService) -> Decoded<ClusterName> {
    scope.check(message);
    match scope.required("envoy_grpc", &message.target_specifier)? {
        grpc_service::TargetSpecifier::EnvoyGrpc(grpc) => {
            let scope = scope.field("envoy_grpc");
            scope.check(grpc);
            scope
                .field("cluster_name")
                .parse(&grpc.cluster_name, ClusterName::parse)
        }
        grpc_service::TargetSpecifier::GoogleGrpc(_) => {
            Err(scope.field("google_grpc").refuse("set", "only envoy_grpc is supported"))
        }
    }
}
