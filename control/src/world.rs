//! All objects of a configuration, indexed for the questions that compiling a proxy asks.
//!
//! Invariants: equal objects give an equal world, whatever order they come in; competing objects are in Istio's order, oldest
//! first. Building looks at each object once; a question looks at what it is about, not at all objects.
//! What a single proxy sees of the world is [`Scope`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mesh::host::HostPattern;

use crate::{
    diag::{Code, Diagnostic},
    istio::{
        FieldPath, Kind, Object, Objects, Report,
        authorization_policy::AuthorizationPolicy,
        destination_rule::DestinationRule,
        gateway::Gateway,
        kubernetes::{self, EndpointSlice},
        metadata::selects,
        peer_authentication::{MutualTlsMode, PeerAuthentication},
        scalar::Port,
        service_entry::ServiceEntry,
        sidecar::Sidecar,
        virtual_service::VirtualService,
    },
};

mod audience;
mod host_index;
mod of;
mod rules;
mod scope;
mod service;

pub use audience::Audience;
pub(crate) use host_index::HostIndex;
pub use of::Of;
pub(crate) use of::by_age;
pub use rules::{Rules, Settings};
pub use scope::{Scope, Visible};
pub use service::{EndpointHost, Registry, Resolution, Service, ServiceEndpoint, ServicePort};

use audience::ByAudience;

/// All objects of a configuration.
#[derive(Debug, Default)]
pub struct World {
    services: Vec<Service>,
    services_by_host: HostIndex<usize>,
    services_by_namespace: HashMap<String, Vec<usize>>,
    services_by_audience: ByAudience,
    kubernetes_services: HashMap<String, Vec<Of<kubernetes::Service>>>,
    gateways: Vec<Of<Gateway>>,
    virtual_services: Vec<Routed>,
    /// Numbers of those that sidecars apply.
    mesh_virtual_services: ByAudience,
    /// Numbers of those that a Gateway applies, by its namespace and name.
    gateway_virtual_services: HashMap<(String, String), Vec<usize>>,
    rules: HashMap<String, HostIndex<Ruled>>,
    sidecars: HashMap<String, Vec<Of<Sidecar>>>,
    policies: HashMap<String, Vec<Of<AuthorizationPolicy>>>,
    peer_authentications: HashMap<String, Vec<Of<PeerAuthentication>>>,
    problems: Vec<Diagnostic>,
}

/// A VirtualService and who sees it.
#[derive(Debug)]
struct Routed {
    object: Of<VirtualService>,
    audience: Audience,
}

/// A DestinationRule and who sees it.
#[derive(Debug)]
struct Ruled {
    object: Of<DestinationRule>,
    audience: Audience,
}

impl World {
    /// Indexes objects.
    pub fn new(objects: &Objects) -> Self {
        let mut world = Self {
            kubernetes_services: grouped(objects, namespace_of),
            sidecars: grouped(objects, namespace_of),
            policies: grouped(objects, namespace_of),
            peer_authentications: grouped(objects, namespace_of),
            gateways: sorted(objects),
            ..Self::default()
        };
        world.add_services(objects);
        world.add_virtual_services(objects);
        world.add_rules(objects);
        world
    }

