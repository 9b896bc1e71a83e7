//! Starting from an Envoy bootstrap file.
//!
//! The file is [`mesh::xds::bootstrap`]'s to read. Here it becomes [`Settings`], and the way to its control plane. The control
//! plane's cluster is only that: no traffic can be routed to it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use certs::Workload;
use mesh::{
    ClusterName,
    bundle::Bundle,
    cluster::{Cluster, Discovery, Endpoint, EndpointAddress},
    secret::{AGENT_CLUSTER, SecretSource},
    source::{FileSource, Source},
    xds::{
        ads::client::Wants,
        bootstrap::{Ads, Bootstrap, BootstrapError, Node},
    },
};

use crate::{
    Settings, ads,
    tls::secrets::{self, Reference},
};

/// What a bootstrap file asks for.
pub struct Plan {
    /// To start with.
    pub settings: Settings,
    /// To follow, if the configuration is not all static.
    pub control: Option<ads::Settings>,
    /// Where the admin interface shall listen.
    pub admin: Option<SocketAddr>,
}

/// Why a bootstrap file cannot be started from.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] BootstrapError),
    /// Two resources of one kind have the same name.
    #[error("static_resources: {kind} {name:?} is there twice")]
    Twice {
        /// What kind.
        kind: &'static str,
        /// Which name.
        name: String,
    },
    /// Something comes over ADS, and there is no ADS.
    #[error("{kind} {name} waits for something over ads, but dynamic_resources.ads_config is not set")]
    NoControl {
        /// What kind.
        kind: &'static str,
        /// Which name.
        name: String,
    },
    /// A control plane must know who asks.
    #[error(
        "node: id and cluster are required to follow a control plane: set them, or --service-node and --service-cluster"
    )]
    Anonymous,
    /// The identity agent cannot be reached as it is described.
    #[error(
        "static_resources: cluster {AGENT_CLUSTER} cannot be asked for secrets; expected one endpoint, at a pipe or a loopback \
         address, without TLS"
    )]
    Agent,
    /// The control plane cannot be reached as it is described.
    #[error("dynamic_resources.ads_config: cluster {cluster}: {reason}")]
    Control {
        /// Its cluster.
        cluster: ClusterName,
        /// Why not.
        reason: &'static str,
    },
}

impl Plan {
    /// Reads a bootstrap file, JSON or YAML, for a proxy with this identity.
    ///
    /// # Errors
    /// It cannot be started from.
    pub fn read(text: &str, workload: Option<Workload>) -> Result<Self, PlanError> {
        Self::of(Bootstrap::parse(text)?, workload)
    }

    /// What a bootstrap that was read asks for, for a proxy with this identity.
    ///
    /// # Errors
    /// It cannot be started from.
    pub fn of(bootstrap: Bootstrap, workload: Option<Workload>) -> Result<Self, PlanError> {
        let mut fixed = fixed(bootstrap.listeners, bootstrap.clusters)?;
        let secret_services = secret_services(&fixed)?;
        let node = bootstrap.node.clone();
        let wants = Wants {
            listeners: bootstrap.listeners_from == Some(Source::Ads),
            clusters: bootstrap.clusters_from == Some(Source::Ads),
        };
        let control = match &bootstrap.ads {
            Some(ads) => Some(control_plane(ads, wants, bootstrap.node, &mut fixed)?),
            None => answered_without(&fixed).map(|()| None)?,
        };
        fixed.clusters.retain(|_, cluster| !is_at_pipe(cluster));
        Ok(Self {
            control,
            settings: Settings {
                workload,
                name_servers: bootstrap.resolvers,
                secrets: bootstrap.secrets,
                secret_services,
                node,
                fixed,
                listeners_from: file(bootstrap.listeners_from),
                clusters_from: file(bootstrap.clusters_from),
                ..Settings::default()
            },
            admin: bootstrap.admin,
        })
    }
}

fn fixed(listeners: Vec<mesh::listener::Listener>, clusters: Vec<Cluster>) -> Result<Bundle, PlanError> {
    let twice = |kind, name: &str| PlanError::Twice {
        kind,
        name: name.to_owned(),
    };
    let mut bundle = Bundle::default();
    for listener in listeners {
        if let Some(listener) = bundle.listeners.insert(listener.name.clone(), listener.into()) {
            return Err(twice("listener", listener.name.as_str()));
        }
    }
    for cluster in clusters {
        if let Some(cluster) = bundle.clusters.insert(cluster.name.clone(), cluster.into()) {
            return Err(twice("cluster", cluster.name.as_str()));
        }
    }
    Ok(bundle)
}

