//! The virtual hosts of a gateway's servers.
//!
//! A host that several VirtualServices speak of has the routes of all, oldest first, those that take everything last. Hosts
//! with the same routes share a virtual host.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use mesh::{
    RouteConfigName,
    host::HostPattern,
    route::{Domain, Route, RouteConfig, VirtualHost},
};

use super::{Context, gateway::Served, notes::Notes, route};
use crate::{
    istio::{scope::NamespaceScope, virtual_service::VirtualService},
    world::{HostIndex, Of},
};

/// Routes of one VirtualService at one server, with the server they are for.
struct Contribution {
    routes: Vec<Route>,
    port: u16,
}

/// The hosts of a server, with the namespaces whose VirtualServices may serve them.
#[derive(Debug)]
pub(super) struct ServerHosts {
    own_namespace: String,
    index: HostIndex<NamespaceScope>,
    all: Vec<(HostPattern, NamespaceScope)>,
}

/// Hosts in the order they were first spoken of, each with the numbers of what contributes to it.
#[derive(Default)]
struct Hosts {
    order: Vec<HostPattern>,
    contributions: HashMap<HostPattern, Vec<usize>>,
}

/// The route configuration of servers that share one.
pub(super) fn of_servers(
    cx: Context<'_>,
    name: RouteConfigName,
    servers: &[Served<'_>],
    notes: &mut Notes,
) -> RouteConfig {
    let mut hosts = Hosts::default();
    let mut contributions = Vec::new();
    for served in servers {
        let server_hosts = ServerHosts::new(served);
        for routed in cx.world.bound_to(served.gateway, &cx.node.namespace) {
            let narrowed = server_hosts.narrow(routed);
            if narrowed.is_empty() {
                continue;
            }
            let routes = route::http_routes(cx, routed, served.binding(), notes).unwrap_or_default();
            if !routes.is_empty() {
                let port = served.binding().port;
                contributions.push(Contribution { routes, port });
                hosts.contribute(narrowed, contributions.len() - 1);
            }
        }
    }
    let mut virtual_hosts = hosts.into_virtual_hosts(&contributions);
    for served in servers.iter().filter(|served| redirects(served)) {
        require_tls(served, &mut virtual_hosts);
    }
    if virtual_hosts.is_empty() {
        let port = servers.first().map_or(0, |served| served.binding().port);
        virtual_hosts.push(virtual_host(
            format!("blackhole:{port}"),
            vec![HostPattern::Any],
            Vec::new(),
        ));
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    RouteConfig {
        name,
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        ignore_port_in_host_matching: true,
    }
}

/// A virtual host whose domains carry no port.
pub(super) fn virtual_host(name: String, hosts: Vec<HostPattern>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name,
        domains: hosts.into_iter().map(|host| Domain { host, port: None }).collect(),
        routes,
        require_tls: false,
        include_attempt_count: true,
    }
}

impl ServerHosts {
    /// The hosts of a server.
    pub(super) fn new(served: &Served<'_>) -> Self {
        let own = served.gateway.namespace();
        let mut hosts = Self {
            own_namespace: own.to_owned(),
            index: HostIndex::default(),
            all: Vec::new(),
        };
        for scoped in &served.server.hosts {
            let host = scoped.host.in_namespace(own);
            hosts.index.insert(&host, scoped.namespace.clone());
            hosts.all.push((host, scoped.namespace.clone()));
        }
        hosts
    }

    /// The hosts of a VirtualService that are served; where one is a wildcard, the narrower of the two.
    pub(super) fn narrow(&self, routed: &Of<VirtualService>) -> Vec<HostPattern> {
        let open = |scope: &NamespaceScope| scope.contains(routed.namespace(), &self.own_namespace);
        let (mut hosts, mut known) = (Vec::new(), HashSet::new());
        for host in routed.hosts.iter().map(|host| host.in_namespace(routed.namespace())) {
            let narrower: Vec<_> = if self.index.covering(&host).flatten().any(open) {
                vec![host]
            } else if matches!(host, HostPattern::Exact(_)) {
                Vec::new()
            } else {
                let inside = self
                    .all
                    .iter()
                    .filter(|(server, scope)| host.covers(server) && open(scope));
                inside.map(|(server, _)| server.clone()).collect()
            };
            hosts.extend(narrower.into_iter().filter(|host| known.insert(host.clone())));
        }
        hosts
    }
}

impl Hosts {
    fn contribute(&mut self, hosts: Vec<HostPattern>, number: usize) {
        for host in hosts {
            let entry = self.contributions.entry(host.clone()).or_default();
            if entry.is_empty() {
                self.order.push(host);
            }
            entry.push(number);
        }
    }

    fn into_virtual_hosts(self, contributions: &[Contribution]) -> Vec<VirtualHost> {
        let mut groups: Vec<(&[usize], Vec<HostPattern>)> = Vec::new();
        let mut known: HashMap<&[usize], usize> = HashMap::new();
        for host in self.order {
            let Some(numbers) = self.contributions.get(&host) else {
                continue;
            };
            let group = *known.entry(numbers).or_insert_with(|| {
                groups.push((numbers, Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(host);
        }
        groups
            .into_iter()
            .filter_map(|(numbers, hosts)| merged(contributions, numbers, hosts))
            .collect()
    }
}

fn merged(contributions: &[Contribution], numbers: &[usize], hosts: Vec<HostPattern>) -> Option<VirtualHost> {
    let parts: Vec<_> = numbers.iter().filter_map(|number| contributions.get(*number)).collect();
    let mut routes: Vec<_> = parts.iter().flat_map(|part| part.routes.iter().cloned()).collect();
    routes.sort_by_key(route::takes_everything);
    let name = format!("{}:{}", hosts.first()?, parts.first()?.port);
    Some(virtual_host(name, hosts, routes))
}

fn redirects(served: &Served<'_>) -> bool {
    served.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
}

/// Every host of the server answers plain requests with a redirect, routed or not.
fn require_tls(served: &Served<'_>, virtual_hosts: &mut Vec<VirtualHost>) {
    let own = served.gateway.namespace();
    for host in served.server.hosts.iter().map(|scoped| scoped.host.in_namespace(own)) {
        let mut exists = false;
        for known in virtual_hosts.iter_mut() {
            exists |= known.domains.iter().any(|domain| domain.host == host);
            known.require_tls |= known.domains.iter().any(|domain| host.covers(&domain.host));
        }
        if !exists {
            let mut redirecting = virtual_host(format!("{host}:{}", served.binding().port), vec![host], Vec::new());
            redirecting.require_tls = true;
            virtual_hosts.push(redirecting);
        }
    }
}