    /// Objects that are in order by themselves and yet cannot be served.
    pub fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// The Gateways whose selector is on a proxy with these labels, in any namespace, oldest first.
    pub fn gateways_of(&self, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &Of<Gateway>> {
        self.gateways
            .iter()
            .filter(move |gateway| selects(&gateway.selector, labels))
    }

    /// The VirtualServices that a Gateway applies and that are exported to the namespace of its proxy, oldest first.
    pub fn bound_to<'w>(
        &'w self,
        gateway: &Of<Gateway>,
        namespace: &str,
    ) -> impl Iterator<Item = &'w Of<VirtualService>> {
        let key = (gateway.namespace().to_owned(), gateway.name().to_owned());
        let numbers = self.gateway_virtual_services.get(&key).map_or(&[][..], Vec::as_slice);
        let all = numbers.iter().map(|number| &self.virtual_services[*number]);
        all.filter(move |routed| routed.audience.includes(namespace))
            .map(|routed| &routed.object)
    }

    /// The authorization policies that apply to a workload: of its namespace, and of the root namespace.
    pub fn policies_of<'w>(
        &'w self,
        namespace: &'w str,
        root: &'w str,
        labels: &'w BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'w Of<AuthorizationPolicy>> {
        let elsewhere = (root != namespace).then_some(root);
        let namespaces = std::iter::once(namespace).chain(elsewhere);
        let candidates = namespaces
            .filter_map(|namespace| self.policies.get(namespace))
            .flatten();
        candidates.filter(move |policy| {
            policy
                .selector
                .as_ref()
                .is_none_or(|all| selects(&all.match_labels, labels))
        })
    }

    /// Whether a workload's port takes mutual TLS, and the PeerAuthentication that says so: one that selects the workload, else
    /// its namespace's, else the mesh's. `None`: none says anything, which means either.
    pub fn mutual_tls(
        &self,
        namespace: &str,
        root: &str,
        labels: &BTreeMap<String, String>,
        port: u16,
    ) -> Option<(MutualTlsMode, &Of<PeerAuthentication>)> {
        let of = |namespace: &str| self.peer_authentications.get(namespace).into_iter().flatten();
        let selector = |policy: &Of<PeerAuthentication>| policy.selector.clone().unwrap_or_default().match_labels;
        let selecting = of(namespace).find(|policy| !selector(policy).is_empty() && selects(&selector(policy), labels));
        let of_namespace = of(namespace).find(|policy| selector(policy).is_empty());
        let of_mesh = of(root).find(|policy| selector(policy).is_empty());
        let levels = [selecting, of_namespace, of_mesh].into_iter().flatten();
        levels
            .map(|policy| (mode(policy, port), policy))
            .find(|(mode, _)| *mode != MutualTlsMode::Unset)
    }

    /// The Kubernetes Services that select a workload, oldest first, each with its endpoints.
    pub fn services_selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &Service> {
        let here = self.kubernetes_services.get(namespace).into_iter().flatten();
        let selecting = here.filter(move |service| !service.selector.is_empty() && selects(&service.selector, labels));
        selecting.filter_map(|service| {
            let host = HostPattern::parse(&kubernetes::Service::host(&service.object().metadata)).ok()?;
            let same = self
                .services_by_host
                .get(&host)
                .iter()
                .map(|number| &self.services[*number]);
            same.into_iter()
                .find(|candidate: &&Service| candidate.object.id == service.object().id)
        })
    }

    /// The DestinationRules that a client in `client` applies to a service, or to a host of namespace `owner`.
    pub fn rules(&self, client: &str, host: &HostPattern, owner: &str, root: &str) -> Rules<'_> {
        let level = |namespace: &str, visible: &dyn Fn(&Ruled) -> bool| {
            let index = self.rules.get(namespace)?;
            index.covering(host).find_map(|same_host| {
                let found: Vec<_> = same_host
                    .iter()
                    .filter(|rule| visible(rule))
                    .map(|rule| &rule.object)
                    .collect();
                (!found.is_empty()).then_some(found)
            })
        };
        let own = level(client, &|rule| client != root || rule.audience.is_only(client));
        let found = own
            .or_else(|| level(owner, &|rule| rule.audience.includes(client)))
            .or_else(|| level(root, &|rule| rule.audience.includes(client)));
        Rules::new(found.unwrap_or_default())
    }

    fn add_services(&mut self, objects: &Objects) {
        let slices = grouped(objects, |slice: &Of<EndpointSlice>| {
            let name = EndpointSlice::service_name(&slice.object().metadata)?;
            Some((slice.namespace().to_owned(), name.to_owned()))
        });
        for service in sorted::<kubernetes::Service>(objects) {
            let key = (service.namespace().to_owned(), service.name().to_owned());
            let slices = slices.get(&key).map_or(&[][..], Vec::as_slice);
            if let Some(service) = Service::of_kubernetes(&service, slices) {
                self.add_service(service);
            }
        }
        for entry in sorted::<ServiceEntry>(objects) {
            match Service::of_entry(&entry) {
                Ok(services) => services.into_iter().for_each(|service| self.add_service(service)),
                Err(unserved) => self.problems.extend(not_served(entry.object(), &unserved)),
            }
        }
    }

    fn add_service(&mut self, service: Service) {
        let number = self.services.len();
        self.services_by_host.insert(&service.host, number);
        self.services_by_audience.insert(number, &service.audience);
        let namespace = service.namespace().to_owned();
        self.services_by_namespace.entry(namespace).or_default().push(number);
        self.services.push(service);
    }

    fn add_virtual_services(&mut self, objects: &Objects) {
        for (number, object) in sorted::<VirtualService>(objects).into_iter().enumerate() {
            let audience = Audience::new(&object.export_to, object.namespace());
            if object.is_for_mesh() {
                self.mesh_virtual_services.insert(number, &audience);
            }
            for (namespace, name) in object
                .gateways
                .iter()
                .filter_map(|gateway| gateway.resolve(object.namespace()))
            {
                let key = (namespace.to_owned(), name.to_owned());
                let bound = self.gateway_virtual_services.entry(key).or_default();
                // A Gateway that is named twice applies it once.
                if bound.last() != Some(&number) {
                    bound.push(number);
                }
            }
            self.virtual_services.push(Routed { object, audience });
        }
    }

    fn add_rules(&mut self, objects: &Objects) {
        for object in sorted::<DestinationRule>(objects) {
            let audience = Audience::new(&object.export_to, object.namespace());
            let host = object.host.in_namespace(object.namespace());
            let index = self.rules.entry(object.namespace().to_owned()).or_default();
            index.insert(&host, Ruled { object, audience });
        }
    }
}

