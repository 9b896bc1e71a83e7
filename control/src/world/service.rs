//! Services, wherever they come from: a Kubernetes Service with its EndpointSlices, or a host of a ServiceEntry.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use mesh::host::{Host, HostPattern};

use super::{audience::Audience, of::Of};
use crate::istio::{
    Object,
    kubernetes::{self, EndpointSlice, TransportProtocol},
    scalar::Protocol,
    service_entry::{self, Location, ServiceEntry},
};

/// A host that can be called, as one object defines it.
#[derive(Debug)]
pub struct Service {
    /// The Service or ServiceEntry.
    pub object: Arc<Object>,
    /// The full host.
    pub host: HostPattern,
    /// Where it comes from.
    pub registry: Registry,
    /// Virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints that are known by address or written in place.
    pub endpoints: Vec<ServiceEndpoint>,
    /// Outside the mesh.
    pub external: bool,
    /// Names one of which an endpoint's certificate must carry.
    pub subject_alt_names: Vec<String>,
    /// Service accounts of the endpoints, as far as they are known.
    pub accounts: Vec<String>,
    /// Who sees it.
    pub audience: Audience,
}

/// Where a service comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    ServiceEntry,
}

/// How a service's endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// They are [`Service::endpoints`].
    Endpoints,
    /// By DNS, all addresses.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// The client knows: the address it connects to.
    Client,
}

/// A TCP port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The number that clients use.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// The endpoints' port, if it is the same for all.
    pub target: Option<u16>,
}

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoint {
    /// Where it is.
    pub address: EndpointHost,
    /// Its ports by the name of the service's port, where they differ from [`ServicePort::target`].
    pub ports: BTreeMap<String, u16>,
    /// Its labels. `None`: they are not known.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its share. `None`: 1.
    pub weight: Option<u32>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointHost {
    /// At an address.
    Ip(IpAddr),
    /// Where its name leads.
    Name(Host),
}

/// What a ServiceEntry says that cannot be served here; the field is inside `spec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unserved {
    pub(super) field: &'static str,
    pub(super) message: String,
    pub(super) advice: &'static str,
}

impl Service {
    /// The namespace of the object that defines it.
    pub fn namespace(&self) -> &str {
        self.object.namespace()
    }

    /// A port by number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// A Kubernetes Service with the endpoints of its slices.
    pub(super) fn of_kubernetes(service: &Of<kubernetes::Service>, slices: &[Of<EndpointSlice>]) -> Option<Self> {
        let metadata = &service.object().metadata;
        let host = HostPattern::parse(&kubernetes::Service::host(metadata)).ok()?;
        let address = service.cluster_ip.parse().ok();
        let headless = service.cluster_ip == "None";
        Some(Self {
            object: Arc::clone(service.object()),
            host,
            registry: Registry::Kubernetes,
            addresses: address.into_iter().collect(),
            ports: service.ports.iter().filter_map(ServicePort::of_kubernetes).collect(),
            resolution: if headless {
                Resolution::Client
            } else {
                Resolution::Endpoints
            },
            endpoints: slices.iter().flat_map(|slice| slice_endpoints(slice)).collect(),
            external: false,
            subject_alt_names: Vec::new(),
            accounts: kubernetes::Service::service_accounts(metadata)
                .map(str::to_owned)
                .collect(),
            audience: Audience::new(&kubernetes::Service::export_to(metadata), service.namespace()),
        })
    }

    /// The hosts of a ServiceEntry.
    pub(super) fn of_entry(entry: &Of<ServiceEntry>) -> Result<Vec<Self>, Unserved> {
        let addresses = entry.addresses.iter().map(|block| single_address(block.net()));
        let addresses: Vec<_> = addresses.collect::<Option<_>>().ok_or_else(|| Unserved {
            field: "addresses",
            message: "a block of addresses is not implemented".into(),
            advice: "list single addresses",
        })?;
        let endpoints: Vec<_> = entry
            .endpoints
            .iter()
            .map(ServiceEndpoint::of_entry)
            .collect::<Result<_, _>>()?;
        if entry.resolution == service_entry::Resolution::DnsRoundRobin && endpoints.len() > 1 {
            return Err(Unserved {
                field: "endpoints",
                message: format!(
                    "{} endpoints with resolution DNS_ROUND_ROBIN, which takes one",
                    endpoints.len()
                ),
                advice: "leave one endpoint or use resolution DNS",
            });
        }
        let hosts = entry.hosts.iter();
        hosts
            .map(|host| Self::of_host(entry, host.pattern(), &addresses, &endpoints))
            .collect()
    }

