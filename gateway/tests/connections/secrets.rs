//! Secrets that are asked for: of the agent beside a proxy, of the control plane, of files.

mod server;

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use certs::{FileWatcher, Identity, sds};
use gateway::{
    Settings,
    ads::{Protocol, Security, Wants},
    agent::{Agent, AgentError},
};
use mesh::{
    ClusterName, ListenerName, SecretName,
    cluster::Cluster,
    listener::{FilterChain, Inspectors, Listener},
    secret::{AGENT_CLUSTER, Material, Secret, SecretContent, SecretRef, SecretSource},
    source::FileSource,
    tls::{CertificateSource, TrustSource, UpstreamTls, Validation},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::server::Server;
use crate::{
    support::{Proxy, bundle, chain, echo, eventually, fixed, listener, reached, read_all, soon},
    tls::{GATEWAY, Mesh, TEAM_X, connect, gets_through, istio_mutual, terminating},
};

/// A mesh, and where its agent's socket is.
struct Place {
    mesh: Mesh,
    scratch: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            mesh: Mesh::new("cluster.local"),
            scratch: TempDir::new().unwrap(),
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.scratch.path().join("socket")
    }

    fn server(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn settings(&self) -> Settings {
        Settings {
            secret_services: [(ClusterName::parse(AGENT_CLUSTER).unwrap(), self.server())].into(),
            ..Settings::default()
        }
    }

    async fn agent(&self, workload: certs::Workload) -> sds::Server {
        let settings = sds::Settings {
            socket: self.socket(),
            access: sds::Access::Owner,
            workload,
            system_roots: None,
        };
        sds::Server::start(settings).await.unwrap()
    }

    fn client(&self) -> TlsConnector {
        self.mesh.client(Some(self.mesh.identity(TEAM_X)), &["h2"])
    }
}

/// Applies a listener that ends TLS and waits for nothing.
async fn apply(proxy: &Proxy, chain: FilterChain) {
    let upstream = fixed("a", &[echo().await]);
    proxy
        .apply(bundle([listener(proxy, "l", vec![chain])], [upstream]))
        .await;
}

async fn served(proxy: &Proxy) {
    let name = ListenerName::parse("l").unwrap();
    eventually(|| proxy.handle.bound().contains_key(&name).then_some(())).await;
}

fn serial(stream: &TlsStream<TcpStream>) -> String {
    let der = &stream.get_ref().1.peer_certificates().unwrap()[0];
    certs::Certificate::parse(der).unwrap().serial
}

/// Connects anew until the server shows this certificate.
async fn shows(proxy: &Proxy, client: impl Fn() -> TlsConnector, identity: &Identity) {
    soon(async {
        while serial(&connect(proxy, &client()).await.unwrap()) != identity.leaf().serial {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_is_opened_when_its_secrets_have_arrived() {
    let place = Place::new();
    let proxy = Proxy::start(place.settings()).await;
    apply(&proxy, terminating(&proxy)).await;
    assert!(proxy.handle.bound().is_empty(), "nobody could be served");
    let _agent = place.agent(place.mesh.workload(GATEWAY)).await;
    served(&proxy).await;
    assert!(gets_through(&proxy, &place.client()).await);
    let stranger = Mesh::new("other.test").identity("spiffe://other.test/ns/team-x/sa/test");
    assert!(!gets_through(&proxy, &place.mesh.client(Some(stranger), &["h2"])).await);
}

/// A connection that ends before anything is said on it.
async fn try_once(proxy: &Proxy) {
    let mut stream = proxy.connect("l").await;
    let _ = stream.write_all(b"hello").await;
    read_all(&mut stream).await;
}

#[tokio::test]
async fn a_cluster_is_not_used_before_its_secrets_have_arrived() {
    let place = Place::new();
    let proxy = Proxy::start(place.settings()).await;
    // The upstream does not speak TLS: that is found out by who dials it.
    let upstream = Cluster {
        tls: Some(UpstreamTls {
            sni: None,
            certificate: Some(istio_mutual().certificate),
            validation: istio_mutual().validation,
            alpn: Vec::new(),
            min_version: None,
            max_version: None,
        }),
        ..fixed("a", &[echo().await])
    };
    let plain = Listener {
        inspectors: Inspectors::default(),
        ..listener(&proxy, "l", vec![chain(&proxy, &[], "a")])
    };
    proxy.apply(bundle([plain], [upstream])).await;
    try_once(&proxy).await;
    assert_eq!(proxy.line().await.flags, "NC");
    let _agent = place.agent(place.mesh.workload(GATEWAY)).await;
    let mut lines = 1;
    while proxy.lines(lines).await.last().unwrap().flags == "NC" {
        try_once(&proxy).await;
        lines += 1;
    }
    assert!(
        !proxy.lines(lines).await.last().unwrap().failure.is_empty(),
        "TLS was begun"
    );
}

#[tokio::test]
async fn a_rotation_shows_at_new_connections_and_ends_none() {
    let place = Place::new();
    let workload = place.mesh.workload(GATEWAY);
    let _agent = place.agent(workload.clone()).await;
    let proxy = Proxy::start(place.settings()).await;
    apply(&proxy, terminating(&proxy)).await;
    served(&proxy).await;
    let before = workload.identity.load();
    let mut old = connect(&proxy, &place.client()).await.unwrap();
    assert_eq!(serial(&old), before.leaf().serial);
    reached(&mut old).await;

    for _ in 0..3 {
        workload.identity.replace(place.mesh.identity(GATEWAY));
        shows(&proxy, || place.client(), &workload.identity.load()).await;
        assert!(gets_through(&proxy, &place.client()).await);
    }
    old.write_all(b"hello").await.unwrap();
    old.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(old.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "hello>");
}

#[tokio::test]
async fn the_last_secrets_serve_while_the_agent_is_away_and_its_next_ones_are_taken() {
    let place = Place::new();
    let proxy = Proxy::start(place.settings()).await;
    apply(&proxy, terminating(&proxy)).await;
    let agent = place.agent(place.mesh.workload(GATEWAY)).await;
    served(&proxy).await;
    drop(agent);
    assert!(!place.socket().exists());
    assert!(gets_through(&proxy, &place.client()).await);
    let next = place.mesh.workload(GATEWAY);
    let _agent = place.agent(next.clone()).await;
    shows(&proxy, || place.client(), &next.identity.load()).await;
}

fn secret(name: &str, content: SecretContent) -> Secret {
    Secret {
        name: SecretName::parse(name).unwrap(),
        content,
    }
}

/// A certificate in place, with the key of `key`.
fn certificate(identity: &Identity, key: &Identity, mesh: &Mesh) -> SecretContent {
    let directory = TempDir::new().unwrap();
    key.save(directory.path(), mesh.roots()).unwrap();
    SecretContent::Certificate {
        chain: Material::Inline(identity.chain_pem().into_bytes()),
        key: Material::Inline(fs::read(directory.path().join("key.pem")).unwrap()),
    }
}

fn roots(mesh: &Mesh) -> SecretContent {
    SecretContent::Trust(Material::Inline(mesh.roots().pem().into_bytes()))
}

/// A chain that ends TLS with secrets from somewhere.
fn with_secrets_of(proxy: &Proxy, source: &SecretSource) -> FilterChain {
    let from = |name: &str| SecretRef {
        name: SecretName::parse(name).unwrap(),
        source: source.clone(),
    };
    let mut tls = istio_mutual();
    tls.certificate = CertificateSource::Sds(from("default"));
    tls.validation = Some(Validation {
        trust: TrustSource::Sds(from("ROOTCA")),
        sans: Vec::new(),
    });
    FilterChain {
        tls: Some(tls),
        ..chain(proxy, &[], "a")
    }
}

fn agent_source(delta: bool) -> SecretSource {
    let cluster = ClusterName::parse(AGENT_CLUSTER).unwrap();
    SecretSource::Service { cluster, delta }
}

#[tokio::test]
async fn a_bad_secret_is_refused_by_name_and_the_last_good_one_serves() {
    for delta in [false, true] {
        let place = Place::new();
        let mesh = &place.mesh;
        let mut server = Server::start(&place.socket());
        let (good, other) = (mesh.identity(GATEWAY), mesh.identity(GATEWAY));
        server.serve(&[
            secret("default", certificate(&good, &good, mesh)),
            secret("ROOTCA", roots(mesh)),
        ]);
        let proxy = Proxy::start(place.settings()).await;
        apply(&proxy, with_secrets_of(&proxy, &agent_source(delta))).await;
        served(&proxy).await;

        server.serve(&[
            secret("default", certificate(&other, &good, mesh)),
            secret("ROOTCA", roots(mesh)),
        ]);
        let refusal = server.refusal().await;
        assert!(
            refusal.starts_with("secret default: the private key does not belong"),
            "{refusal}"
        );
        assert_eq!(
            serial(&connect(&proxy, &place.client()).await.unwrap()),
            good.leaf().serial
        );

        server.serve(&[
            secret("default", certificate(&other, &other, mesh)),
            secret("ROOTCA", roots(mesh)),
        ]);
        shows(&proxy, || place.client(), &other).await;
    }
}

#[tokio::test]
async fn the_control_plane_is_asked_for_its_secrets() {
    for protocol in [Protocol::Delta, Protocol::StateOfTheWorld] {
        let place = Place::new();
        let (mesh, good) = (&place.mesh, place.mesh.identity(GATEWAY));
        let mut server = Server::start(&place.socket());
        let proxy = Proxy::start(Settings::default()).await;
        let control = gateway::ads::Settings {
            server: place.server(),
            security: Security::PlaintextOnLoopback,
            protocol,
            wants: Wants {
                listeners: false,
                clusters: false,
            },
            node_id: "router~10.0.0.1~a.b~b.svc.cluster.local".to_owned(),
            node_cluster: "egress".to_owned(),
            metadata: serde_json::Map::new(),
        };
        let _following = proxy.handle.follow(control).unwrap();
        apply(&proxy, with_secrets_of(&proxy, &SecretSource::Ads)).await;
        assert!(proxy.handle.bound().is_empty());
        server.serve(&[
            secret("default", roots(mesh)),
            secret("ROOTCA", SecretContent::Trust(Material::Inline(b"-".into()))),
        ]);
        let refusal = server.refusal().await;
        assert!(
            refusal.starts_with("secret ROOTCA: there is no root certificate"),
            "{refusal}"
        );
        assert!(proxy.handle.bound().is_empty(), "a certificate is needed, not roots");
        server.serve(&[
            secret("default", certificate(&good, &good, mesh)),
            secret("ROOTCA", roots(mesh)),
        ]);
        served(&proxy).await;
        assert!(gets_through(&proxy, &place.client()).await);
    }
}

/// Writes a file as a filesystem subscription reads it, and moves it into place.
fn write_secrets(path: &Path, identity: &Identity, mesh: &Mesh) {
    let beside = path.with_extension("new");
    let directory = TempDir::new().unwrap();
    identity.save(directory.path(), mesh.roots()).unwrap();
    let text = |file: &str| fs::read_to_string(directory.path().join(file)).unwrap();
    let any = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let document = serde_json::json!({"resources": [
        {"@type": any, "name": "default", "tls_certificate": {
            "certificate_chain": {"inline_string": text("cert-chain.pem")},
            "private_key": {"inline_string": text("key.pem")},
        }},
        {"@type": any, "name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": text("root-cert.pem")}}},
    ]});
    fs::write(&beside, document.to_string()).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn a_file_of_secrets_is_followed() {
    let place = Place::new();
    let path = place.scratch.path().join("secrets.json");
    let (first, second) = (place.mesh.identity(GATEWAY), place.mesh.identity(GATEWAY));
    write_secrets(&path, &first, &place.mesh);
    let proxy = Proxy::start(Settings::default()).await;
    let source = SecretSource::File(FileSource {
        path: path.clone(),
        watched_directory: Some(place.scratch.path().to_owned()),
    });
    apply(&proxy, with_secrets_of(&proxy, &source)).await;
    served(&proxy).await;
    shows(&proxy, || place.client(), &first).await;
    fs::write(place.scratch.path().join("x"), "{\"resources\": [{}]}").unwrap();
    fs::rename(place.scratch.path().join("x"), &path).unwrap();
    assert!(gets_through(&proxy, &place.client()).await);
    write_secrets(&path, &second, &place.mesh);
    shows(&proxy, || place.client(), &second).await;
}

#[tokio::test]
async fn a_source_that_cannot_be_asked_is_named() {
    let place = Place::new();
    let proxy = Proxy::start(place.settings()).await;
    let other = SecretSource::Service {
        cluster: ClusterName::parse("sds-external").unwrap(),
        delta: false,
    };
    let missing = SecretSource::File(FileSource {
        path: "/nowhere/secrets.yaml".into(),
        watched_directory: None,
    });
    for (source, expect) in [
        (
            SecretSource::Static,
            "secret default is not in static_resources.secrets",
        ),
        (
            other,
            "secret default: cluster sds-external cannot be asked for secrets",
        ),
        (missing, "/nowhere/secrets.yaml: "),
    ] {
        let chain = with_secrets_of(&proxy, &source);
        let bundle = bundle([listener(&proxy, "l", vec![chain])], [fixed("a", &[echo().await])]);
        let rejected = proxy.handle.apply(bundle).await.unwrap_err().remove(0).to_string();
        assert!(
            rejected.starts_with("listener l: ") && rejected.contains(expect),
            "{rejected}"
        );
    }
}

#[tokio::test]
async fn an_agent_is_waited_for_and_its_renewals_are_taken_over() {
    let place = Place::new();
    let (server, files) = (place.server(), Arc::new(FileWatcher::new()));
    let waiting = tokio::spawn(async move { Agent::wait(&server, files).await });
    let served = place.mesh.workload(GATEWAY);
    let _running = place.agent(served.clone()).await;
    let agent = soon(waiting).await.unwrap().unwrap();
    let workload = agent.workload().clone();
    assert_eq!(workload.id().as_str(), GATEWAY);
    assert!(*workload.identity.load() == *served.identity.load());
    assert_eq!(*workload.trust.load(), *served.trust.load());

    let follow = async {
        let mut changes = workload.identity.subscribe();
        let renewed = place.mesh.identity(GATEWAY);
        let serial = renewed.leaf().serial.clone();
        // Somebody else's is not taken, the one that follows it is.
        served.identity.replace(place.mesh.identity(TEAM_X));
        tokio::task::yield_now().await;
        served.identity.replace(renewed);
        while workload.identity.load().leaf().serial != serial {
            changes.changed().await.unwrap();
            assert_eq!(
                workload.identity.load().svid(SystemTime::now()).unwrap().id(),
                workload.id()
            );
        }
    };
    tokio::select! {
        () = agent.run() => unreachable!("it runs for ever"),
        () = soon(follow) => {}
    }
}

#[tokio::test]
async fn an_agent_that_no_waiting_helps_with_is_an_error() {
    let files = || Arc::new(FileWatcher::new());
    for server in ["unix:", "nonsense", "192.0.2.1:15000"] {
        let error = soon(Agent::wait(server, files())).await.err().unwrap();
        assert!(matches!(error, AgentError::Unusable(_)), "{server}: {error}");
    }
}