/// What a PeerAuthentication says for a port.
fn mode(policy: &PeerAuthentication, port: u16) -> MutualTlsMode {
    let of_port = Port::new(port).and_then(|port| policy.port_level_mtls.get(&port));
    let modes = [of_port, policy.mtls.as_ref()].into_iter().flatten();
    modes
        .map(|mtls| mtls.mode)
        .find(|mode| *mode != MutualTlsMode::Unset)
        .unwrap_or_default()
}

fn namespace_of<K>(object: &Of<K>) -> Option<String> {
    Some(object.namespace().to_owned())
}

/// All objects of a kind, oldest first.
fn sorted<K: Kind>(objects: &Objects) -> Vec<Of<K>> {
    let mut all: Vec<&Arc<Object>> = objects.of::<K>().map(|(object, _)| object).collect();
    all.sort_by(|a, b| by_age(a, b));
    all.into_iter().filter_map(Of::new).collect()
}

fn grouped<K: Kind, G: std::hash::Hash + Eq>(
    objects: &Objects,
    group: impl Fn(&Of<K>) -> Option<G>,
) -> HashMap<G, Vec<Of<K>>> {
    let mut groups: HashMap<G, Vec<Of<K>>> = HashMap::new();
    for object in sorted(objects) {
        if let Some(group) = group(&object) {
            groups.entry(group).or_default().push(object);
        }
    }
    groups
}

fn not_served(object: &Object, unserved: &service::Unserved) -> Vec<Diagnostic> {
    let spec = FieldPath::ROOT.field("spec");
    let mut report = Report::new(object);
    report.error(
        Code::NotImplemented,
        &spec.field(unserved.field),
        unserved.message.as_str(),
        unserved.advice,
    );
    report.into_diagnostics()
}