    fn of_host(
        entry: &Of<ServiceEntry>,
        host: &HostPattern,
        addresses: &[IpAddr],
        endpoints: &[ServiceEndpoint],
    ) -> Result<Self, Unserved> {
        let resolution = Resolution::from(entry.resolution);
        let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        let endpoints = match (endpoints, host) {
            ([], HostPattern::Exact(host)) if by_name => vec![ServiceEndpoint::at(named(host))],
            ([], _) if by_name => return Err(unresolvable(host)),
            (written, _) => written.to_vec(),
        };
        let accounts = entry.endpoints.iter().map(|endpoint| endpoint.service_account.clone());
        Ok(Self {
            object: Arc::clone(entry.object()),
            host: host.clone(),
            registry: Registry::ServiceEntry,
            addresses: addresses.to_vec(),
            ports: entry.ports.iter().map(ServicePort::of_entry).collect(),
            resolution,
            endpoints,
            external: entry.location == Location::MeshExternal,
            subject_alt_names: entry.subject_alt_names.clone(),
            accounts: accounts.filter(|account| !account.is_empty()).collect(),
            audience: Audience::new(&entry.export_to, entry.namespace()),
        })
    }
}

impl ServicePort {
    fn of_kubernetes(port: &kubernetes::ServicePort) -> Option<Self> {
        (port.protocol == TransportProtocol::Tcp).then(|| Self {
            number: port.port.get(),
            name: port.name.clone(),
            protocol: port.app_protocol(),
            target: port.target_number().map(crate::istio::scalar::Port::get),
        })
    }

    fn of_entry(port: &service_entry::ServiceEntryPort) -> Self {
        Self {
            number: port.number.get(),
            name: port.name.clone(),
            protocol: port.protocol.unwrap_or(Protocol::Tcp),
            target: Some(port.target_port.unwrap_or(port.number).get()),
        }
    }
}

impl ServiceEndpoint {
    /// Where it takes connections for a service's port. `None`: nowhere.
    pub fn port(&self, port: &ServicePort) -> Option<u16> {
        self.ports.get(&port.name).copied().or(port.target)
    }

    fn at(address: EndpointHost) -> Self {
        Self {
            address,
            ports: BTreeMap::new(),
            labels: Some(BTreeMap::new()),
            weight: None,
        }
    }

    fn of_entry(written: &service_entry::WorkloadEntry) -> Result<Self, Unserved> {
        let address = Host::parse(&written.address).map_err(|_| Unserved {
            field: "endpoints",
            message: format!("endpoint address {:?} is not implemented", written.address),
            advice: "give an IP address or a host name",
        })?;
        Ok(Self {
            ports: written
                .ports
                .iter()
                .map(|(name, port)| (name.clone(), port.get()))
                .collect(),
            labels: Some(written.labels.clone()),
            weight: written.weight,
            ..Self::at(named(&address))
        })
    }
}

impl From<service_entry::Resolution> for Resolution {
    fn from(written: service_entry::Resolution) -> Self {
        match written {
            service_entry::Resolution::None => Self::Client,
            service_entry::Resolution::Static => Self::Endpoints,
            service_entry::Resolution::Dns => Self::Dns,
            service_entry::Resolution::DnsRoundRobin => Self::DnsRoundRobin,
        }
    }
}

fn unresolvable(host: &HostPattern) -> Unserved {
    Unserved {
        field: "hosts",
        message: format!("{host} cannot be resolved by DNS: it is a pattern and there are no endpoints"),
        advice: "list exact hosts, give endpoints, or use resolution NONE",
    }
}

fn named(host: &Host) -> EndpointHost {
    host.ip()
        .map_or_else(|| EndpointHost::Name(host.clone()), EndpointHost::Ip)
}

fn single_address(block: ipnet::IpNet) -> Option<IpAddr> {
    (block.prefix_len() == block.max_prefix_len()).then(|| block.addr())
}

/// The endpoints of a slice that take traffic.
fn slice_endpoints(slice: &EndpointSlice) -> impl Iterator<Item = ServiceEndpoint> {
    let ports = slice
        .ports
        .iter()
        .filter_map(|port| Some((port.name.clone(), port.port?.get())));
    let ports: BTreeMap<_, _> = ports.collect();
    let ready = slice
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.ready != Some(false));
    ready.filter_map(move |endpoint| {
        Some(ServiceEndpoint {
            address: EndpointHost::Ip(*endpoint.addresses.first()?),
            ports: ports.clone(),
            labels: None,
            weight: None,
        })
    })
}