/// The clusters that may be asked for secrets.
fn secret_services(fixed: &Bundle) -> Result<BTreeMap<ClusterName, String>, PlanError> {
    let local = |cluster: &Cluster| {
        endpoint(cluster)
            .filter(|address| cluster.tls.is_none() && is_local(address))
            .map(server)
    };
    let all = fixed.clusters.values();
    let services: BTreeMap<_, _> = all
        .filter_map(|cluster| Some((cluster.name.clone(), local(cluster)?)))
        .collect();
    match fixed.clusters.contains_key(AGENT_CLUSTER) && !services.contains_key(AGENT_CLUSTER) {
        true => Err(PlanError::Agent),
        false => Ok(services),
    }
}

/// Takes the control plane's cluster out of the static ones and reads from it how to get there.
fn control_plane(ads: &Ads, wants: Wants, node: Node, fixed: &mut Bundle) -> Result<ads::Settings, PlanError> {
    if node.id.is_empty() || node.cluster.is_empty() {
        return Err(PlanError::Anonymous);
    }
    let refused = |reason| PlanError::Control {
        cluster: ads.cluster.clone(),
        reason,
    };
    let cluster = fixed.clusters.remove(&ads.cluster);
    let cluster = cluster.ok_or_else(|| refused("there is no static cluster of this name"))?;
    Ok(ads::Settings {
        server: server(endpoint(&cluster).ok_or_else(|| refused("expected exactly one endpoint"))?),
        security: security(&cluster).map_err(refused)?,
        wants,
        protocol: match ads.delta {
            true => ads::Protocol::Delta,
            false => ads::Protocol::StateOfTheWorld,
        },
        node_id: node.id,
        node_cluster: node.cluster,
        metadata: node.metadata,
    })
}

fn file(source: Option<Source>) -> Option<FileSource> {
    match source {
        Some(Source::File(file)) => Some(file),
        Some(Source::Ads) | None => None,
    }
}

/// Without a control plane, nothing may wait for one.
fn answered_without(fixed: &Bundle) -> Result<(), PlanError> {
    let waits = |kind, name: &dyn ToString| PlanError::NoControl {
        kind,
        name: name.to_string(),
    };
    for listener in fixed.listeners.values() {
        let routes = listener.routes().any(|(_, source)| *source == Source::Ads);
        if routes || secrets::of_listener(listener).any(is_over_ads) {
            return Err(waits("listener", &listener.name));
        }
    }
    let over_ads = |cluster: &&Arc<Cluster>| {
        let endpoints = cluster.endpoints().is_some_and(|(_, source)| *source == Source::Ads);
        endpoints || secrets::of_cluster(cluster).any(is_over_ads)
    };
    match fixed.clusters.values().find(over_ads) {
        Some(cluster) => Err(waits("cluster", &cluster.name)),
        None => Ok(()),
    }
}

fn is_over_ads(reference: Reference<'_>) -> bool {
    reference.secret().source == SecretSource::Ads
}

fn endpoint(cluster: &Cluster) -> Option<&EndpointAddress> {
    let endpoint: &Endpoint = match &cluster.discovery {
        Discovery::Static(endpoints) | Discovery::StrictDns(endpoints, _) => match endpoints.0.as_slice() {
            [one] => one,
            _ => return None,
        },
        Discovery::LogicalDns(endpoint, _) => endpoint,
        Discovery::Eds { .. } | Discovery::OriginalDst => return None,
    };
    Some(&endpoint.address)
}

fn server(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Name(name, port) => format!("{name}:{port}"),
        EndpointAddress::Pipe(path) => format!("{}{}", ads::UNIX, path.display()),
    }
}

