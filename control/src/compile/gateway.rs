//! The listeners and routes of an egress gateway: one listener per port of the Gateways that select it.
//!
//! Gateways come oldest first, and whoever comes later and wants the same port or server name is refused with a note.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh::{
    RouteConfigName,
    bundle::Bundle,
    host::HostPattern,
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, RouteSource, TrafficDirection, Transport},
    source::Source,
    tls::{CertificateSource, DownstreamTls, SanMatcher, TrustSource, Validation},
};

use super::{
    Context, authz,
    http::{self, Peer},
    names,
    notes::{Notes, Problem},
    route::{self, Binding},
    tls,
    virtual_host::{self, ServerHosts},
};
use crate::{
    diag::Code,
    istio::{
        FieldPath,
        gateway::{Gateway, Server, ServerTlsMode},
        peer_authentication::MutualTlsMode,
        scalar::Protocol,
    },
    world::Of,
};

/// A server of a Gateway, and who asked for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served<'a> {
    pub(super) gateway: &'a Of<Gateway>,
    pub(super) server: &'a Server,
    /// Its number in the Gateway.
    index: usize,
    kind: Kind,
}

/// What is done on a server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// HTTP as it comes.
    PlainHttp,
    /// HTTP inside mutual TLS of the mesh.
    MutualHttp,
    /// TLS is passed through by server name.
    Passthrough,
}

/// Bound on the TLS handshake, as Istio sets it for gateways.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Adds listeners and routes.
pub(super) fn add_all(cx: Context<'_>, bundle: &mut Bundle, notes: &mut Notes) {
    for (port, servers) in servers_by_port(cx, notes) {
        compare_with_mutual_tls(cx, port, &servers, notes);
        let plain: Vec<_> = servers
            .iter()
            .copied()
            .filter(|served| served.kind == Kind::PlainHttp)
            .collect();
        let listener = if plain.is_empty() {
            tls_listener(cx, port, &servers, bundle, notes)
        } else {
            Some(plain_listener(cx, port, &plain, bundle, notes))
        };
        bundle
            .listeners
            .extend(listener.map(|listener| (listener.name.clone(), listener.into())));
    }
}

/// The servers of each port that the proxy listens on. On one port either all take plain HTTP or none does.
fn servers_by_port<'a>(cx: Context<'a>, notes: &mut Notes) -> BTreeMap<u16, Vec<Served<'a>>> {
    let mut ports: BTreeMap<u16, Vec<Served<'a>>> = BTreeMap::new();
    for gateway in cx.world.gateways_of(&cx.node.labels) {
        for (index, server) in gateway.servers.iter().enumerate() {
            let kind = match kind(server) {
                Ok(kind) => kind,
                Err(problem) => {
                    note(notes, gateway, index, problem);
                    continue;
                }
            };
            let same = ports.entry(bound_port(cx, server.port.number.get())).or_default();
            let plain = |kind| kind == Kind::PlainHttp;
            match same.first() {
                Some(first) if plain(first.kind) != plain(kind) => conflict(notes, gateway, index, first),
                _ => same.push(Served {
                    gateway,
                    server,
                    index,
                    kind,
                }),
            }
        }
    }
    ports
}

/// A PeerAuthentication governs what sidecars accept; a gateway's TLS is what its servers say. Whoever expects otherwise is told.
fn compare_with_mutual_tls(cx: Context<'_>, port: u16, servers: &[Served<'_>], notes: &mut Notes) {
    let (namespace, root) = (&cx.node.namespace, &cx.mesh.root_namespace);
    let Some((mode, policy)) = cx.world.mutual_tls(namespace, root, &cx.node.labels, port) else {
        return;
    };
    for served in servers {
        let (expected, does) = match (mode, served.kind) {
            (MutualTlsMode::Strict, Kind::PlainHttp) => ("STRICT", "takes plain HTTP all the same"),
            (MutualTlsMode::Disable, Kind::MutualHttp) => ("DISABLE", "demands mutual TLS all the same"),
            _ => continue,
        };
        let (owner, name) = (policy.namespace(), policy.name());
        let message = format!("PeerAuthentication {owner}/{name} has mode {expected}, and this server {does}");
        let spec = FieldPath::ROOT.field("spec");
        let servers = spec.field("servers");
        let server = servers.index(served.index);
        let advice = "a gateway's TLS is set by its servers; change tls.mode here";
        notes.warning(served.gateway.object(), &server, Code::Questionable, message, advice);
    }
}

