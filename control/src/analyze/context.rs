//! Everything there is, indexed for the questions that checks ask.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use mesh::host::HostPattern;

use crate::istio::{
    FieldPath, Object, Objects, Report,
    destination_rule::DestinationRule,
    kubernetes::{Namespace, Service, ServicePort},
    metadata::selects,
    scalar::{Port, Protocol},
    scope::{Export, NamespaceScope, exported_to},
    service_entry::{ServiceEntry, ServiceEntryPort, WorkloadEntry},
};
use crate::{diag::Code, world::by_age};

/// Labels, of a selector or of a workload.
pub(super) type Labels = BTreeMap<String, String>;

/// All objects and what can be looked up among them.
pub(super) struct Context<'a> {
    pub(super) objects: &'a Objects,
    pub(super) root_namespace: &'a str,
    established: &'a Objects,
    hosts: ByHost<KnownHost<'a>>,
    rules: ByHost<Rule<'a>>,
    namespaces: BTreeSet<&'a str>,
    /// Selectors of Services by namespace: the labels that workloads are known to have.
    workloads: BTreeMap<&'a str, Vec<(&'a Service, &'a Labels)>>,
}

/// A host of a Service or ServiceEntry.
pub(super) struct KnownHost<'a> {
    pub(super) namespace: &'a str,
    pub(super) ports: Vec<Port>,
    /// Those of them where clients speak TLS themselves.
    pub(super) tls_ports: Vec<Port>,
    pub(super) endpoints: Endpoints<'a>,
    /// Whether it says which names its certificate may have.
    pub(super) lists_names: bool,
    exports: Vec<Export>,
}

/// What is known of the labels of a host's endpoints.
pub(super) enum Endpoints<'a> {
    /// They have at least these labels.
    Selected(&'a Labels),
    /// They are these.
    Listed(&'a [WorkloadEntry]),
    /// Nothing: DNS finds them.
    Found,
}

/// A DestinationRule.
pub(super) struct Rule<'a> {
    pub(super) object: &'a Arc<Object>,
    pub(super) rule: &'a DestinationRule,
}

/// Values by host, with those of wildcard hosts apart.
struct ByHost<T> {
    exact: HashMap<HostPattern, Vec<T>>,
    wildcards: Vec<(HostPattern, T)>,
}

impl<'a> Context<'a> {
    pub(super) fn new(objects: &'a Objects, established: &'a Objects, root_namespace: &'a str) -> Self {
        let mut context = Self {
            objects,
            root_namespace,
            established,
            hosts: ByHost::new(),
            rules: ByHost::new(),
            namespaces: objects.of::<Namespace>().map(|(object, _)| object.name()).collect(),
            workloads: BTreeMap::new(),
        };
        context.add_services();
        context.add_service_entries();
        for (object, rule) in objects.of::<DestinationRule>() {
            context
                .rules
                .add(rule.host.in_namespace(object.namespace()), Rule { object, rule });
        }
        context
    }

    fn add_services(&mut self) {
        for (object, service) in self.objects.of::<Service>() {
            if !service.selector.is_empty() {
                self.workloads
                    .entry(object.namespace())
                    .or_default()
                    .push((service, &service.selector));
            }
            if let Ok(host) = HostPattern::parse(&Service::host(&object.metadata)) {
                self.hosts.add(
                    host,
                    KnownHost {
                        namespace: object.namespace(),
                        ports: service.ports.iter().map(|port| port.port).collect(),
                        tls_ports: service.ports.iter().filter_map(tls_port_of_service).collect(),
                        endpoints: Endpoints::Selected(&service.selector),
                        lists_names: false,
                        exports: Service::export_to(&object.metadata),
                    },
                );
            }
        }
    }

    fn add_service_entries(&mut self) {
        for (object, entry) in self.objects.of::<ServiceEntry>() {
            for host in &entry.hosts {
                self.hosts.add(
                    host.pattern().clone(),
                    KnownHost {
                        namespace: object.namespace(),
                        ports: entry.ports.iter().map(|port| port.number).collect(),
                        tls_ports: entry.ports.iter().filter_map(tls_port_of_entry).collect(),
                        endpoints: if entry.endpoints.is_empty() {
                            Endpoints::Found
                        } else {
                            Endpoints::Listed(&entry.endpoints)
                        },
                        lists_names: !entry.subject_alt_names.is_empty(),
                        exports: entry.export_to.clone(),
                    },
                );
            }
        }
    }

