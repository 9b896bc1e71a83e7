//! A gateway started from an Envoy bootstrap file, and Envoy's opinion of the same file.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod files;
mod istio;
mod outside;
mod proxy;

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{CaRequest, CertificateAuthority, Identity, LeafRequest, Live, Names, ServerVerifier, Trust, Versions};
use gateway::{Gateway, Handle, bootstrap::Plan};
use mesh::{
    ListenerName,
    id::{SpiffeId, TrustDomain},
    matcher::StringMatcher,
    tls::{SanKind, SanMatcher},
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use outside::{Outside, SITE};
use proxy::envoy;

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const BOOTSTRAP: &str = include_str!("bootstrap.yaml");
const GATEWAY: &str = "spiffe://cluster.local/ns/istio-egress/sa/gateway";
const TEAM_X: &str = "spiffe://cluster.local/ns/team-x/sa/test";
const TEAM_Y: &str = "spiffe://cluster.local/ns/team-y/sa/test";

/// A mesh, an outside, and the bootstrap file of the gateway between them.
struct World {
    ca: CertificateAuthority,
    outside: Outside,
    directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let world = Self {
            ca: CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap(),
            outside: Outside::start().await,
            directory: TempDir::new().unwrap(),
        };
        let identity = world.identity(GATEWAY);
        identity.save(world.directory.path(), world.ca.roots()).unwrap();
        world
    }

    fn identity(&self, id: &str) -> Identity {
        let request = LeafRequest::svid(&SpiffeId::parse(id).unwrap());
        self.ca.issue(&request, SystemTime::now()).unwrap()
    }

    fn bootstrap(&self) -> String {
        BOOTSTRAP
            .replace("<identity>", self.directory.path().to_str().unwrap())
            .replace("<dns port>", &self.outside.dns_port.to_string())
            .replace("<http port>", &self.outside.http_port.to_string())
            .replace("<tls port>", &self.outside.tls_port.to_string())
    }

    async fn gateway(&self) -> Handle {
        let plan = Plan::read(&self.bootstrap(), None).unwrap();
        assert!(plan.control.is_none());
        Gateway::start(plan.settings).await.unwrap()
    }

    /// A member of the mesh that accepts nobody but the gateway, or somebody who shows no certificate.
    fn caller(&self, id: Option<&str>) -> TlsConnector {
        let identity = id.map(|id| Arc::new(Live::new(self.identity(id))));
        connector(identity, Trust::Roots(self.ca.roots().clone()), SanKind::Uri, GATEWAY)
    }
}

fn connector(identity: Option<Arc<Live<Identity>>>, trust: Trust, kind: SanKind, name: &str) -> TlsConnector {
    let name = StringMatcher::exact(name);
    let names = Names::Listed(vec![SanMatcher { kind, name }]);
    let verifier = ServerVerifier::new(Arc::new(Live::new(trust)), names);
    Arc::new(certs::client_config(identity, Arc::new(verifier), Versions::ALL).unwrap()).into()
}

/// What the site answers through a listener of the gateway, if anything.
async fn get(gateway: &Handle, listener: &str, client: &TlsConnector, host: &str) -> std::io::Result<String> {
    let address = gateway.bound()[&ListenerName::parse(listener).unwrap()];
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let talk = async {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut stream = client.connect(name, TcpStream::connect(address).await?).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE, talk).await.expect("no answer in time")
}

#[track_caller]
fn assert_answer(answer: &str, status: &str, body: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body),
        "{answer}"
    );
}

#[tokio::test]
async fn static_listeners_serve_whom_their_policy_names() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let [x, y] = [TEAM_X, TEAM_Y].map(|id| world.caller(Some(id)));
    let answer = get(&gateway, "mutual", &x, SITE).await.unwrap();
    assert_answer(&answer, "200", "outside");
    let answer = get(&gateway, "mutual", &y, SITE).await.unwrap();
    assert_answer(&answer, "403", "RBAC: access denied");
    let answer = get(&gateway, "mutual", &x, "other.test").await.unwrap();
    assert_answer(&answer, "404", "\r\n\r\n");
    let nobody = get(&gateway, "mutual", &world.caller(None), SITE).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test]
async fn tls_passes_to_the_address_that_the_bootstrap_s_name_server_tells() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let client = connector(None, world.outside.trust.clone(), SanKind::Dns, SITE);
    let answer = get(&gateway, "passthrough", &client, SITE).await.unwrap();
    assert_answer(&answer, "200", "outside");
    let other = get(&gateway, "passthrough", &client, "other.test").await;
    assert!(other.is_err(), "{other:?}");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_its_path() {
    let world = World::new().await;
    for (written, instead, expect) in [
        (
            "    type: STATIC\n",
            "    type: STATIC\n    outlier_detection: {}\n",
            "static_resources.clusters[0].outlier_detection: set",
        ),
        (
            "  - name: passthrough\n",
            "  - name: passthrough\n    tcp_fast_open_queue_length: 5\n",
            "static_resources.listeners[1].tcp_fast_open_queue_length: ",
        ),
        (
            "          stat_prefix: passthrough\n",
            "          stat_prefix: passthrough\n          tunneling_config: {hostname: a.test}\n",
            "static_resources.listeners[1].filter_chains[0].filters[0].typed_config.tunneling_config: set",
        ),
    ] {
        let bootstrap = world.bootstrap();
        assert_eq!(bootstrap.matches(written).count(), 1, "{written}");
        let refused = Plan::read(&bootstrap.replace(written, instead), None).err().unwrap();
        let refused = refused.to_string();
        assert!(refused.contains(expect), "{refused}");
    }
}

#[tokio::test]
async fn files_that_are_not_there_keep_the_gateway_from_starting() {
    let world = World::new().await;
    fs::remove_file(world.directory.path().join("key.pem")).unwrap();
    let plan = Plan::read(&world.bootstrap(), None).unwrap();
    let error = Gateway::start(plan.settings).await.err().unwrap().to_string();
    assert!(
        error.contains("listener mutual: ") && error.contains("key.pem"),
        "{error}"
    );
}

#[tokio::test]
async fn a_real_envoy_starts_from_the_same_file() {
    let Some(envoy) = envoy() else { return };
    let world = World::new().await;
    let file = world.directory.path().join("bootstrap.yaml");
    fs::write(&file, world.bootstrap()).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