fn kind(server: &Server) -> Result<Kind, Problem> {
    let mode = server.tls.as_ref().map(|tls| tls.mode);
    match (server.port.protocol, mode) {
        (Protocol::Http | Protocol::Http2 | Protocol::Grpc, _) => Ok(Kind::PlainHttp),
        (Protocol::Https, Some(ServerTlsMode::IstioMutual)) => Ok(Kind::MutualHttp),
        (Protocol::Https | Protocol::Tls, Some(ServerTlsMode::Passthrough)) => Ok(Kind::Passthrough),
        (Protocol::Tls, Some(ServerTlsMode::IstioMutual)) => Err(Problem::not_implemented(
            "protocol TLS with mode ISTIO_MUTUAL is not implemented, since it is routed by tcp routes",
            "use protocol HTTPS with ISTIO_MUTUAL, or TLS with PASSTHROUGH",
        )),
        (Protocol::Https | Protocol::Tls, None) => Err(Problem::invalid(
            "a server of protocol HTTPS or TLS must have tls settings",
            "add tls.mode: ISTIO_MUTUAL or PASSTHROUGH",
        )),
        (Protocol::Tcp, _) => Err(Problem::not_implemented(
            "protocol TCP is not implemented for a Gateway",
            "use protocol HTTP, HTTPS or TLS",
        )),
    }
}

/// The port that the gateway's Service sends this one of its ports to; without such a Service the number itself.
fn bound_port(cx: Context<'_>, number: u16) -> u16 {
    let mut services = cx.world.services_selecting(&cx.node.namespace, &cx.node.labels);
    let target = services.find_map(|service| {
        let port = service.port(number)?;
        // A target port by name is known by number only where the endpoints are.
        port.target
            .or_else(|| service.endpoints.iter().find_map(|endpoint| endpoint.port(port)))
    });
    target.unwrap_or(number)
}

