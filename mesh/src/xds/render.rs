//! Bootstraps that a real Envoy starts from, and our gateway too.
//!
//! [`fixed`] writes a proxy's whole configuration into its bootstrap; [`following`] writes only where to get it. Invariants: what
//! a document says is what ADS would have said, resource by resource; a document has no reference that nothing in it answers;
//! equal inputs give an equal document. It names files and sockets and never holds a key.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::{Map, Value, json};

use super::{
    Resource,
    bootstrap::Node,
    json::{Descriptors, JsonError, to_json},
};
use crate::{
    ClusterName, ListenerName, RouteConfigName, SecretName,
    bundle::Bundle,
    cluster::{Cluster, Discovery, DnsSettings, Endpoint, EndpointAddress, Endpoints, LbPolicy, UpstreamHttp},
    id::SpiffeId,
    matcher::StringMatcher,
    secret::{AGENT_CLUSTER, SecretRef, SecretSource},
    tls::{CertificateSource, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation},
};

mod inline;
mod secrets;

/// What a proxy brings along, whatever it is configured with.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Who it is.
    pub node: Node,
    /// Where its admin interface listens. `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// DNS servers. Empty: the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Where its certificates and roots come from.
    pub secrets: Secrets,
}

/// Where the secrets come from that configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrets {
    /// Files, as static secrets. Resources that arrive over ADS ask an agent: a real Envoy that follows a control plane needs
    /// one for each that names a secret. Our gateway takes a static secret of the same name.
    Files(Files),
    /// A secret discovery service on a Unix socket, as Istio's agent is.
    Agent(PathBuf),
}

/// PEM files of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Secret `default`: the workload's certificate, leaf first.
    pub chain: PathBuf,
    /// Secret `default`: its key.
    pub key: PathBuf,
    /// Secret `ROOTCA`: whom the mesh trusts.
    pub roots: PathBuf,
    /// Secret `file-root:system`: whom sites outside are verified against.
    pub system_roots: PathBuf,
}

/// The control plane to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// Where it is.
    pub address: EndpointAddress,
    /// Who it must be, over mutual TLS. `None`: plaintext.
    pub identity: Option<SpiffeId>,
    /// The incremental protocol instead of the state of the world.
    pub delta: bool,
}

/// Why a document cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A listener points at nothing.
    #[error("listener {listener}: route configuration {routes} is not in the bundle")]
    Routes {
        /// Which listener.
        listener: ListenerName,
        /// What it points at.
        routes: RouteConfigName,
    },
    /// A cluster points at nothing.
    #[error("cluster {cluster}: endpoints {endpoints} are not in the bundle")]
    Endpoints {
        /// Which cluster.
        cluster: ClusterName,
        /// What it points at.
        endpoints: ClusterName,
    },
    /// Only an agent could know this secret.
    #[error(
        "secret {0} is in no file that is known; expected default, ROOTCA, file-root:system, file-root:<path> or \
         file-cert:<chain>~<key>, or take secrets from an agent"
    )]
    Secret(SecretName),
    /// A resource has no JSON form.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// The control plane's cluster, as Istio names it.
const CONTROL_CLUSTER: &str = "xds-grpc";
/// What Istio writes for "without limit". Envoy warns of a bootstrap that does not say how many connections it may serve; in our
/// gateway each listener has a bound of its own.
const UNLIMITED_CONNECTIONS: u32 = 2_147_483_647;

/// A bootstrap with everything in it: no control plane is asked, ever.
///
/// # Errors
/// The bundle points at a resource or secret that is nowhere.
pub fn fixed(proxy: &Proxy, bundle: &Bundle) -> Result<Value, RenderError> {
    let _descriptors = Descriptors::hold();
    let mut bundle = inline::inline(bundle)?;
    let secrets = match &proxy.secrets {
        Secrets::Files(files) => secrets::from_files(files, secrets::localize(&mut bundle))?,
        Secrets::Agent(_) => Vec::new(),
    };
    let clusters = bundle.clusters.into_values().map(Resource::Cluster);
    let clusters = agent_cluster(proxy).into_iter().map(Resource::from).chain(clusters);
    let listeners = bundle.listeners.into_values().map(Resource::Listener);
    let resources = json!({
        "listeners": plain(listeners)?,
        "clusters": plain(clusters)?,
        "secrets": secrets,
    });
    Ok(document(proxy, resources, None))
}

