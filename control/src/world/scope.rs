//! What one proxy sees of the world.

use std::collections::{BTreeMap, BTreeSet};

use mesh::host::HostPattern;

use super::{Service, ServicePort, World, of::Of};
use crate::istio::{
    metadata::selects,
    scope::{NamespaceScope, ScopedHost},
    sidecar::{OutboundMode, Sidecar},
    virtual_service::VirtualService,
};

/// The services and VirtualServices one proxy sees.
#[derive(Debug)]
pub struct Scope<'w> {
    services: BTreeMap<&'w HostPattern, Visible<'w>>,
    /// For sidecars, oldest first. A gateway finds its own through [`World::bound_to`].
    virtual_services: Vec<&'w Of<VirtualService>>,
    /// What happens to destinations outside the registry, if a Sidecar says so.
    outbound_mode: Option<OutboundMode>,
}

/// A service in the scope of a proxy.
#[derive(Debug, Clone)]
pub struct Visible<'w> {
    /// The service.
    pub service: &'w Service,
    /// The ports that are seen. `None`: all.
    ports: Option<BTreeSet<u16>>,
}

impl<'w> Scope<'w> {
    /// What a gateway in `namespace` sees: everything exported to its namespace.
    pub fn gateway(world: &'w World, namespace: &str) -> Self {
        let mut scope = Self::empty();
        for number in world.services_by_audience.seen_by(namespace) {
            scope.offer(&world.services[number], namespace);
        }
        scope
    }

    /// What a sidecar sees: what the Sidecar that applies to it lists, or else everything exported to its namespace.
    pub fn sidecar(world: &'w World, namespace: &str, root: &str, labels: &BTreeMap<String, String>) -> Self {
        let sidecar = world.sidecar_of(namespace, root, labels);
        let mesh = world.mesh_virtual_services.seen_by(namespace);
        let mesh = mesh.into_iter().map(|number| &world.virtual_services[number].object);
        let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.egress.is_empty()) else {
            return Self {
                virtual_services: mesh.collect(),
                outbound_mode: sidecar.and_then(|sidecar| Some(sidecar.outbound_traffic_policy?.mode)),
                ..Self::gateway(world, namespace)
            };
        };
        let mut scope = Self::empty();
        scope.outbound_mode = sidecar.outbound_traffic_policy.map(|policy| policy.mode);
        // A root-namespace Sidecar's `.` is the namespace of the workload.
        let entries: Vec<_> = sidecar.egress.iter().flat_map(|listener| &listener.hosts).collect();
        for entry in &entries {
            scope.import_services(world, entry, namespace);
        }
        let imported = mesh.filter(|routed| entries.iter().any(|entry| lists(entry, routed, namespace)));
        scope.virtual_services = imported.collect();
        scope.add_destinations(world, namespace);
        scope
    }

    /// The services, by host.
    pub fn services(&self) -> impl Iterator<Item = &Visible<'w>> {
        self.services.values()
    }

    /// The service of exactly this host.
    pub fn service(&self, host: &HostPattern) -> Option<&Visible<'w>> {
        self.services.get(host)
    }

    /// The VirtualServices that the sidecar applies, oldest first.
    pub fn virtual_services(&self) -> &[&'w Of<VirtualService>] {
        &self.virtual_services
    }

    /// What happens to destinations outside the registry, if a Sidecar says so.
    pub fn outbound_mode(&self) -> Option<OutboundMode> {
        self.outbound_mode
    }

    fn empty() -> Self {
        Self {
            services: BTreeMap::new(),
            virtual_services: Vec::new(),
            outbound_mode: None,
        }
    }

    fn import_services(&mut self, world: &'w World, entry: &ScopedHost, namespace: &str) {
        let pattern = entry.host.pattern();
        let candidates = match (pattern, &entry.namespace) {
            (HostPattern::Exact(_), _) => world.services_by_host.get(pattern).to_vec(),
            (_, NamespaceScope::Any) => world.services_by_audience.seen_by(namespace),
            (_, NamespaceScope::Own) => world.numbers_in(namespace),
            (_, NamespaceScope::Named(name)) => world.numbers_in(name),
            (_, NamespaceScope::Nowhere) => Vec::new(),
        };
        for service in candidates.into_iter().map(|number| &world.services[number]) {
            let listed = entry.namespace.contains(service.namespace(), namespace) && pattern.covers(&service.host);
            if listed && service.audience.includes(namespace) {
                self.offer(service, namespace);
            }
        }
    }

    /// Takes a service in, unless there is a better one of the same host: one of the proxy's own namespace, else a Kubernetes
    /// Service, else the first.
    fn offer(&mut self, service: &'w Service, namespace: &str) {
        let rank = |service: &Service| (service.namespace() != namespace, service.registry);
        let seen = Visible { service, ports: None };
        self.services
            .entry(&service.host)
            .and_modify(|known| {
                if rank(service) < rank(known.service) {
                    *known = seen.clone();
                }
            })
            .or_insert(seen);
    }

    /// Adds the destinations of the VirtualServices, so that a route that is imported also leads somewhere.
    fn add_destinations(&mut self, world: &'w World, namespace: &str) {
        let mut wanted: BTreeMap<HostPattern, BTreeSet<Option<u16>>> = BTreeMap::new();
        for routed in &self.virtual_services {
            for (_, destination) in routed.destinations() {
                let host = destination.host_in(routed.namespace());
                let port = destination.port.map(|port| port.number.get());
                wanted.entry(host).or_default().insert(port);
            }
        }
        for (host, ports) in wanted {
            if self.services.contains_key(&host) {
                continue;
            }
            if let Some(service) = world.preferred(&host, namespace) {
                let ports: Option<BTreeSet<u16>> = ports.into_iter().collect();
                self.services.insert(&service.host, Visible { service, ports });
            }
        }
    }
}

