//! Real handshakes in memory: who is let in, who is kept out and with which words, and what a rotation does.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{
    CaRequest, CertificateAuthority, ClientVerifier, Identity, LeafRequest, Live, Names, Peer, Roots, San,
    ServerVerifier, Trust, TrustBundle, Versions, client_config, server_config, tls_error, tls_failure_reason,
};
use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
    matcher::{Regex, StringMatcher},
    tls::{SanKind, SanMatcher, TlsVersion},
};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

const HOUR: Duration = Duration::from_secs(3600);
const CALLER: &str = "spiffe://mesh.test/ns/team-x/sa/app";
const GATEWAY: &str = "spiffe://mesh.test/ns/egress/sa/gateway";
/// The SNI of a call to the gateway; no certificate has this name.
const REQUESTED: &str = "outbound_.80_.x_.gateway.egress.svc.cluster.local";

const NO_ROOT: &str = "does not lead to a trusted root";

type ServerEnd = server::TlsStream<DuplexStream>;
type ClientEnd = client::TlsStream<DuplexStream>;

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// Authorities of one domain share a name and differ in their keys.
fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::root(&CaRequest::mesh(&domain(name)), SystemTime::now()).unwrap()
}

fn request(uri: &str) -> LeafRequest {
    LeafRequest::svid(&SpiffeId::parse(uri).unwrap())
}

fn issue(ca: &CertificateAuthority, request: &LeafRequest) -> Identity {
    ca.issue(request, SystemTime::now()).unwrap()
}

fn live<T>(value: T) -> Arc<Live<T>> {
    Arc::new(Live::new(value))
}

fn mesh_trust(ca: &CertificateAuthority) -> Trust {
    Trust::Mesh(TrustBundle::new(domain("mesh.test"), ca.roots().clone()))
}

fn san(kind: SanKind, name: StringMatcher) -> SanMatcher {
    SanMatcher { kind, name }
}

fn exact(kind: SanKind, name: &str) -> SanMatcher {
    san(kind, StringMatcher::exact(name))
}

/// One attempt: both ends of it, as they saw it.
async fn connect(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> (io::Result<ServerEnd>, io::Result<ClientEnd>) {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let accept = async { TlsAcceptor::from(server.clone()).accept(near).await };
    let connect = async { TlsConnector::from(client.clone()).connect(name, far).await };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(accept, connect) })
        .await
        .expect("a handshake ends")
}

/// Reads what the server says, and with it the tickets that follow the handshake.
async fn exchange(server: &mut ServerEnd, client: &mut ClientEnd) {
    for (from, to) in [(b"ping", b"pong")] {
        client.write_all(from).await.unwrap();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, from);
        server.write_all(to).await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, to);
    }
}

