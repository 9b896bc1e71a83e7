//! What every proxy of a scenario gets: the same resources, certificates, ports and upstream.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, ensure};
use certs::{CaRequest, CertificateAuthority, Identity, LeafRequest, Live, Roots};
use control::{compile, istio, mesh_config::MeshConfig, node, world::World};
use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
    xds::{
        proxy::{Pod, Role},
        render,
    },
};

use crate::{
    scenario::{Setup, Shape},
    upstream,
};

/// The host that clients ask for, in plaintext beyond the gateway.
pub(crate) const PLAIN: &str = "plain.test";
/// The host that the gateway originates TLS to, and that clients reach through it by SNI.
pub(crate) const SECURE: &str = "secure.test";
/// The host that sends without end to whoever says hello, without TLS.
pub(crate) const ENDLESS: &str = "endless.test";
/// A host that is routed and that nobody may reach.
pub(crate) const FORBIDDEN: &str = "forbidden.test";

/// A scenario's surroundings; gone when dropped.
pub(crate) struct Stage {
    files: tempfile::TempDir,
    /// Ports that the proxies listen on, one after the other.
    pub(crate) ports: Ports,
    /// What clients show.
    pub(crate) caller: Arc<Live<Identity>>,
    /// What clients of another tenant show, who may reach the same host if the setup says so.
    pub(crate) flooder: Arc<Live<Identity>>,
    /// What the upstream shows over TLS.
    pub(crate) site: Arc<Live<Identity>>,
}

/// Ports of the proxies and of the upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The mutual-TLS listener.
    pub(crate) mutual: u16,
    /// The passthrough listener.
    pub(crate) passthrough: u16,
    /// The upstream in plaintext.
    pub(crate) plain: u16,
    /// The upstream over TLS.
    pub(crate) secure: u16,
    /// The upstream that sends without end.
    pub(crate) endless: u16,
}

impl Stage {
    pub(crate) fn new(setup: Setup, upstream: upstream::Ports) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let path = files.path();
        let now = SystemTime::now();
        let trust_domain = TrustDomain::parse("cluster.local")?;
        let mesh = CertificateAuthority::root(&CaRequest::mesh(&trust_domain), now)?;
        let public = CertificateAuthority::root(&CaRequest::named("Public"), now)?;
        let svid = |namespace, account| -> anyhow::Result<Identity> {
            let id = SpiffeId::new(&trust_domain, namespace, account)?;
            Ok(mesh.issue(&LeafRequest::svid(&id), now)?)
        };
        save(&svid("istio-egress", "gateway")?, &path.join("gateway"), mesh.roots())?;
        let site = public.issue(&LeafRequest::server(&Host::parse(SECURE)?), now)?;
        save(&site, &path.join("site"), public.roots())?;
        let ports = Ports {
            mutual: free_port()?,
            passthrough: free_port()?,
            plain: upstream.plain,
            secure: upstream.secure,
            endless: upstream.endless,
        };
        let stage = Self {
            ports,
            caller: Arc::new(Live::new(svid("team-0", "test")?)),
            flooder: Arc::new(Live::new(svid("flood", "test")?)),
            site: Arc::new(Live::new(site)),
            files,
        };
        stage.compile(setup)?;
        Ok(stage)
    }

    /// A file or directory of this stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(crate) fn mutual(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports.mutual)
    }

    pub(crate) fn passthrough(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports.passthrough)
    }

    /// Has control compile the setup's resources into the file that ours and Envoy start from.
    fn compile(&self, setup: Setup) -> anyhow::Result<()> {
        let resources = self.path("resources");
        fs::create_dir(&resources)?;
        fs::write(resources.join("gateway.yaml"), self.resources(setup.flooder))?;
        let policies: Vec<_> = policies(setup, self.ports.mutual).collect();
        for (number, part) in policies.chunks(PER_FILE).enumerate() {
            fs::write(resources.join(format!("policies-{number}.yaml")), part.concat())?;
        }
        let loaded = istio::load(&resources);
        let wrong: Vec<_> = loaded.diagnostics.iter().filter(|found| found.is_error()).collect();
        ensure!(wrong.is_empty(), "the resources are not in order: {wrong:?}");
        let world = World::new(&loaded.objects);
        let pod = pod();
        let identity = pod.node(Role::Gateway);
        let node = node::Node {
            role: node::Role::Gateway,
            namespace: pod.namespace,
            service_account: pod.service_account,
            labels: pod.labels,
            ips: vec![pod.address],
            interception: node::Interception::default(),
            http_proxy_port: None,
        };
        let (bundle, notes) = compile::compile(&world, &MeshConfig::default(), &node);
        ensure!(
            !notes.iter().any(|note| note.is_error()),
            "control cannot compile the resources: {notes:?}"
        );
        let proxy = render::Proxy {
            node: identity,
            admin: None,
            resolvers: Vec::new(),
            secrets: render::Secrets::Files(render::Files {
                chain: self.path("gateway/cert-chain.pem"),
                key: self.path("gateway/key.pem"),
                roots: self.path("gateway/root-cert.pem"),
                system_roots: self.path("site/root-cert.pem"),
            }),
        };
        let document = render::fixed(&proxy, &bundle).context("no bootstrap can be rendered")?;
        fs::write(self.path("bootstrap.json"), document.to_string())?;
        Ok(())
    }

    /// The gateway of the tutorial with this run's ports.
    fn resources(&self, flooder: bool) -> String {
        let Ports {
            mutual,
            passthrough,
            plain,
            secure,
            endless,
        } = self.ports;
        let roots = self.path("site/root-cert.pem");
        let mut text = format!(
            r#"apiVersion: v1
kind: Namespace
metadata: {{name: istio-egress}}
---
apiVersion: v1
kind: Service
metadata: {{name: gateway, namespace: istio-egress}}
spec:
  selector: {{app: gateway}}
  ports: [{{name: https, port: 80, targetPort: {mutual}}}, {{name: tls, port: 443, targetPort: {passthrough}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress, namespace: istio-egress}}
spec:
  selector: {{app: gateway}}
  servers:
  - {{hosts: ["*"], port: {{number: 80, name: https, protocol: HTTPS}}, tls: {{mode: ISTIO_MUTUAL}}}}
  - {{hosts: ["*"], port: {{number: 443, name: tls, protocol: TLS}}, tls: {{mode: PASSTHROUGH}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: secure, namespace: istio-egress}}
spec:
  host: {SECURE}
  subsets: [{{name: originate, trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: SIMPLE, sni: {SECURE}, caCertificates: {roots}}}}}]}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: secure-tls, namespace: istio-egress}}