impl<'w> Visible<'w> {
    /// The ports that are seen.
    pub fn ports(&self) -> impl Iterator<Item = &'w ServicePort> {
        let seen = self.ports.as_ref();
        self.service
            .ports
            .iter()
            .filter(move |port| seen.is_none_or(|seen| seen.contains(&port.number)))
    }
}

impl World {
    /// The Sidecar that applies to a workload: one of its namespace that selects it, else its namespace's, else the mesh's.
    fn sidecar_of(&self, namespace: &str, root: &str, labels: &BTreeMap<String, String>) -> Option<&Of<Sidecar>> {
        let own = self.sidecars.get(namespace).map_or(&[][..], Vec::as_slice);
        let selecting = own.iter().find(|sidecar| {
            let selector = sidecar.workload_selector.as_ref();
            selector.is_some_and(|selector| !selector.labels.is_empty() && selects(&selector.labels, labels))
        });
        let of_namespace = || own.iter().find(|sidecar| applies_to_all(sidecar));
        let of_mesh = || self.sidecars.get(root)?.iter().find(|sidecar| applies_to_all(sidecar));
        selecting.or_else(of_namespace).or_else(of_mesh)
    }

    fn numbers_in(&self, namespace: &str) -> Vec<usize> {
        self.services_by_namespace.get(namespace).cloned().unwrap_or_default()
    }

    /// The service of a host that a client takes: of its own namespace, else the first visible one by namespace.
    fn preferred(&self, host: &HostPattern, namespace: &str) -> Option<&Service> {
        let same = self
            .services_by_host
            .get(host)
            .iter()
            .map(|number| &self.services[*number]);
        let visible = same.filter(|service| service.audience.includes(namespace));
        visible.min_by_key(|service| (service.namespace() != namespace, service.namespace()))
    }
}

fn applies_to_all(sidecar: &Sidecar) -> bool {
    sidecar
        .workload_selector
        .as_ref()
        .is_none_or(|selector| selector.labels.is_empty())
}

/// Whether a Sidecar's entry imports a VirtualService: a host of one covers a host of the other.
fn lists(entry: &ScopedHost, routed: &Of<VirtualService>, namespace: &str) -> bool {
    let pattern = entry.host.pattern();
    entry.namespace.contains(routed.namespace(), namespace)
        && routed.hosts.iter().any(|host| {
            let host = host.in_namespace(routed.namespace());
            pattern.covers(&host) || host.covers(pattern)
        })
}