fn plain_listener(
    cx: Context<'_>,
    port: u16,
    servers: &[Served<'_>],
    bundle: &mut Bundle,
    notes: &mut Notes,
) -> Listener {
    let routes = names::routes(&format!("http.{port}"));
    let chain = http_chain(cx, port, "", &routes, None, notes);
    let config = virtual_host::of_servers(cx, routes.clone(), servers, notes);
    bundle.routes.insert(routes, config.into());
    listener(cx, port, vec![chain], false)
}

/// `None` without a chain: a port that would take no connection is not opened.
fn tls_listener(
    cx: Context<'_>,
    port: u16,
    servers: &[Served<'_>],
    bundle: &mut Bundle,
    notes: &mut Notes,
) -> Option<Listener> {
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    for served in servers {
        match served.kind {
            Kind::Passthrough => chains.extend(passthrough_chains(cx, served, &mut taken, notes)),
            Kind::MutualHttp | Kind::PlainHttp => {
                chains.extend(mutual_chain(cx, port, served, &mut taken, bundle, notes));
            }
        }
    }
    (!chains.is_empty()).then(|| listener(cx, port, chains, true))
}

fn listener(cx: Context<'_>, port: u16, filter_chains: Vec<FilterChain>, tls: bool) -> Listener {
    let address = cx.any_address();
    Listener {
        name: names::listener(address, port),
        address: (address, port).into(),
        bind_to_port: true,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors {
            tls,
            ..Inspectors::default()
        },
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains,
        default_filter_chain: None,
        access_logs: http::listener_logs(cx),
        buffer_limit: None,
    }
}

/// A chain that terminates mutual TLS, with its routes. `None` if its server names are taken.
fn mutual_chain(
    cx: Context<'_>,
    port: u16,
    served: &Served<'_>,
    taken: &mut BTreeSet<HostPattern>,
    bundle: &mut Bundle,
    notes: &mut Notes,
) -> Option<FilterChain> {
    let hosts: BTreeSet<_> = served.hosts().collect();
    let routes = names::routes(&format!(
        "https.{}.{}.{}.{}",
        served.server.port.number,
        served.server.port.name,
        served.gateway.name(),
        served.gateway.namespace(),
    ));
    if hosts.iter().any(|host| taken.contains(host)) || bundle.routes.contains_key(&routes) {
        let problem = Problem {
            code: Code::ConflictingGateways,
            message: format!(
                "an older server has port {} for the same hosts",
                served.server.port.number
            ),
            advice: "give the server other hosts, or another port",
        };
        note(notes, served.gateway, served.index, problem);
        return None;
    }
    if let Err(problem) = route::distinguishable(&hosts) {
        note(notes, served.gateway, served.index, problem);
        return None;
    }
    let config = virtual_host::of_servers(cx, routes.clone(), &[*served], notes);
    bundle.routes.insert(routes.clone(), config.into());
    let mut chain = http_chain(
        cx,
        port,
        &served.server.name,
        &routes,
        Some(mutual_tls(cx, served.server)),
        notes,
    );
    if !hosts.contains(&HostPattern::Any) {
        chain.matches.server_names = hosts.iter().cloned().collect();
    }
    taken.extend(hosts);
    Some(chain)
}

fn http_chain(
    cx: Context<'_>,
    port: u16,
    name: &str,
    routes: &RouteConfigName,
    tls: Option<DownstreamTls>,
    notes: &mut Notes,
) -> FilterChain {
    let stat_prefix = match name {
        "" => format!("outbound_{}_{port};", cx.any_address()),
        name => name.to_owned(),
    };
    let rbac = cx.rbac(authz::Layer::Http, notes);
    FilterChain {
        name: None,
        matches: FilterChainMatch::default(),
        handshake_timeout: tls.is_some().then_some(HANDSHAKE_TIMEOUT),
        tls,
        rbac: Vec::new(),
        protocol: http::connection_manager(
            cx,
            Peer::Mesh,
            stat_prefix,
            RouteSource::Rds(routes.clone(), Source::Ads),
            rbac,
        ),
    }
}

/// One chain per match of a `tls` route of a VirtualService that is bound to the Gateway.
fn passthrough_chains(
    cx: Context<'_>,
    served: &Served<'_>,
    taken: &mut BTreeSet<HostPattern>,
    notes: &mut Notes,
) -> Vec<FilterChain> {
    let rbac = cx.rbac(authz::Layer::Tcp, notes);
    let binding = served.binding();
    let hosts = ServerHosts::new(served);
    let mut chains = Vec::new();
    for routed in cx.world.bound_to(served.gateway, &cx.node.namespace) {
        if hosts.narrow(routed).is_empty() {
            continue;
        }
        for target in route::tls_targets(cx, routed, binding, notes).unwrap_or_default() {
            if let Some(name) = target.names.iter().find(|name| taken.contains(name)) {
                let message = format!("server name {name} is taken by an older route on port {}", binding.port);
                let tls = FieldPath::ROOT.field("spec");
                notes.warning(
                    routed.object(),
                    &tls.field("tls"),
                    Code::ConflictingGateways,
                    message,
                    "route it once",
                );
                continue;
            }
            taken.extend(target.names.iter().cloned());
            chains.push(FilterChain {
                name: None,
                matches: by_server_name(&target.names),
                tls: None,
                handshake_timeout: Some(HANDSHAKE_TIMEOUT),
                rbac: rbac.clone(),
                protocol: http::tcp_proxy(cx, target.clusters, target.settings),
            });
        }
    }
    chains
}

/// TLS connections for one of these names; `*` stands for every TLS connection.
pub(super) fn by_server_name(names: &[HostPattern]) -> FilterChainMatch {
    if names.contains(&HostPattern::Any) {
        return FilterChainMatch {
            transport: Some(Transport::Tls),
            ..FilterChainMatch::default()
        };
    }
    FilterChainMatch {
        server_names: names.to_vec(),
        ..FilterChainMatch::default()
    }
}

fn mutual_tls(cx: Context<'_>, server: &Server) -> DownstreamTls {
    DownstreamTls {
        certificate: CertificateSource::Sds(names::secret("default")),
        validation: Some(Validation {
            trust: TrustSource::Sds(names::secret("ROOTCA")),
            sans: client_names(cx, server),
        }),
        require_client_certificate: true,
        alpn: vec!["h2".into(), "http/1.1".into()],
        min_version: None,
        max_version: None,
    }
}

/// Whom the server lists, else any member of the mesh's trust domains. Istio takes whatever chains to the roots.
fn client_names(cx: Context<'_>, server: &Server) -> Vec<SanMatcher> {
    let listed = server.tls.as_ref().map_or(&[][..], |tls| &tls.subject_alt_names);
    if listed.is_empty() && cx.mesh.safer_defaults.verify_client_trust_domain {
        return tls::members(cx.mesh.trust_domains(), "");
    }
    listed.iter().map(|name| tls::san(name)).collect()
}

impl<'a> Served<'a> {
    /// The hosts, without the namespaces they are taken from.
    fn hosts(&self) -> impl Iterator<Item = HostPattern> {
        let own = self.gateway.namespace();
        self.server
            .hosts
            .iter()
            .map(move |scoped| scoped.host.in_namespace(own))
    }

    /// How VirtualServices see it.
    pub(super) fn binding(&self) -> Binding<'a> {
        Binding {
            gateway: Some((self.gateway.namespace(), self.gateway.name())),
            port: self.server.port.number.get(),
        }
    }
}

fn conflict(notes: &mut Notes, gateway: &Of<Gateway>, index: usize, first: &Served<'_>) {
    let problem = Problem {
        code: Code::ConflictingGateways,
        message: format!(
            "port {} is already {} for Gateway {}/{}",
            first.server.port.number,
            if first.kind == Kind::PlainHttp {
                "plain HTTP"
            } else {
                "TLS"
            },
            first.gateway.namespace(),
            first.gateway.name(),
        ),
        advice: "use one kind of protocol per port",
    };
    note(notes, gateway, index, problem);
}

fn note(notes: &mut Notes, gateway: &Of<Gateway>, index: usize, problem: Problem) {
    let spec = FieldPath::ROOT.field("spec");
    let servers = spec.field("servers");
    notes.problem(gateway.object(), &servers.index(index), problem);
}