/// A gateway and a caller of one mesh, with everything that can be changed about them.
struct Mesh {
    ca: CertificateAuthority,
    gateway: Arc<Live<Identity>>,
    gateway_trust: Arc<Live<Trust>>,
    caller: Arc<Live<Identity>>,
    clients: Arc<ClientVerifier>,
    servers: Arc<ServerVerifier>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Mesh {
    fn new(versions: Versions) -> Self {
        Self::with_caller(versions, &request(CALLER))
    }

    fn with_caller(versions: Versions, caller: &LeafRequest) -> Self {
        let ca = authority("mesh.test");
        let (gateway, caller) = (live(issue(&ca, &request(GATEWAY))), live(issue(&ca, caller)));
        let gateway_trust = live(mesh_trust(&ca));
        let clients = Arc::new(ClientVerifier::new(gateway_trust.clone(), vec![]));
        let names = Names::Listed(vec![exact(SanKind::Uri, GATEWAY)]);
        let servers = Arc::new(ServerVerifier::new(live(mesh_trust(&ca)), names));
        let server = Arc::new(server_config(gateway.clone(), Some(clients.clone()), versions).unwrap());
        let client = Arc::new(client_config(Some(caller.clone()), servers.clone(), versions).unwrap());
        Self {
            ca,
            gateway,
            gateway_trust,
            caller,
            clients,
            servers,
            server,
            client,
        }
    }

    async fn connect(&self) -> (ServerEnd, ClientEnd) {
        let (server, client) = connect(&self.server, &self.client, REQUESTED).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        exchange(&mut server, &mut client).await;
        (server, client)
    }

    fn peer(&self, end: &ServerEnd) -> Result<Option<Peer>, rustls::Error> {
        self.clients.peer(end.get_ref().1, SystemTime::now())
    }
}

/// The reason for which a gateway of `mesh.test` refuses a caller.
async fn refusal(trust: Trust, names: Vec<SanMatcher>, gateway: Identity, caller: Option<Identity>) -> Option<String> {
    let clients = Arc::new(ClientVerifier::new(live(trust), names));
    let server = Arc::new(server_config(live(gateway), Some(clients), Versions::ALL).unwrap());
    let client = client_config(caller.map(live), Arc::new(ServerVerifier::insecure()), Versions::ALL).unwrap();
    let (server, _) = connect(&server, &Arc::new(client), REQUESTED).await;
    server.err().map(|error| reason(&error))
}

fn reason(error: &io::Error) -> String {
    tls_failure_reason(tls_error(error).expect("an error of the handshake"))
}

#[tokio::test]
async fn a_member_of_the_mesh_is_let_in_and_known() {
    for versions in [
        Versions::ALL,
        Versions::TLS13,
        Versions {
            min: None,
            max: Some(TlsVersion::V1_2),
        },
    ] {
        let mesh = Mesh::new(versions);
        let (server, client) = mesh.connect().await;
        let peer = mesh.peer(&server).unwrap().unwrap();
        assert_eq!(peer.id.unwrap().as_str(), CALLER);
        assert_eq!(peer.certificate.uri_sans, [CALLER]);
        let name = ServerName::try_from(REQUESTED).unwrap();
        let gateway = mesh.servers.peer(client.get_ref().1, &name, SystemTime::now()).unwrap();
        assert_eq!(gateway.id.unwrap().as_str(), GATEWAY);
    }
}

#[tokio::test]
async fn a_gateway_says_why_it_refuses_a_caller() {
    let (ca, stranger) = (authority("mesh.test"), authority("mesh.test"));
    let now = SystemTime::now();
    let foreign = "spiffe://other.test/ns/team-x/sa/app";
    let two = request(CALLER).san(San::Uri(GATEWAY.to_owned()));
    let below = ca.intermediate(&CaRequest::named("below"), now).unwrap();
    let without_chain = {
        let whole = issue(&below, &request(CALLER));
        let leaf_only = whole
            .chain_pem()
            .split_inclusive("-----END CERTIFICATE-----\n")
            .next()
            .unwrap()
            .to_owned();
        let directory = tempfile::tempdir().unwrap();
        whole.save(directory.path(), ca.roots()).unwrap();
        let key = std::fs::read(directory.path().join(certs::files::KEY)).unwrap();
        Identity::from_pem(leaf_only.as_bytes(), &key).unwrap()
    };
    let cases = [
        (Some(issue(&ca, &request(CALLER))), None),
        (Some(issue(&below, &request(CALLER))), None),
        (None, Some("showed no certificate")),
        (
            Some(issue(&ca, &request(foreign))),
            Some("of a trust domain that is not accepted here, accepted: mesh.test"),
        ),
        (
            Some(issue(&authority("other.test"), &request(foreign))),
            Some("not accepted here"),
        ),
        (Some(issue(&stranger, &request(CALLER))), Some(NO_ROOT)),
        (
            Some(issue(&ca, &request(CALLER).between(now - HOUR * 2, now - HOUR))),
            Some("certificate expired"),
        ),
        (
            Some(issue(&ca, &request(CALLER).between(now + HOUR, now + HOUR * 2))),
            Some("certificate not valid yet"),
        ),
        (
            Some(issue(&ca, &LeafRequest::new([]))),
            Some("no URI subject alternative name"),
        ),
        (
            Some(issue(&ca, &LeafRequest::new([San::Dns("app.test".into())]))),
            Some("no URI subject alternative name"),
        ),
        (Some(issue(&ca, &two)), Some("2 URI subject alternative names")),
        (
            Some(issue(
                &ca,
                &LeafRequest::new([San::Uri("spiffe://mesh.test/app".into())]),
            )),
            Some("is not an identity"),
        ),
        (Some(without_chain), Some(NO_ROOT)),
    ];
    for (caller, expect) in cases {
        let text = format!("{caller:?} {expect:?}");
        let refused = refusal(mesh_trust(&ca), vec![], issue(&ca, &request(GATEWAY)), caller).await;
        match (refused, expect) {
            (None, None) => {}
            (Some(reason), Some(expect)) => assert!(reason.contains(expect), "{text}: {reason}"),
            (refused, _) => panic!("{text}: {refused:?}"),
        }
    }
}

#[tokio::test]
async fn each_trust_domain_is_checked_against_its_own_roots() {
    let (ours, theirs) = (authority("mesh.test"), authority("other.test"));
    let bundle = || {
        let bundle = TrustBundle::new(domain("mesh.test"), ours.roots().clone());
        Trust::Mesh(bundle.with(domain("other.test"), theirs.roots().clone()))
    };
    let foreign = request("spiffe://other.test/ns/team-x/sa/app");
    let refused = async |ca, request| {
        refusal(
            bundle(),
            vec![],
            issue(&ours, &self::request(GATEWAY)),
            Some(issue(ca, request)),
        )
        .await
    };
    assert_eq!(refused(&theirs, &foreign).await, None);
    assert!(refused(&ours, &foreign).await.unwrap().contains(NO_ROOT));
    assert!(refused(&theirs, &request(CALLER)).await.unwrap().contains(NO_ROOT));
}

#[tokio::test]
async fn callers_may_be_narrowed_by_name_or_be_strangers_to_the_mesh() {
    let ca = authority("mesh.test");
    let gateway = || issue(&ca, &request(GATEWAY));
    let accepted = |uri| vec![exact(SanKind::Uri, uri)];
    let caller = || Some(issue(&ca, &request(CALLER)));
    assert_eq!(
        refusal(mesh_trust(&ca), accepted(CALLER), gateway(), caller()).await,
        None
    );
    let refused = refusal(mesh_trust(&ca), accepted(GATEWAY), gateway(), caller())
        .await
        .unwrap();
    assert!(
        refused.contains("none of the certificate's names (spiffe://mesh.test/ns/team-x/sa/app) is accepted"),
        "{refused}"
    );
    // Roots alone, as `caCertificates` of a MUTUAL server has it, ask for no identity.
    let partner = LeafRequest::new([San::Dns("partner.example".into())]);
    assert_eq!(
        refusal(
            Trust::Roots(ca.roots().clone()),
            vec![],
            gateway(),
            Some(issue(&ca, &partner))
        )
        .await,
        None
    );
}

#[tokio::test]
async fn a_caller_may_stay_anonymous_only_where_that_is_allowed() {
    let ca = authority("mesh.test");
    let clients = Arc::new(ClientVerifier::new(live(mesh_trust(&ca)), vec![]).optional());
    let server = Arc::new(
        server_config(
            live(issue(&ca, &request(GATEWAY))),
            Some(clients.clone()),
            Versions::ALL,
        )
        .unwrap(),
    );
    let attempt = async |identity: Option<Identity>| {
        let client = client_config(identity.map(live), Arc::new(ServerVerifier::insecure()), Versions::ALL).unwrap();
        connect(&server, &Arc::new(client), REQUESTED).await.0
    };
    let anonymous = attempt(None).await.unwrap();
    assert_eq!(clients.peer(anonymous.get_ref().1, SystemTime::now()), Ok(None));
    let strange = attempt(Some(issue(&authority("mesh.test"), &request(CALLER))))
        .await
        .unwrap_err();
    assert!(reason(&strange).contains(NO_ROOT));
}

/// The reason for which a client refuses a server.
async fn distrust(trust: Trust, names: Names, shown: Identity, requested: &str) -> Option<String> {
    let server = Arc::new(server_config(live(shown), None, Versions::ALL).unwrap());
    let client = client_config(None, Arc::new(ServerVerifier::new(live(trust), names)), Versions::ALL).unwrap();
    let (_, client) = connect(&server, &Arc::new(client), requested).await;
    client.err().map(|error| reason(&error))
}

#[tokio::test]
async fn a_client_accepts_a_server_by_any_listed_name_and_by_no_other() {
    let ca = authority("mesh.test");
    let uri = |name| san(SanKind::Uri, name);
    let dns = |name| san(SanKind::Dns, name);
    let regex = |text: &str| StringMatcher::regex(Regex::parse(text).unwrap());
    let shown = request(GATEWAY)
        .san(San::Dns("*.Example.com".into()))
        .san(San::Dns("example.org".into()))
        .san(San::Ip([192, 0, 2, 1].into()));
    let cases = [
        (vec![], true),
        (vec![exact(SanKind::Uri, GATEWAY)], true),
        (vec![exact(SanKind::Uri, CALLER)], false),
        (vec![exact(SanKind::Uri, CALLER), exact(SanKind::Uri, GATEWAY)], true),
        (vec![uri(StringMatcher::prefix("spiffe://mesh.test/"))], true),
        (vec![uri(StringMatcher::prefix("spiffe://mesh.tes/"))], false),
        (vec![uri(StringMatcher::suffix("/sa/gateway"))], true),
        (vec![uri(regex("spiffe://.+/sa/gateway"))], true),
        (vec![uri(regex("spiffe://.+/sa/gate"))], false),
        (vec![exact(SanKind::Dns, GATEWAY)], false),
        (vec![exact(SanKind::Dns, "example.org")], true),
        (vec![exact(SanKind::Dns, "EXAMPLE.org")], true),
        (vec![exact(SanKind::Dns, "a.example.com")], true),
        (vec![exact(SanKind::Dns, "a.b.example.com")], false),
        (vec![exact(SanKind::Dns, "example.com")], false),
        (vec![exact(SanKind::Dns, "*.example.com")], true),
        (vec![dns(StringMatcher::suffix(".org"))], true),
        (vec![dns(StringMatcher::suffix(".net"))], false),
        (vec![exact(SanKind::Ip, "192.0.2.1")], true),
        (vec![exact(SanKind::Ip, "192.0.2.2")], false),
    ];
    for (names, accepted) in cases {
        let text = format!("{names:?}");
        let refused = distrust(mesh_trust(&ca), Names::Listed(names), issue(&ca, &shown), REQUESTED).await;
        assert_eq!(refused.is_none(), accepted, "{text} {refused:?}");
        assert!(
            refused.is_none_or(|reason| reason.contains("none of the certificate's names")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upstream_must_be_the_host_that_was_asked_for() {
    let web = CertificateAuthority::root(&CaRequest::named("web"), SystemTime::now()).unwrap();
    let other = CertificateAuthority::root(&CaRequest::named("web"), SystemTime::now()).unwrap();
    let server = |name: &str| LeafRequest::server(&Host::parse(name).unwrap());
    let now = SystemTime::now();
    let wildcard = LeafRequest::new([San::Dns("*.example.com".into())]);
    let cases = [
        (issue(&web, &server("example.com")), "example.com", None),
        (issue(&web, &wildcard), "www.example.com", None),
        (issue(&web, &server("192.0.2.1")), "192.0.2.1", None),
        (issue(&web, &server("example.org")), "example.com", Some(", not for ")),
        (issue(&web, &wildcard), "example.com", Some(", not for ")),
        (issue(&web, &server("192.0.2.2")), "192.0.2.1", Some(", not for ")),
        (
            issue(&web, &LeafRequest::new([]).common_name("example.com")),
            "example.com",
            Some(", not for "),
        ),
        (issue(&other, &server("example.com")), "example.com", Some(NO_ROOT)),
        (
            issue(&web, &server("example.com").between(now - HOUR * 2, now - HOUR)),
            "example.com",
            Some("certificate expired"),
        ),
    ];
    for (shown, requested, expect) in cases {
        let text = format!("{shown:?} {requested}");
        let refused = distrust(Trust::Roots(web.roots().clone()), Names::Requested, shown, requested).await;
        match (refused, expect) {
            (None, None) => {}
            (Some(reason), Some(expect)) => assert!(reason.contains(expect), "{text}: {reason}"),
            (refused, _) => panic!("{text}: {refused:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_is_never_mistaken_for_a_server_outside_the_mesh_and_the_reverse() {
    let ca = authority("mesh.test");
    let outside = issue(&ca, &LeafRequest::server(&Host::parse("example.com").unwrap()));
    let refused = distrust(mesh_trust(&ca), Names::Listed(vec![]), outside, "example.com")
        .await
        .unwrap();
    assert!(refused.contains("no URI subject alternative name"), "{refused}");
    // A certificate for clients only must not serve, nor the reverse.
    let server_only = issue(&ca, &LeafRequest::server(&Host::parse("example.com").unwrap()));
    let refused = refusal(
        Trust::Roots(ca.roots().clone()),
        vec![],
        issue(&ca, &request(GATEWAY)),
        Some(server_only),
    )
    .await;
    assert!(
        refused
            .unwrap()
            .contains("does not allow extended key usage for client authentication")
    );
}

#[tokio::test]
async fn a_rotation_changes_new_connections_and_ends_none() {
    let mesh = Mesh::new(Versions::ALL);
    let serial = |end: &ClientEnd| {
        certs::Certificate::parse(&end.get_ref().1.peer_certificates().unwrap()[0])
            .unwrap()
            .serial
    };
    let (mut server, mut client) = mesh.connect().await;
    let renewed = issue(&mesh.ca, &request(GATEWAY));
    let (old, new) = (serial(&client), renewed.leaf().serial.clone());
    let mut notice = mesh.gateway.subscribe();
    mesh.gateway.replace(renewed);
    notice.changed().await.unwrap();

    exchange(&mut server, &mut client).await;
    assert_eq!(serial(&client), old);
    assert_eq!(serial(&mesh.connect().await.1), new);

    let renewed = issue(&mesh.ca, &request(CALLER));
    let new = renewed.leaf().serial.clone();
    mesh.caller.replace(renewed);
    assert_eq!(
        mesh.peer(&mesh.connect().await.0).unwrap().unwrap().certificate.serial,
        new
    );
}

#[tokio::test]
async fn a_change_of_roots_counts_from_the_next_handshake() {
    let mesh = Mesh::new(Versions::ALL);
    let (mut server, mut client) = mesh.connect().await;
    let successor = authority("mesh.test");
    mesh.gateway_trust.replace(mesh_trust(&successor));
    exchange(&mut server, &mut client).await;
    let refused = connect(&mesh.server, &mesh.client, REQUESTED).await.0.unwrap_err();
    assert!(reason(&refused).contains(NO_ROOT));

    let both = [mesh.ca.roots(), successor.roots()].map(Roots::certificates).concat();
    mesh.gateway_trust.replace(Trust::Mesh(TrustBundle::new(
        domain("mesh.test"),
        Roots::new(both).unwrap(),
    )));
    mesh.connect().await;
    mesh.caller.replace(issue(&successor, &request(CALLER)));
    mesh.connect().await;
}

#[tokio::test]
async fn sessions_resume_until_the_credentials_change() {
    for versions in [
        Versions::TLS13,
        Versions {
            min: None,
            max: Some(TlsVersion::V1_2),
        },
    ] {
        let mesh = Mesh::new(versions);
        let kind = async || mesh.connect().await.0.get_ref().1.handshake_kind();
        assert_ne!(kind().await, Some(HandshakeKind::Resumed));
        assert_eq!(kind().await, Some(HandshakeKind::Resumed));
        let (server, _) = mesh.connect().await;
        assert_eq!(mesh.peer(&server).unwrap().unwrap().id.unwrap().as_str(), CALLER);

        mesh.caller.replace(issue(&mesh.ca, &request(CALLER)));
        assert_ne!(kind().await, Some(HandshakeKind::Resumed));
        assert_eq!(kind().await, Some(HandshakeKind::Resumed));
        mesh.gateway.replace(issue(&mesh.ca, &request(GATEWAY)));
        assert_ne!(kind().await, Some(HandshakeKind::Resumed));
        assert_eq!(kind().await, Some(HandshakeKind::Resumed));
        mesh.gateway_trust.replace(mesh_trust(&mesh.ca));
        assert_ne!(kind().await, Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_identity_it_was_granted_to() {
    let mesh = Mesh::with_caller(Versions::TLS13, &request(CALLER).lifetime(HOUR));
    mesh.connect().await;
    let (server, client) = mesh.connect().await;
    let resumed = server.get_ref().1;
    assert_eq!(resumed.handshake_kind(), Some(HandshakeKind::Resumed));
    let end = SystemTime::now() + HOUR * 2;
    let refused = mesh.clients.peer(resumed, end).unwrap_err();
    assert!(refused.to_string().contains("certificate expired"), "{refused}");
    let name = ServerName::try_from(REQUESTED).unwrap();
    assert!(
        mesh.servers
            .peer(client.get_ref().1, &name, SystemTime::now() + HOUR * 48)
            .is_err()
    );

    // Nor the roots it was checked against.
    mesh.gateway_trust.replace(mesh_trust(&authority("mesh.test")));
    let refused = mesh.peer(&server).unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn no_version_at_all_is_an_error() {
    let none = Versions {
        min: Some(TlsVersion::V1_3),
        max: Some(TlsVersion::V1_2),
    };
    let ca = authority("mesh.test");
    assert!(server_config(live(issue(&ca, &request(GATEWAY))), None, none).is_err());
    assert!(client_config(None, Arc::new(ServerVerifier::insecure()), none).is_err());
}