fn security(cluster: &Cluster) -> Result<ads::Security, &'static str> {
    let Some(tls) = &cluster.tls else {
        return match endpoint(cluster).is_some_and(is_local) {
            true => Ok(ads::Security::PlaintextOnLoopback),
            false => Err("plaintext is spoken on loopback only: set its transport_socket to TLS"),
        };
    };
    let listed = tls
        .validation
        .as_ref()
        .is_some_and(|validation| !validation.sans.is_empty());
    match listed || cluster.auto_san_validation {
        true => Ok(ads::Security::AsCluster(Box::new(cluster.clone()))),
        false => Err("its TLS settings must list the names that the control plane may have"),
    }
}

/// Whether a cluster is of the proxy's own services: no traffic can be routed to it.
fn is_at_pipe(cluster: &Cluster) -> bool {
    matches!(endpoint(cluster), Some(EndpointAddress::Pipe(_)))
}

/// Whether nobody can listen between here and there.
fn is_local(address: &EndpointAddress) -> bool {
    match address {
        EndpointAddress::Socket(address) => address.ip().is_loopback(),
        EndpointAddress::Name(name, _) => name.as_str() == "localhost",
        EndpointAddress::Pipe(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: &str = "
node: {id: router~10.0.0.1~a.b~b.svc.cluster.local, cluster: egress, metadata: {NAMESPACE: b}}
static_resources:
  clusters:
  - name: xds-grpc
    type: STRICT_DNS
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 15010}}}}]}]
  - name: a
    type: STATIC
    load_assignment: {cluster_name: a}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
";

    #[test]
    fn the_control_plane_is_followed_and_not_routed_to() {
        let plan = Plan::read(EDGE, None).unwrap();
        let control = plan.control.unwrap();
        assert_eq!(
            (control.server.as_str(), control.protocol),
            ("localhost:15010", ads::Protocol::Delta)
        );
        assert!(matches!(control.security, ads::Security::PlaintextOnLoopback));
        assert_eq!(
            (control.node_cluster.as_str(), &control.metadata["NAMESPACE"]),
            ("egress", &"b".into())
        );
        let names: Vec<_> = plan.settings.fixed.clusters.keys().map(ClusterName::as_str).collect();
        assert_eq!(names, ["a"]);
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = Plan::read(text, None).err().unwrap().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_cannot_be_started_from_is_named() {
        refused(
            &EDGE.replace("cluster_name: xds-grpc}}]", "cluster_name: other}}]"),
            "cluster other: there is no static cluster",
        );
        let twice = EDGE.replace("- name: a", "- name: xds-grpc");
        refused(&twice, r#"cluster "xds-grpc" is there twice"#);
        refused("node: {idd: x}", "idd");
    }

    /// A bootstrap with one more cluster, reached as said.
    fn with_agent(address: &str, more: &str) -> String {
        let agent = format!(
            "  - name: sds-grpc
    type: STATIC
    load_assignment:
      cluster_name: sds-grpc
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{{address}}}}}}}]}}]
{more}dynamic_resources:"
        );
        EDGE.replace("dynamic_resources:", &agent)
    }

    #[test]
    fn an_agent_is_asked_for_secrets() {
        let plan = Plan::read(&with_agent("pipe: {path: ./var/run/socket}", ""), None).unwrap();
        assert_eq!(plan.settings.secret_services["sds-grpc"], "unix:./var/run/socket");
        assert!(
            !plan.settings.fixed.clusters.contains_key("sds-grpc"),
            "no traffic goes there"
        );
        assert_eq!(plan.settings.node.cluster, "egress");
        let loopback = "socket_address: {address: 127.0.0.1, port_value: 15002}";
        let plan = Plan::read(&with_agent(loopback, ""), None).unwrap();
        assert_eq!(plan.settings.secret_services["sds-grpc"], "127.0.0.1:15002");
    }

    #[test]
    fn an_agent_that_others_could_listen_to_is_refused() {
        let elsewhere = "socket_address: {address: 192.0.2.1, port_value: 15002}";
        refused(
            &with_agent(elsewhere, ""),
            "cluster sds-grpc cannot be asked for secrets",
        );
    }

    #[test]
    fn secrets_over_ads_need_a_control_plane() {
        let text = r#"
static_resources:
  clusters:
  - name: a
    type: STATIC
    load_assignment: {cluster_name: a}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          validation_context_sds_secret_config: {name: r, sds_config: {ads: {}}}
"#;
        refused(text, "cluster a waits for something over ads");
    }
}
