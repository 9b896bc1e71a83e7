//! The secret discovery service as its clients see it, over its real socket.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use certs::{
    CaRequest, CertificateAuthority, FileWatcher, Identity, LeafRequest, MIN_LIFETIME, Renewal, Roots, Trust,
    TrustBundle, Workload, files,
    sds::{Access, Server, Settings},
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use mesh::{
    id::{SpiffeId, TrustDomain},
    secret::{Material, SecretContent},
    xds::{
        Any, ResourceType,
        ads::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
        secret,
    },
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://mesh.test/ns/a/sa/b").unwrap()
}

fn authority() -> CertificateAuthority {
    let domain = TrustDomain::parse("mesh.test").unwrap();
    CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap()
}

fn issue(authority: &CertificateAuthority) -> Identity {
    authority.issue(&LeafRequest::svid(&id()), SystemTime::now()).unwrap()
}

fn trust(roots: &Roots) -> Trust {
    Trust::Mesh(TrustBundle::new(
        TrustDomain::parse("mesh.test").unwrap(),
        roots.clone(),
    ))
}

/// A server of a fresh workload, and where it is.
struct Fixture {
    scratch: TempDir,
    authority: CertificateAuthority,
    workload: Workload,
    server: Server,
}

impl Fixture {
    async fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let authority = authority();
        let workload = Workload::new(issue(&authority), trust(authority.roots()), SystemTime::now()).unwrap();
        let server = Server::start(Settings {
            socket: scratch.path().join("socket"),
            access: Access::Owner,
            workload: workload.clone(),
            system_roots: None,
        });
        let server = server.await.unwrap();
        Self {
            scratch,
            authority,
            workload,
            server,
        }
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("socket")
    }

    async fn client(&self) -> SecretDiscoveryServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket().display())).unwrap();
        SecretDiscoveryServiceClient::new(endpoint.connect().await.unwrap())
    }

    async fn sotw(&self) -> Sotw {
        let (requests, queue) = mpsc::channel(8);
        let mut client = self.client().await;
        let opened = client.stream_secrets(ReceiverStream::new(queue));
        Stream::opened(requests, opened.await.unwrap().into_inner())
    }

    async fn delta(&self) -> Delta {
        let (requests, queue) = mpsc::channel(8);
        let mut client = self.client().await;
        let opened = client.delta_secrets(ReceiverStream::new(queue));
        Stream::opened(requests, opened.await.unwrap().into_inner())
    }
}

/// A client's end of a stream.
struct Stream<Q, R> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<R>,
}

type Sotw = Stream<DiscoveryRequest, DiscoveryResponse>;
type Delta = Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

impl<Q, R> Stream<Q, R> {
    fn opened(requests: mpsc::Sender<Q>, responses: Streaming<R>) -> Self {
        Self { requests, responses }
    }

    async fn send(&self, request: Q) {
        self.requests
            .send(request)
            .await
            .unwrap_or_else(|_| panic!("the stream has ended"));
    }

    async fn next(&mut self) -> Result<R, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await;
        response
            .expect("a response in time")
            .map(|response| response.expect("no end"))
    }
}

fn wants(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: ResourceType::Secret.type_url().to_owned(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..DiscoveryRequest::default()
    }
}

