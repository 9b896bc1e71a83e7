//! The core Kubernetes objects that a mesh is made of: `Namespace`, `Service`, `EndpointSlice`.
//!
//! Unlike Istio's kinds, these have many fields that are none of our business; they are skipped.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use super::{
    decode::advised,
    metadata::Metadata,
    scalar::{Port, Protocol},
    scope::{Export, NamespaceScope, SERVICE_DOMAIN},
};

/// Core Namespace. All that matters is in its metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Namespace {}

/// Core Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// How it is reached.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Its virtual address; `None` (as the text) for a headless service, empty if not assigned yet.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Labels of its pods. Empty: its endpoints are managed by hand.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// How a Service is reached. `ExternalName` is not implemented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// Also at every node.
    NodePort,
    /// Also through a load balancer.
    LoadBalancer,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; also declares the protocol.
    #[serde(default)]
    pub name: String,
    /// The number that clients use.
    pub port: Port,
    /// The pods' port. `None`: `port`.
    #[serde(default)]
    pub target_port: Option<TargetPort>,
    /// TCP, UDP or SCTP. Only TCP is proxied.
    #[serde(default)]
    pub protocol: TransportProtocol,
    /// Declares the protocol instead of the name.
    #[serde(default)]
    pub app_protocol: String,
}

/// A pod's port, by number or by the name that its container gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// The number.
    Number(Port),
    /// The name; only an EndpointSlice knows the number.
    Name(String),
}

/// Transport of a Service port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// `discovery.k8s.io` EndpointSlice. The label `kubernetes.io/service-name` says whose endpoints they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// What the addresses are.
    pub address_type: AddressType,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports, the same for all endpoints.
    pub ports: Vec<SlicePort>,
}

/// What the addresses of an EndpointSlice are. `FQDN` is not implemented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    #[default]
    IPv4,
    /// IPv6 addresses.
    IPv6,
}

/// A pod of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// Its addresses; by convention only the first counts.
    pub addresses: Vec<IpAddr>,
    /// Its state.
    pub conditions: EndpointConditions,
}

/// State of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    /// Whether it takes traffic. `None`: it does.
    pub ready: Option<bool>,
}

/// A port of an EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlicePort {
    /// The name of the Service port.
    pub name: String,
    /// The number. `None`: all ports, which we do not use.
    pub port: Option<Port>,
}

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const EXPORT_ANNOTATION: &str = "networking.istio.io/exportTo";
const ACCOUNTS_ANNOTATION: &str = "alpha.istio.io/kubernetes-serviceaccounts";

impl Service {
    /// The Service's full host: `name.namespace.svc.cluster.local`.
    pub fn host(metadata: &Metadata) -> String {
        format!("{}.{}.{SERVICE_DOMAIN}", metadata.name, metadata.namespace)
    }

    /// The service accounts that its annotation lists.
    pub fn service_accounts(metadata: &Metadata) -> impl Iterator<Item = &str> {
        annotation_list(metadata, ACCOUNTS_ANNOTATION)
    }

    /// The namespaces that see it, from its annotation. Empty: all.
    pub fn export_to(metadata: &Metadata) -> Vec<Export> {
        annotation_list(metadata, EXPORT_ANNOTATION)
            .map(|entry| Export(entry.parse().unwrap_or(NamespaceScope::Nowhere)))
            .collect()
    }
}

impl ServicePort {
    /// What is spoken: `appProtocol` if it says something we know, else the port's name, else bytes.
    pub fn app_protocol(&self) -> Protocol {
        Protocol::from_port_name(&self.app_protocol)
            .or_else(|| Protocol::from_port_name(&self.name))
            .unwrap_or(Protocol::Tcp)
    }

    /// The pods' port, if it is known by number.
    pub fn target_number(&self) -> Option<Port> {
        match &self.target_port {
            None => Some(self.port),
            Some(TargetPort::Number(port)) => Some(*port),
            Some(TargetPort::Name(_)) => None,
        }
    }
}

impl EndpointSlice {
    /// The Service whose endpoints these are.
    pub fn service_name(metadata: &Metadata) -> Option<&str> {
        metadata.labels.get(SERVICE_NAME_LABEL).map(String::as_str)
    }
}

fn annotation_list<'a>(metadata: &'a Metadata, key: &str) -> impl Iterator<Item = &'a str> {
    let text = metadata.annotations.get(key).map_or("", String::as_str);
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetPortVisitor)
    }
}

struct TargetPortVisitor;

impl serde::de::Visitor<'_> for TargetPortVisitor {
    type Value = TargetPort;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a port number or the name of a container port")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<TargetPort, E> {
        let port = u16::try_from(number).ok().and_then(Port::new).map(TargetPort::Number);
        port.ok_or_else(|| E::custom(advised(&format!("{number} is not a port"), "use 1 to 65535")))
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<TargetPort, E> {
        Ok(TargetPort::Name(name.to_owned()))
    }
}