spec:
  hosts: [{SECURE}]
  gateways: [egress]
  tls: [{{match: [{{port: 443, sniHosts: [{SECURE}]}}], route: [{{destination: {{host: {SECURE}, port: {{number: 443}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: endless, namespace: istio-egress}}
spec:
  hosts: [{ENDLESS}]
  ports: [{{number: 443, name: tls, protocol: TLS, targetPort: {endless}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: endless-tls, namespace: istio-egress}}
spec:
  hosts: [{ENDLESS}]
  gateways: [egress]
  tls: [{{match: [{{port: 443, sniHosts: [{ENDLESS}]}}], route: [{{destination: {{host: {ENDLESS}, port: {{number: 443}}}}}}]}}]
"#,
            roots = roots.display()
        );
        for (host, port, subset) in [
            (PLAIN, 80, ""),
            (FORBIDDEN, 80, ""),
            (SECURE, 443, ", subset: originate"),
        ] {
            let name = host.replace('.', "-");
            text += &format!(
                r#"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: istio-egress}}
spec:
  hosts: [{host}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {plain}}}, {{number: 443, name: tls, protocol: TLS, targetPort: {secure}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: istio-egress}}
spec:
  hosts: [{host}]
  gateways: [egress]
  http: [{{route: [{{destination: {{host: {host}, port: {{number: {port}}}{subset}}}}}]}}]
"#
            );
        }
        // In order of names it is the last: who walks them meets all the others first.
        text += &policy("team-callers", "team-0", &[PLAIN, SECURE], mutual);
        if flooder {
            text += &policy("flooder", "flood", &[PLAIN], mutual);
        }
        text += &policy("tunnels", "", &[], passthrough);
        text
    }
}

/// Policies in one file: what control reads of a file is bounded.
const PER_FILE: usize = 2_000;

/// The policies that a setup adds to that of the caller.
fn policies(setup: Setup, port: u16) -> Box<dyn Iterator<Item = String>> {
    let teams = 1..setup.policies;
    let of = move |team: usize, host: &str| {
        let team = format!("team-{team}");
        policy(&team, &team, &[host], port)
    };
    match setup.shape {
        Shape::Hosts => Box::new(teams.map(move |team| of(team, &format!("host-{team}.test")))),
        Shape::OneHost => Box::new(teams.map(move |team| of(team, PLAIN))),
        Shape::Rules => {
            let rules = teams.map(|team| {
                format!("  - {{from: [{{source: {{namespaces: [team-{team}]}}}}], to: [{{operation: {{hosts: [{PLAIN}]}}}}]}}\n")
            });
            let head = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: rules, namespace: \
                        istio-egress}\nspec:\n  rules:\n";
            Box::new(std::iter::once(head.to_owned() + &rules.collect::<String>()))
        }
    }
}

/// A policy of the tutorial's shape. Without a namespace: whoever comes to the port.
fn policy(name: &str, namespace: &str, hosts: &[&str], port: u16) -> String {
    let from = match namespace {
        "" => String::new(),
        namespace => format!("from: [{{source: {{namespaces: [{namespace}]}}}}], "),
    };
    let hosts = match hosts {
        [] => String::new(),
        hosts => format!(", hosts: [{}]", hosts.join(", ")),
    };
    format!(
        r#"---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: istio-egress}}
spec:
  rules: [{{{from}to: [{{operation: {{ports: ["{port}"]{hosts}}}}}]}}]
"#
    )
}

fn pod() -> Pod {
    Pod {
        name: "gateway-0".to_owned(),
        namespace: "istio-egress".to_owned(),
        service_account: "gateway".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "gateway".to_owned())]),
        address: Ipv4Addr::LOCALHOST.into(),
    }
}

/// Istio's files, and chain and key in one for HAProxy.
pub(crate) fn save(identity: &Identity, directory: &Path, roots: &Roots) -> anyhow::Result<()> {
    identity.save(directory, roots)?;
    let both = fs::read_to_string(directory.join("cert-chain.pem"))? + &fs::read_to_string(directory.join("key.pem"))?;
    fs::write(directory.join("both.pem"), both)?;
    Ok(())
}

/// Ports that the kernel gives to no outgoing connection unless told to (`ip_local_port_range`): a proxy finds its port free again
/// in each round.
const PORTS: RangeInclusive<u16> = 10_240..=32_000;

/// A port that is free now. Proxies of a scenario use it one after the other.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let mut tried = std::iter::repeat_with(|| rand::random_range(PORTS)).take(1_000);
    tried.find(free).context("no port is free")
}
