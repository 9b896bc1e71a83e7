//! TLS that ends or begins at the proxy.

use std::{
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{
    CaRequest, CertificateAuthority, Identity, LeafRequest, Live, Names, Roots, San, ServerVerifier, Trust,
    TrustBundle, Versions, Workload,
};
use gateway::{Resource, Settings};
use mesh::{
    SecretName,
    authz::{Principal, RbacAction},
    host::Host,
    id::{SpiffeId, TrustDomain},
    listener::{FilterChain, Inspectors, Listener},
    matcher::{StringMatcher, StringPattern},
    secret::SecretRef,
    tls::{CertificateSource, DownstreamTls, SanKind, SanMatcher, TrustSource, UpstreamTls, Validation},
};
use rustls::{ServerConnection, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::support::{Line, Proxy, bundle, chain, echo, fixed, listener, rbac, read_all, soon};

const SNI: &str = "outbound_.80_.target-egress-gateway-mTLS_.istio-egressgateway.istio-egress.svc.cluster.local";
pub(crate) const TEAM_X: &str = "spiffe://cluster.local/ns/team-x/sa/test";
pub(crate) const GATEWAY: &str = "spiffe://cluster.local/ns/istio-egress/sa/gateway";

pub(crate) struct Mesh {
    ca: CertificateAuthority,
    trust: Trust,
}

impl Mesh {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let domain = TrustDomain::parse(trust_domain).unwrap();
        let ca = CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap();
        let trust = Trust::Mesh(TrustBundle::new(domain, ca.roots().clone()));
        Self { ca, trust }
    }

    pub(crate) fn identity(&self, id: &str) -> Identity {
        self.issue(&LeafRequest::svid(&SpiffeId::parse(id).unwrap()))
    }

    pub(crate) fn issue(&self, request: &LeafRequest) -> Identity {
        self.ca.issue(request, SystemTime::now()).unwrap()
    }

    pub(crate) fn roots(&self) -> &Roots {
        self.ca.roots()
    }

    pub(crate) fn workload(&self, id: &str) -> Workload {
        Workload::new(self.identity(id), self.trust.clone(), SystemTime::now()).unwrap()
    }

    /// A client that shows `identity` and offers `alpn`.
    pub(crate) fn client(&self, identity: Option<Identity>, alpn: &[&str]) -> TlsConnector {
        let verifier = ServerVerifier::new(Arc::new(Live::new(self.trust.clone())), Names::Listed(Vec::new()));
        let identity = identity.map(|identity| Arc::new(Live::new(identity)));
        let mut config = certs::client_config(identity, Arc::new(verifier), Versions::ALL).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

fn secret(name: &str) -> SecretRef {
    SecretRef::of_agent(SecretName::parse(name).unwrap())
}

pub(crate) fn istio_mutual() -> DownstreamTls {
    DownstreamTls {
        certificate: CertificateSource::Sds(secret("default")),
        validation: Some(Validation {
            trust: TrustSource::Sds(secret("ROOTCA")),
            sans: Vec::new(),
        }),
        require_client_certificate: true,
        alpn: vec!["istio-peer-exchange".to_owned(), "h2".to_owned(), "http/1.1".to_owned()],
        min_version: None,
        max_version: None,
    }
}

pub(crate) fn terminating(proxy: &Proxy) -> FilterChain {
    FilterChain {
        tls: Some(istio_mutual()),
        ..chain(proxy, &[], "a")
    }
}

/// A proxy that ends mutual TLS and relays what is inside to an echo.
async fn ending_tls(mesh: &Mesh) -> Proxy {
    let proxy = Proxy::start(Settings {
        workload: Some(mesh.workload(GATEWAY)),
        ..Settings::default()
    })
    .await;
    let upstream = fixed("a", &[echo().await]);
    proxy
        .apply(bundle([listener(&proxy, "l", vec![terminating(&proxy)])], [upstream]))
        .await;
    proxy
}

pub(crate) async fn connect(proxy: &Proxy, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(SNI).unwrap();
    client.connect(name, proxy.connect("l").await).await
}

/// Whether a client gets through to the echo.
pub(crate) async fn gets_through(proxy: &Proxy, client: &TlsConnector) -> bool {
    let talk = async {
        let mut stream = connect(proxy, client).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    matches!(soon(talk).await.as_deref(), Ok("<hello>"))
}

#[tokio::test]
async fn a_member_of_the_mesh_gets_through_and_is_named_in_the_record() {
    let mesh = Mesh::new("cluster.local");
    let proxy = ending_tls(&mesh).await;
    let client = mesh.client(Some(mesh.identity(TEAM_X)), &["istio-h2", "istio", "h2"]);
    let mut stream = connect(&proxy, &client).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "<hello>");
    let Line { peer, sni, bytes, .. } = proxy.line().await;
    assert_eq!((peer.as_str(), sni, bytes), (TEAM_X, SNI.to_lowercase(), (5, 7)));
}

#[tokio::test]
async fn nobody_else_gets_through_nor_leaves_a_line() {
    let mesh = Mesh::new("cluster.local");
    let (foreign, impostor) = (Mesh::new("other.test"), Mesh::new("cluster.local"));
    let proxy = ending_tls(&mesh).await;
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let id = SpiffeId::parse(TEAM_X).unwrap();
    let expired = LeafRequest::svid(&id).between(now - 2 * hour, now - hour);
    let two_names = LeafRequest::svid(&id).san(San::Uri("spiffe://cluster.local/ns/admin/sa/root".to_owned()));
    let refused = [
        ("no certificate", None),
        (
            "another trust domain",
            Some(foreign.identity("spiffe://other.test/ns/team-x/sa/test")),
        ),
        ("another authority of that name", Some(impostor.identity(TEAM_X))),
        ("expired", Some(mesh.issue(&expired))),
        ("without a name", Some(mesh.issue(&LeafRequest::new([])))),
        ("with two names", Some(mesh.issue(&two_names))),
        (
            "a web server's",
            Some(mesh.issue(&LeafRequest::new([San::Dns("a.test".to_owned())]))),
        ),
    ];
    for (who, identity) in refused {
        assert!(!gets_through(&proxy, &mesh.client(identity, &["h2"])).await, "{who}");
    }
    let mut plaintext = proxy.connect("l").await;
    plaintext.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    read_all(&mut plaintext).await;
    assert!(gets_through(&proxy, &mesh.client(Some(mesh.identity(TEAM_X)), &["h2"])).await);
    let lines = proxy.end().await;
    assert_eq!(
        lines.iter().map(|line| line.peer.as_str()).collect::<Vec<_>>(),
        [TEAM_X]
    );
}

#[tokio::test]
async fn a_session_is_resumed_and_its_peer_still_named() {
    let mesh = Mesh::new("cluster.local");
    let proxy = ending_tls(&mesh).await;
    let client = mesh.client(Some(mesh.identity(TEAM_X)), &["h2"]);
    assert!(gets_through(&proxy, &client).await);
    let mut stream = connect(&proxy, &client).await.unwrap();
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(proxy.lines(2).await.iter().all(|line| line.peer == TEAM_X));
}

#[tokio::test]
async fn authorization_sees_who_calls() {
    let mesh = Mesh::new("cluster.local");
    let proxy = ending_tls(&mesh).await;
    let only_x = Principal::Authenticated(Some(StringMatcher {
        pattern: StringPattern::Prefix("spiffe://cluster.local/ns/team-x/".to_owned()),
        ignore_case: false,
    }));
    let chain = FilterChain {
        rbac: vec![rbac(RbacAction::Allow, "team-x", only_x)],
        ..terminating(&proxy)
    };
    let upstream = fixed("a", &[echo().await]);
    proxy
        .apply(bundle([listener(&proxy, "l", vec![chain])], [upstream]))
        .await;
    let team_y = mesh.identity("spiffe://cluster.local/ns/team-y/sa/test");
    assert!(gets_through(&proxy, &mesh.client(Some(mesh.identity(TEAM_X)), &[])).await);
    assert_eq!(proxy.line().await.termination, "-");
    assert!(!gets_through(&proxy, &mesh.client(Some(team_y), &[])).await);
    let denied = proxy.lines(2).await.remove(1);
    assert_eq!(denied.termination, "rbac_access_denied_matched_policy[none]");
    assert_eq!(denied.host, "-");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    let mesh = Mesh::new("cluster.local");
    let proxy = ending_tls(&mesh).await;
    let chain = FilterChain {
        handshake_timeout: Some(Duration::from_millis(50)),
        ..terminating(&proxy)
    };
    let without_inspection = Listener {
        inspectors: Inspectors::default(),
        ..listener(&proxy, "slow", vec![chain])
    };
    proxy
        .apply(bundle([without_inspection], [fixed("a", &[echo().await])]))
        .await;
    let mut client = proxy.connect("slow").await;
    client.write_all(&[22, 3, 1]).await.unwrap();
    read_all(&mut client).await;
    assert!(proxy.end().await.is_empty());
}

#[tokio::test]
async fn secrets_that_are_not_there_are_named() {
    let proxy = Proxy::start(Settings::default()).await;
    let mut listening = listener(&proxy, "l", vec![terminating(&proxy)]);
    listening.filter_chains[0].name = Some("mutual".to_owned());
    let rejected = proxy.handle.apply(bundle([listening], [])).await.unwrap_err();
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (rejected[0].resource, rejected[0].name.as_str()),
        (Resource::Listener, "l")
    );
    assert!(
        rejected[0].reason.contains("filter chain mutual: secret default"),
        "{}",
        rejected[0].reason
    );
    assert!(proxy.handle.bound().is_empty());
}

/// A TLS server for `host` that reports the server name it was asked for and whether the client showed a certificate.
async fn site(
    ca: &CertificateAuthority,
    host: &str,
    clients: Option<Arc<certs::ClientVerifier>>,
) -> (SocketAddr, mpsc::UnboundedReceiver<(Option<String>, bool)>) {
    let identity = ca
        .issue(&LeafRequest::server(&Host::parse(host).unwrap()), SystemTime::now())
        .unwrap();
    let config = certs::server_config(Arc::new(Live::new(identity)), clients, Versions::ALL).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (report, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let session: &ServerConnection = stream.get_ref().1;
            let _ = report.send((
                session.server_name().map(ToOwned::to_owned),
                session.peer_certificates().is_some(),
            ));
            let mut heard = Vec::new();
            if stream.read_to_end(&mut heard).await.is_ok() {
                let _ = stream.write_all(&[b"{", &heard[..], b"}"].concat()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, seen)
}

struct Origination {
    proxy: Proxy,
    _files: TempDir,
}

/// A proxy that begins TLS to `site` as `tls` says, for plaintext clients. `file-root:system` is `ca`.
async fn beginning_tls(ca: &CertificateAuthority, site: SocketAddr, tls: UpstreamTls) -> Origination {
    let mesh = Mesh::new("cluster.local");
    let files = TempDir::new().unwrap();
    let roots = files.path().join("roots.pem");
    fs::write(&roots, ca.root_pem()).unwrap();
    let proxy = Proxy::start(Settings {
        workload: Some(mesh.workload(GATEWAY)),
        system_roots: Some(roots),
        ..Settings::default()
    })
    .await;
    let mut cluster = fixed("a", &[site]);
    cluster.tls = Some(tls);
    proxy
        .apply(bundle(
            [listener(&proxy, "l", vec![chain(&proxy, &[], "a")])],
            [cluster],
        ))
        .await;
    Origination { proxy, _files: files }
}

fn simple(sni: Option<&str>, sans: &[&str]) -> UpstreamTls {
    let exact = |name: &&str| SanMatcher {
        kind: SanKind::Dns,
        name: StringMatcher {
            pattern: StringPattern::Exact((*name).to_owned()),
            ignore_case: false,
        },
    };
    UpstreamTls {
        sni: sni.map(ToOwned::to_owned),
        certificate: None,
        validation: Some(Validation {
            trust: TrustSource::Sds(secret("file-root:system")),
            sans: sans.iter().map(exact).collect(),
        }),
        alpn: Vec::new(),
        min_version: None,
        max_version: None,
    }
}

fn public_ca() -> CertificateAuthority {
    CertificateAuthority::root(&CaRequest::named("public"), SystemTime::now()).unwrap()
}

async fn ask(proxy: &Proxy) -> Option<Vec<u8>> {
    let mut client = proxy.connect("l").await;
    client.write_all(b"plain").await.unwrap();
    client.shutdown().await.unwrap();
    read_all(&mut client).await
}

#[tokio::test]
async fn tls_is_begun_for_a_plaintext_client() {
    let ca = public_ca();
    let (address, mut seen) = site(&ca, "example.com", None).await;
    let rig = beginning_tls(&ca, address, simple(Some("example.com"), &["example.com"])).await;
    assert_eq!(ask(&rig.proxy).await, Some(b"{plain}".to_vec()));
    assert_eq!(seen.recv().await, Some((Some("example.com".to_owned()), false)));
    assert_eq!(rig.proxy.line().await.bytes, (5, 7));
}

#[tokio::test]
async fn istios_server_names_reach_the_upstream() {
    let ca = public_ca();
    let (address, mut seen) = site(&ca, "example.com", None).await;
    let rig = beginning_tls(&ca, address, simple(Some(SNI), &[])).await;
    assert_eq!(ask(&rig.proxy).await, Some(b"{plain}".to_vec()));
    let (name, _) = seen.recv().await.unwrap();
    assert_eq!(name.unwrap().to_lowercase(), SNI.to_lowercase());
}

#[tokio::test]
async fn without_a_server_name_none_is_sent() {
    let ca = public_ca();
    let (address, mut seen) = site(&ca, "example.com", None).await;
    let rig = beginning_tls(&ca, address, simple(None, &["example.com"])).await;
    assert_eq!(ask(&rig.proxy).await, Some(b"{plain}".to_vec()));
    assert_eq!(seen.recv().await, Some((None, false)));
}

#[tokio::test]
async fn an_upstream_that_is_somebody_else_gets_nothing() {
    let (ca, other) = (public_ca(), public_ca());
    let cases = [
        ("wrong name", &ca, simple(Some("example.com"), &["other.example"])),
        ("wrong authority", &other, simple(Some("example.com"), &[])),
    ];
    for (what, issuer, tls) in cases {
        let (address, mut seen) = site(issuer, "example.com", None).await;
        let rig = beginning_tls(&ca, address, tls).await;
        assert_ne!(ask(&rig.proxy).await, Some(b"{plain}".to_vec()));
        let line = rig.proxy.line().await;
        assert_eq!(
            (line.flags.as_str(), line.host),
            ("UF,URX", address.to_string()),
            "{what}"
        );
        assert!(
            line.failure.contains("CERTIFICATE_VERIFY_FAILED"),
            "{what}: {}",
            line.failure
        );
        assert!(seen.try_recv().is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_upstream_without_tls_is_named_as_such() {
    let ca = public_ca();
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listening.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listening.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let rig = beginning_tls(&ca, address, simple(Some("example.com"), &[])).await;
    ask(&rig.proxy).await;
    let line = rig.proxy.line().await;
    assert_eq!(line.flags, "UF,URX");
    assert!(line.failure.contains("WRONG_VERSION_NUMBER"), "{}", line.failure);
}

#[tokio::test]
async fn our_certificate_is_shown_when_asked_for() {
    let ca = public_ca();
    let partners = Trust::Roots(ca.roots().clone());
    let clients = certs::ClientVerifier::new(Arc::new(Live::new(partners)), Vec::new());
    let (address, mut seen) = site(&ca, "example.com", Some(Arc::new(clients))).await;
    let files = TempDir::new().unwrap();
    let identity = ca
        .issue(
            &LeafRequest::new([San::Dns("client.test".to_owned())]),
            SystemTime::now(),
        )
        .unwrap();
    identity.save(files.path(), ca.roots()).unwrap();
    let tls = UpstreamTls {
        certificate: Some(CertificateSource::Files {
            chain: files.path().join(certs::files::CERT_CHAIN),
            key: files.path().join(certs::files::KEY),
        }),
        ..simple(Some("example.com"), &["example.com"])
    };
    let rig = beginning_tls(&ca, address, tls).await;
    assert_eq!(ask(&rig.proxy).await, Some(b"{plain}".to_vec()));
    assert_eq!(seen.recv().await, Some((Some("example.com".to_owned()), true)));
}
