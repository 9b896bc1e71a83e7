//! From the world to what one proxy is told: a pure function.
//!
//! Invariants: equal inputs give an equal bundle, byte for byte once encoded. An object that cannot be applied is named in the
//! diagnostics and changes nothing that other objects say. Names are istiod's. What is stricter than istiod's output is in
//! [`SaferDefaults`](crate::mesh_config::SaferDefaults), written in terms that Envoy understands, and can be turned off there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh::{authz::RbacFilter, bundle::Bundle};

use crate::{
    diag::Diagnostic,
    istio::sidecar::OutboundMode,
    mesh_config::MeshConfig,
    node::{Interception, Node, Role},
    world::{Rules, Scope, Service, World},
};

mod authz;
mod cluster;
mod explicit;
mod gateway;
mod http;
mod mesh_routes;
mod names;
mod notes;
mod route;
mod sidecar;
mod tls;
mod upgrades;
mod virtual_host;

use mesh_routes::Port;
use notes::Notes;

/// Everything a compilation draws on.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    world: &'a World,
    mesh: &'a MeshConfig,
    node: &'a Node,
    scope: &'a Scope<'a>,
}

/// What a proxy is configured with, and what could not be applied.
pub fn compile(world: &World, mesh: &MeshConfig, node: &Node) -> (Bundle, Vec<Diagnostic>) {
    let scope = match node.role {
        Role::Gateway => Scope::gateway(world, &node.namespace),
        Role::Sidecar => Scope::sidecar(world, &node.namespace, &mesh.root_namespace, &node.labels),
    };
    let cx = Context {
        world,
        mesh,
        node,
        scope: &scope,
    };
    let (mut bundle, mut notes) = (Bundle::default(), Notes::new(world.problems()));
    cluster::add_all(cx, &mut bundle, &mut notes);
    match node.role {
        Role::Gateway => gateway::add_all(cx, &mut bundle, &mut notes),
        Role::Sidecar => sidecar::add_all(cx, &mut bundle, &mut notes),
    }
    upgrades::refuse(&mut bundle);
    (bundle, notes.into_sorted())
}

impl<'a> Context<'a> {
    fn is_gateway(&self) -> bool {
        self.node.role == Role::Gateway
    }

    /// The DestinationRules that this proxy applies to a service.
    fn rules(&self, service: &Service) -> Rules<'a> {
        let (client, root) = (&self.node.namespace, &self.mesh.root_namespace);
        self.world.rules(client, &service.host, service.namespace(), root)
    }

    /// The RBAC filters of this proxy.
    fn rbac(&self, layer: authz::Layer, notes: &mut Notes) -> Vec<RbacFilter> {
        let (namespace, root) = (&self.node.namespace, &self.mesh.root_namespace);
        let policies: Vec<_> = self.world.policies_of(namespace, root, &self.node.labels).collect();
        let trust_domains: Vec<_> = self.mesh.trust_domains().collect();
        let setting = authz::Setting {
            trust_domains: &trust_domains,
            layer,
        };
        authz::filters(&policies, setting, notes)
    }

    /// Every visible port of every visible service.
    fn ports(&self) -> impl Iterator<Item = Port<'a>> {
        self.scope.services().flat_map(|visible| {
            let service = visible.service;
            visible.ports().map(move |port| Port { service, port })
        })
    }

    /// What happens to destinations that are not in the registry.
    fn outbound_mode(&self) -> OutboundMode {
        self.scope.outbound_mode().unwrap_or(self.mesh.outbound_mode)
    }

    /// Whether connections of the application are redirected to us.
    fn redirects(&self) -> bool {
        self.node.interception == Interception::Redirect
    }

    /// The port of the explicit proxy, if there is one.
    fn proxy_port(&self) -> Option<u16> {
        self.node.http_proxy_port.or(self.mesh.proxy_http_port)
    }

    /// A proxy that does not say which addresses it has is taken for one with IPv4.
    fn has_ipv4(&self) -> bool {
        self.node.ips.is_empty() || self.node.ips.iter().any(IpAddr::is_ipv4)
    }

    /// The address that stands for all of the proxy's own.
    fn any_address(&self) -> IpAddr {
        if self.has_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    }
}
