//! What sidecars do for a service: the VirtualServices that speak of it, and its own cluster where none does.

use std::collections::HashSet;

use mesh::{
    host::HostPattern,
    listener::Protocol,
    route::{Route, VirtualHost, WeightedClusters},
};

use super::{
    Context, http, names,
    notes::Notes,
    route::{self, Binding, TlsTarget},
    virtual_host::virtual_host,
};
use crate::{
    istio::virtual_service::VirtualService,
    world::{HostIndex, Of, Registry, Service, ServicePort, Settings},
};

/// A port of a visible service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
}

/// The VirtualServices of a sidecar, by host.
#[derive(Debug)]
pub(super) struct MeshRoutes<'a> {
    by_host: HostIndex<&'a Of<VirtualService>>,
    /// Hosts in the order of their VirtualServices.
    hosts: Vec<(HostPattern, &'a Of<VirtualService>)>,
}

/// Where TLS connections for a service go.
#[derive(Debug)]
pub(super) enum TlsRouting<'a> {
    /// Where VirtualServices say.
    Routed(Vec<TlsTarget<'a>>),
    /// To the service itself.
    Direct(TlsTarget<'a>),
}

/// The port where a VirtualService also serves hosts that are not in the registry.
const HTTP_PORT: u16 = 80;

impl<'a> MeshRoutes<'a> {
    pub(super) fn new(cx: Context<'a>) -> Self {
        let mut routes = Self {
            by_host: HostIndex::default(),
            hosts: Vec::new(),
        };
        for routed in cx.scope.virtual_services() {
            for host in routed.hosts.iter().map(|host| host.in_namespace(routed.namespace())) {
                routes.by_host.insert(&host, *routed);
                routes.hosts.push((host, *routed));
            }
        }
        routes
    }

    /// Where TLS connections for a service go, by server name: where the first VirtualService that speaks of them says, the one
    /// with the most specific host first; else to the service itself. One that is broken leaves its host without a way, rather
    /// than with one that goes around it.
    pub(super) fn tls(&self, cx: Context<'a>, port: Port<'_>, notes: &mut Notes) -> TlsRouting<'a> {
        let binding = Binding {
            gateway: None,
            port: port.port.number,
        };
        for routed in self.by_host.covering(&port.service.host).flatten() {
            match route::tls_targets(cx, routed, binding, notes) {
                Some(targets) if targets.is_empty() => {}
                Some(targets) => return TlsRouting::Routed(targets),
                None => return TlsRouting::Routed(vec![port.closed()]),
            }
        }
        TlsRouting::Direct(port.tls_target(cx))
    }

    /// The virtual hosts of the services on a port, and on port 80 of the hosts that only VirtualServices know.
    pub(super) fn virtual_hosts(
        &self,
        cx: Context<'a>,
        port: u16,
        services: &[Port<'_>],
        notes: &mut Notes,
    ) -> Vec<VirtualHost> {
        let mut hosts = Vec::new();
        for service in services {
            let routes = self.http(cx, *service, notes);
            hosts.push(virtual_host(service.name(), service.hosts(cx), routes));
        }
        if port == HTTP_PORT {
            hosts.extend(self.unregistered(cx, services, notes));
        }
        hosts
    }

    /// The routes of a service: of the first VirtualService that has some for it, the one with the most specific host first.
    /// One that is broken leaves its hosts without a route, rather than with one that goes around it.
    fn http(&self, cx: Context<'a>, port: Port<'_>, notes: &mut Notes) -> Vec<Route> {
        let binding = Binding {
            gateway: None,
            port: port.port.number,
        };
        for routed in self.by_host.covering(&port.service.host).flatten() {
            match route::http_routes(cx, routed, binding, notes) {
                Some(routes) if routes.is_empty() => {}
                Some(routes) => return routes,
                None => return Vec::new(),
            }
        }
        let cluster = names::cluster(port.port.number, "", &port.service.host);
        cluster
            .map(|cluster| vec![route::default_route(cluster)])
            .unwrap_or_default()
    }

    /// Hosts of VirtualServices that no service on the port has or is covered by.
    fn unregistered(&self, cx: Context<'a>, services: &[Port<'_>], notes: &mut Notes) -> Vec<VirtualHost> {
        let binding = Binding {
            gateway: None,
            port: HTTP_PORT,
        };
        let registered: HashSet<_> = services.iter().map(|port| &port.service.host).collect();
        let known = |host: &HostPattern| match host {
            HostPattern::Exact(_) => registered.contains(host),
            HostPattern::Suffix(_) | HostPattern::Any => registered.iter().any(|service| host.covers(service)),
        };
        let (mut hosts, mut done) = (Vec::new(), HashSet::new());
        for (host, routed) in self.hosts.iter().filter(|(host, _)| !known(host)) {
            let routes = route::http_routes(cx, routed, binding, notes).unwrap_or_default();
            if !routes.is_empty() && done.insert(host) {
                hosts.push(virtual_host(format!("{host}:{HTTP_PORT}"), vec![host.clone()], routes));
            }
        }
        hosts
    }
}

impl Port<'_> {
    /// `example.com:80`.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.service.host, self.port.number)
    }

    /// Every way to write the service's host: in full, in short as far as Kubernetes would resolve it, and by address.
    pub(super) fn hosts(&self, cx: Context<'_>) -> Vec<HostPattern> {
        let mut texts = Vec::new();
        if self.service.registry == Registry::Kubernetes {
            let (name, namespace) = (self.service.object.name(), self.service.namespace());
            texts.push(format!("{name}.{namespace}.svc"));
            texts.push(format!("{name}.{namespace}"));
            if namespace == cx.node.namespace {
                texts.push(name.to_owned());
            }
        }
        texts.extend(self.service.addresses.iter().map(ToString::to_string));
        let short = texts.iter().filter_map(|text| HostPattern::parse(text).ok());
        std::iter::once(self.service.host.clone()).chain(short).collect()
    }

    /// Every connection of a listener to this service.
    pub(super) fn tcp_proxy(&self, cx: Context<'_>) -> Protocol {
        let target = self.tls_target(cx);
        http::tcp_proxy(cx, target.clusters, target.settings)
    }

    /// Connections whose server name is the service's host, to the service itself.
    fn tls_target<'c>(&self, cx: Context<'c>) -> TlsTarget<'c> {
        // The name of a cluster without a subset is short enough.
        let cluster = names::cluster(self.port.number, "", &self.service.host);
        TlsTarget {
            names: vec![self.service.host.clone()],
            clusters: WeightedClusters::one(cluster.unwrap_or_else(|_| names::fixed_cluster(names::BLACK_HOLE))),
            settings: cx.rules(self.service).settings(self.port.number, None),
        }
    }

    /// Connections whose server name is the service's host, to nowhere.
    fn closed<'c>(&self) -> TlsTarget<'c> {
        TlsTarget {
            names: vec![self.service.host.clone()],
            clusters: WeightedClusters::one(names::fixed_cluster(names::BLACK_HOLE)),
            settings: Settings::default(),
        }
    }
}

impl<'a> TlsRouting<'a> {
    /// The targets, whoever says so.
    pub(super) fn into_targets(self) -> Vec<TlsTarget<'a>> {
        match self {
            Self::Routed(targets) => targets,
            Self::Direct(target) => vec![target],
        }
    }
}