/// A bootstrap that follows a control plane: listeners and clusters arrive over ADS.
///
/// # Errors
/// None that these arguments could cause, see [`to_json`].
pub fn following(proxy: &Proxy, control: &ControlPlane) -> Result<Value, RenderError> {
    let secrets = match &proxy.secrets {
        Secrets::Files(files) => secrets::from_files(files, secrets::own())?,
        Secrets::Agent(_) => Vec::new(),
    };
    let tls = control.identity.as_ref().map(|identity| control_tls(proxy, identity));
    let clusters = [grpc_cluster(CONTROL_CLUSTER, &control.address, tls)];
    let clusters = clusters.into_iter().chain(agent_cluster(proxy));
    let resources = json!({"clusters": plain(clusters.map(Resource::from))?, "secrets": secrets});
    Ok(document(proxy, resources, Some(dynamic_resources(control))))
}

fn document(proxy: &Proxy, static_resources: Value, dynamic_resources: Option<Value>) -> Value {
    let node = &proxy.node;
    let mut document = Map::new();
    let mut set = |field: &str, value| document.insert(field.to_owned(), value);
    set(
        "node",
        json!({"id": node.id, "cluster": node.cluster, "metadata": node.metadata}),
    );
    if let Some(address) = proxy.admin {
        set("admin", json!({"address": socket(address)}));
    }
    set("overload_manager", connections());
    if !proxy.resolvers.is_empty() {
        let resolvers: Vec<_> = proxy.resolvers.iter().copied().map(socket).collect();
        set("typed_dns_resolver_config", cares(&resolvers));
    }
    if let Some(resources) = dynamic_resources {
        set("dynamic_resources", resources);
    }
    set("static_resources", static_resources);
    Value::Object(document)
}

fn dynamic_resources(control: &ControlPlane) -> Value {
    let over_ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "ads_config": {
            "api_type": if control.delta { "DELTA_GRPC" } else { "GRPC" },
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL_CLUSTER}}],
        },
        "cds_config": over_ads,
        "lds_config": over_ads,
    })
}

fn connections() -> Value {
    let name = "envoy.resource_monitors.global_downstream_max_connections";
    let config = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";
    let monitor = json!({
        "name": name,
        "typed_config": {
            "@type": format!("type.googleapis.com/{config}"),
            "max_active_downstream_connections": UNLIMITED_CONNECTIONS,
        },
    });
    json!({"resource_monitors": [monitor]})
}

fn cares(resolvers: &[Value]) -> Value {
    json!({
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": resolvers,
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Resources as they stand in a bootstrap.
fn plain(resources: impl Iterator<Item = Resource>) -> Result<Vec<Value>, RenderError> {
    let plain = |resource| {
        let mut value = to_json(&resource)?;
        if let Value::Object(fields) = &mut value {
            fields.remove("@type");
        }
        Ok(value)
    };
    resources.map(plain).collect()
}

/// A cluster that speaks gRPC.
fn grpc_cluster(name: &str, address: &EndpointAddress, tls: Option<UpstreamTls>) -> Cluster {
    let endpoints = Endpoints(vec![Endpoint {
        address: address.clone(),
        weight: None,
        healthy: true,
    }]);
    Cluster {
        name: ClusterName::parse(name).expect("our own names are neither empty nor long"),
        alt_stat_name: None,
        discovery: match address {
            EndpointAddress::Socket(_) | EndpointAddress::Pipe(_) => Discovery::Static(endpoints),
            EndpointAddress::Name(..) => Discovery::StrictDns(endpoints, DnsSettings::default()),
        },
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: None,
        tls,
        http: UpstreamHttp::Http2,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: None,
        buffer_limit: None,
        reuse: crate::cluster::Reuse::default(),
    }
}

fn control_tls(proxy: &Proxy, identity: &SpiffeId) -> UpstreamTls {
    let secret = |name| match proxy.secrets {
        Secrets::Files(_) => SecretRef {
            name: secrets::name(name),
            source: SecretSource::Static,
        },
        Secrets::Agent(_) => SecretRef::of_agent(secrets::name(name)),
    };
    UpstreamTls {
        sni: None,
        certificate: Some(CertificateSource::Sds(secret(secrets::WORKLOAD))),
        validation: Some(Validation {
            trust: TrustSource::Sds(secret(secrets::MESH_ROOTS)),
            sans: vec![SanMatcher {
                kind: SanKind::Uri,
                name: StringMatcher::exact(identity.as_str()),
            }],
        }),
        alpn: vec!["h2".to_owned()],
        min_version: Some(TlsVersion::V1_2),
        max_version: Some(TlsVersion::V1_3),
    }
}

/// The agent's cluster, if there is one.
fn agent_cluster(proxy: &Proxy) -> Option<Cluster> {
    match &proxy.secrets {
        Secrets::Files(_) => None,
        Secrets::Agent(socket) => {
            let address = EndpointAddress::Pipe(socket.clone());
            Some(grpc_cluster(AGENT_CLUSTER, &address, None))
        }
    }
}