    /// The Services and ServiceEntries that have a host.
    pub(super) fn hosts<'s>(&'s self, host: &'s HostPattern) -> Vec<&'s KnownHost<'a>> {
        self.hosts.covering(host).collect()
    }

    /// Whether a host, or any host that a wildcard covers, exists.
    pub(super) fn any_host(&self, host: &HostPattern) -> bool {
        self.hosts.covering(host).next().is_some() || self.hosts.covered_by(host)
    }

    /// The DestinationRules for a host that are exported to a namespace.
    pub(super) fn rules<'s>(&'s self, host: &'s HostPattern, namespace: &'s str) -> impl Iterator<Item = &'s Rule<'a>> {
        let visible = move |rule: &&Rule<'a>| exported_to(&rule.rule.export_to, namespace, rule.object.namespace());
        self.rules.covering(host).filter(visible)
    }

    /// Labels that workloads are known to have, in a namespace or (`None`) anywhere, each with the Service that says so.
    pub(super) fn workloads<'s>(
        &'s self,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = &'s (&'a Service, &'a Labels)> {
        let chosen = self
            .workloads
            .iter()
            .filter(move |(name, _)| namespace.is_none_or(|wanted| wanted == **name));
        chosen.flat_map(|(_, workloads)| workloads)
    }

    /// The numbers of the known workloads that a selector chooses.
    pub(super) fn chosen_by(&self, selector: &Labels) -> BTreeSet<usize> {
        let all = self.workloads(None).enumerate();
        all.filter(|(_, (_, labels))| selects(selector, labels))
            .map(|(number, _)| number)
            .collect()
    }

    /// The namespaces of the known workloads that a selector chooses.
    pub(super) fn namespaces_of<'s>(&'s self, selector: &'s Labels) -> impl Iterator<Item = &'a str> + use<'s, 'a> {
        let chosen = |workloads: &[(&Service, &Labels)]| workloads.iter().any(|(_, labels)| selects(selector, labels));
        let all = self.workloads.iter();
        all.filter(move |(_, workloads)| chosen(workloads))
            .map(|(namespace, _)| *namespace)
    }

    /// The order in which objects that compete prevail.
    pub(super) fn precedence(&self, a: &Object, b: &Object) -> Ordering {
        let is_new = |object: &Object| self.established.by_id(&object.id).is_none();
        is_new(a).cmp(&is_new(b)).then_with(|| by_age(a, b))
    }

    /// Warns about namespaces that do not exist, if any namespace is known at all.
    pub(super) fn namespace_exists(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Warns about export entries that name no namespace there is.
    pub(super) fn check_exports(&self, exports: &[Export], report: &mut Report<'_>) {
        let (spec, path);
        spec = FieldPath::ROOT.field("spec");
        path = spec.field("exportTo");
        for (index, Export(scope)) in exports.iter().enumerate() {
            self.check_namespace(scope, &path.index(index), report);
        }
    }

    /// Warns about a scope that names no namespace there is.
    pub(super) fn check_namespace(&self, scope: &NamespaceScope, path: &FieldPath<'_>, report: &mut Report<'_>) {
        if let NamespaceScope::Named(name) = scope
            && !self.namespace_exists(name)
        {
            report.warning(
                Code::ReferenceNotFound,
                path,
                format!("namespace {name} does not exist"),
                "correct the name",
            );
        }
    }
}

impl KnownHost<'_> {
    pub(super) fn visible_in(&self, namespace: &str) -> bool {
        exported_to(&self.exports, namespace, self.namespace)
    }
}

fn tls_port_of_service(port: &ServicePort) -> Option<Port> {
    port.app_protocol().is_tls().then_some(port.port)
}

fn tls_port_of_entry(port: &ServiceEntryPort) -> Option<Port> {
    port.protocol.is_some_and(Protocol::is_tls).then_some(port.number)
}

impl<T> ByHost<T> {
    fn new() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: Vec::new(),
        }
    }

    fn add(&mut self, host: HostPattern, value: T) {
        match host {
            HostPattern::Exact(_) => self.exact.entry(host).or_default().push(value),
            HostPattern::Suffix(_) | HostPattern::Any => self.wildcards.push((host, value)),
        }
    }

    /// Values whose host is this one or covers it.
    fn covering<'s>(&'s self, host: &'s HostPattern) -> impl Iterator<Item = &'s T> {
        let wide = self
            .wildcards
            .iter()
            .filter(move |(pattern, _)| pattern.covers(host))
            .map(|(_, value)| value);
        self.exact.get(host).into_iter().flatten().chain(wide)
    }

    /// Whether a wildcard covers any host.
    fn covered_by(&self, host: &HostPattern) -> bool {
        !matches!(host, HostPattern::Exact(_))
            && (self.exact.keys().any(|known| host.covers(known))
                || self.wildcards.iter().any(|(known, _)| host.covers(known)))
    }
}