fn subscribes(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ResourceType::Secret.type_url().to_owned(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn content(any: &Any) -> (String, SecretContent) {
    let secret = secret::decode(any).unwrap();
    (secret.name.to_string(), secret.content)
}

#[track_caller]
fn assert_is(content: &SecretContent, identity: &Identity) {
    let SecretContent::Certificate {
        chain: Material::Inline(chain),
        key: Material::Inline(key),
    } = content
    else {
        panic!("{content:?} is no certificate in place");
    };
    assert!(Identity::from_pem(chain, key).unwrap() == *identity);
}

#[track_caller]
fn assert_roots(content: &SecretContent, roots: &Roots) {
    let SecretContent::Trust(Material::Inline(text)) = content else {
        panic!("{content:?} are no roots in place");
    };
    assert_eq!(&Roots::from_pem(text).unwrap(), roots);
}

#[tokio::test]
async fn a_stream_gets_the_identity_and_each_of_its_successors() {
    let fixture = Fixture::start().await;
    let mut stream = fixture.sotw().await;
    stream.send(wants(&["default"])).await;
    let first = stream.next().await.unwrap();
    let (name, held) = content(&first.resources[0]);
    assert_eq!((name.as_str(), first.resources.len()), ("default", 1));
    assert_is(&held, &fixture.workload.identity.load());

    let renewed = issue(&fixture.authority);
    fixture.workload.identity.replace(renewed);
    let second = stream.next().await.unwrap();
    assert_ne!(second.version_info, first.version_info);
    assert_is(&content(&second.resources[0]).1, &fixture.workload.identity.load());
}

#[tokio::test]
async fn a_delta_stream_gets_the_roots_and_each_of_their_successors() {
    let fixture = Fixture::start().await;
    let mut stream = fixture.delta().await;
    stream.send(subscribes(&["ROOTCA"])).await;
    let first = stream.next().await.unwrap();
    let any = first.resources[0].resource.as_ref().unwrap();
    assert_eq!(first.resources[0].name, "ROOTCA");
    assert_roots(&content(any).1, fixture.authority.roots());

    let next = authority();
    fixture.workload.trust.replace(trust(next.roots()));
    let second = stream.next().await.unwrap();
    assert_roots(&content(second.resources[0].resource.as_ref().unwrap()).1, next.roots());
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_pushed() {
    let fixture = Fixture::start().await;
    let mut stream = fixture.delta().await;
    stream.send(subscribes(&["ROOTCA"])).await;
    stream.next().await.unwrap();
    fixture.workload.identity.replace(issue(&fixture.authority));
    stream.send(subscribes(&["default"])).await;
    let answer = stream.next().await.unwrap();
    let names: Vec<_> = answer.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["default"], "the first thing that comes");
    assert_is(
        &content(answer.resources[0].resource.as_ref().unwrap()).1,
        &fixture.workload.identity.load(),
    );
}

#[tokio::test]
async fn names_that_are_not_served_are_said_to_be_absent() {
    let fixture = Fixture::start().await;
    let mut stream = fixture.delta().await;
    stream.send(subscribes(&["kubernetes://other", "default"])).await;
    let answer = stream.next().await.unwrap();
    assert_eq!(answer.removed_resources, ["kubernetes://other"]);
    assert_eq!(answer.resources.len(), 1);
}

#[tokio::test]
async fn other_types_and_oversized_requests_end_the_stream() {
    let fixture = Fixture::start().await;
    let mut clusters = wants(&["a"]);
    clusters.type_url = ResourceType::Cluster.type_url().to_owned();
    let mut unknown = wants(&["a"]);
    unknown.type_url = "type.googleapis.com/some.Other".to_owned();
    let huge = wants(&["x".repeat(70_000).as_str()]);
    for (request, code) in [
        (clusters, Code::InvalidArgument),
        (unknown, Code::InvalidArgument),
        (wants(&["x".repeat(2000).as_str()]), Code::InvalidArgument),
    ] {
        let mut stream = fixture.sotw().await;
        stream.send(request).await;
        assert_eq!(stream.next().await.unwrap_err().code(), code);
    }
    let mut stream = fixture.sotw().await;
    stream.send(huge).await;
    let end = timeout(PATIENCE, stream.responses.message()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn the_end_of_the_server_ends_its_streams_and_removes_its_socket() {
    let fixture = Fixture::start().await;
    let mut stream = fixture.sotw().await;
    stream.send(wants(&["default"])).await;
    stream.next().await.unwrap();
    let socket = fixture.socket();
    assert!(socket.exists());
    timeout(PATIENCE, fixture.server.shutdown()).await.unwrap();
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Unavailable);
    assert!(!socket.exists());
}

#[tokio::test]
async fn another_authority_means_another_identity_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (first, second) = (scratch.path().join("ca"), scratch.path().join("next"));
    authority().save(&first).unwrap();
    let files = FileWatcher::new();
    let renewal = Renewal::start(&first, &id(), MIN_LIFETIME, &files).unwrap();
    let workload = renewal.workload().clone();
    let before = workload.identity.load();
    let mut changed = workload.identity.subscribe();

    let next = authority();
    next.save(&second).unwrap();
    for file in [files::CA_KEY, files::CA_CERT, files::CERT_CHAIN, files::ROOT_CERT] {
        std::fs::rename(second.join(file), first.join(file)).unwrap();
    }
    tokio::select! {
        () = files.run() => unreachable!("it runs for ever"),
        () = renewal.run() => unreachable!("it runs for ever"),
        changed = timeout(PATIENCE, changed.changed()) => changed.expect("in time").unwrap(),
    }
    assert_ne!(workload.identity.load().leaf().serial, before.leaf().serial);
    assert_eq!(*workload.trust.load(), trust(next.roots()));
    assert_eq!(workload.identity.load().svid(SystemTime::now()).unwrap().id(), &id());
}

#[test]
fn what_cannot_be_renewed_in_time_is_not_begun() {
    let scratch = tempfile::tempdir().unwrap();
    authority().save(scratch.path()).unwrap();
    let files = FileWatcher::new();
    let start = |lifetime| Renewal::start(scratch.path(), &id(), lifetime, &files).map(drop);
    let error = start(MIN_LIFETIME - Duration::from_secs(1)).unwrap_err().to_string();
    assert_eq!(
        error,
        "a lifetime of 239 s is too short to be renewed in time, at least 240 s are needed"
    );
    start(MIN_LIFETIME).unwrap();
}
