//! Control and gateway over real connections: both protocols, refusals, reconnects, and who may have what.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use control::{
    node::Node,
    serve::{Generation, Security, ServeError, Server, Source},
};
use gateway::{
    Following, Gateway, Handle, Settings,
    ads::{self, Protocol, State},
};
use mesh::{
    ClusterName, ListenerName,
    bundle::Bundle,
    cluster::{Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, LbPolicy, UpstreamHttp},
    id::SpiffeId,
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, Protocol as Serves, TcpProxy, TrafficDirection},
    matcher::StringMatcher,
    route::WeightedClusters,
    tls::{SanKind, SanMatcher},
};
use sallyport::lab::pki::MeshCa;
use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::timeout};

const DEADLINE: Duration = Duration::from_secs(30);
const BOTH: [Protocol; 2] = [Protocol::Delta, Protocol::StateOfTheWorld];
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every proxy gets the listeners its namespace has here, each with a cluster.
struct Listeners(BTreeMap<&'static str, Vec<(&'static str, SocketAddr)>>);

impl Source for Listeners {
    fn compile(&self, node: &Node) -> Bundle {
        let mut bundle = Bundle::default();
        for (name, at) in self.0.get(node.namespace.as_str()).into_iter().flatten() {
            let (listener, cluster, endpoints) = relay(name, *at);
            bundle.listeners.insert(listener.name.clone(), listener.into());
            bundle.endpoints.insert(cluster.name.clone(), endpoints.into());
            bundle.clusters.insert(cluster.name.clone(), cluster.into());
        }
        bundle
    }
}

fn generation(number: u64, listeners: &[(&'static str, &[(&'static str, SocketAddr)])]) -> Generation {
    let listeners = listeners.iter().map(|(namespace, all)| (*namespace, all.to_vec()));
    Generation {
        number,
        source: Arc::new(Listeners(listeners.collect())),
    }
}

/// A listener that relays to a cluster of the same name, which gets its endpoints by EDS.
fn relay(name: &str, address: SocketAddr) -> (Listener, Cluster, Endpoints) {
    let cluster = Cluster {
        name: ClusterName::parse(name).unwrap(),
        alt_stat_name: None,
        discovery: Discovery::Eds {
            service_name: None,
            source: mesh::source::Source::Ads,
        },
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: None,
        tls: None,
        http: UpstreamHttp::Http1,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: None,
        buffer_limit: None,
        reuse: mesh::cluster::Reuse::default(),
    };
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        clusters: WeightedClusters::one(cluster.name.clone()),
        idle_timeout: None,
        max_connection_duration: None,
        access_logs: Vec::new(),
    };
    let listener = Listener {
        name: ListenerName::parse(name).unwrap(),
        address,
        bind_to_port: true,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors::default(),
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains: vec![FilterChain {
            name: None,
            matches: FilterChainMatch::default(),
            tls: None,
            handshake_timeout: None,
            rbac: Vec::new(),
            protocol: Serves::Tcp(proxy),
        }],
        default_filter_chain: None,
        access_logs: Vec::new(),
        buffer_limit: None,
    };
    let endpoints = Endpoints(vec![Endpoint {
        address: EndpointAddress::Socket(([127, 0, 0, 1], 9).into()),
        weight: None,
        healthy: true,
    }]);
    (listener, cluster, endpoints)
}

fn node_id(namespace: &str) -> String {
    format!("router~127.0.0.1~gateway.{namespace}~{namespace}.svc.cluster.local")
}

fn following(server: &Server, namespace: &str, security: ads::Security, protocol: Protocol) -> ads::Settings {
    ads::Settings {
        server: server.address().to_string(),
        security,
        protocol,
        wants: ads::Wants::default(),
        node_id: node_id(namespace),
        node_cluster: "egress".to_owned(),
        metadata: Map::new(),
    }
}

async fn gateway() -> Handle {
    let settings = Settings {
        workers: NonZeroUsize::MIN,
        // Nothing here is looked up; the system's servers need not exist.
        name_servers: vec![([127, 0, 0, 1], 9).into()],
        ..Settings::default()
    };
    Gateway::start(settings).await.unwrap()
}

async fn serve(first: Generation, security: Security) -> (Server, watch::Sender<Generation>) {
    let (generations, changes) = watch::channel(first);
    (Server::start(LOOPBACK, security, changes).await.unwrap(), generations)
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

async fn until(what: &str, following: &Following, reached: impl FnMut(&State) -> bool) -> State {
    let mut state = following.state();
    within(what, state.wait_for(reached)).await.unwrap().clone()
}

#[track_caller]
fn assert_listens(gateway: &Handle, expected: &[&str]) {
    let bound = gateway.bound();
    assert_eq!(bound.keys().map(|name| name.as_str()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_acknowledged_is_in_force() {
    for protocol in BOTH {
        let (server, generations) = serve(
            generation(1, &[("a", &[("one", LOOPBACK)])]),
            Security::PlaintextOnLoopback,
        )
        .await;
        let gateway = gateway().await;
        let settings = following(&server, "a", ads::Security::PlaintextOnLoopback, protocol);
        let following = gateway.follow(settings).unwrap();
        within("first", server.acknowledged_by(&node_id("a"))).await.unwrap();
        assert_listens(&gateway, &["one"]);

        let next: &[_] = &[("one", LOOPBACK), ("two", LOOPBACK)];
        generations.send_replace(generation(2, &[("a", next)]));
        within("second", server.acknowledged()).await.unwrap();
        assert_listens(&gateway, &["one", "two"]);
        let state = until("complete", &following, |state| state.complete).await;
        assert_eq!(
            (state.connected, state.warming.len(), state.refused.len()),
            (true, 0, 0),
            "{protocol:?}"
        );
        assert_eq!(server.proxies().len(), 1);
    }
}

#[tokio::test]
async fn every_proxy_gets_its_own() {
    let listeners: &[(_, &[_])] = &[("a", &[("one", LOOPBACK)]), ("b", &[("two", LOOPBACK)])];
    let (server, _generations) = serve(generation(1, listeners), Security::PlaintextOnLoopback).await;
    let (a, b) = (gateway().await, gateway().await);
    let plaintext = || ads::Security::PlaintextOnLoopback;
    let _a = a.follow(following(&server, "a", plaintext(), Protocol::Delta)).unwrap();
    let _b = b
        .follow(following(&server, "b", plaintext(), Protocol::StateOfTheWorld))
        .unwrap();
    within("a", server.acknowledged_by(&node_id("a"))).await.unwrap();
    within("b", server.acknowledged_by(&node_id("b"))).await.unwrap();
    assert_listens(&a, &["one"]);
    assert_listens(&b, &["two"]);
}

#[tokio::test]
async fn what_a_gateway_cannot_run_is_refused_by_name_and_the_rest_applies() {
    // TEST-NET-1: no machine has this address.
    let nowhere = ([192, 0, 2, 1], 9).into();
    for protocol in BOTH {
        let mixed: &[_] = &[("bad", nowhere), ("good", LOOPBACK)];
        let (server, generations) = serve(generation(1, &[("a", mixed)]), Security::PlaintextOnLoopback).await;
        let gateway = gateway().await;
        let settings = following(&server, "a", ads::Security::PlaintextOnLoopback, protocol);
        let following = gateway.follow(settings).unwrap();
        let refused = within("refusal", server.acknowledged_by(&node_id("a")))
            .await
            .unwrap_err();
        assert_eq!(refused.node, node_id("a"));
        let text = refused.to_string();
        assert!(
            text.contains("listener bad: cannot listen on 192.0.2.1:9"),
            "{protocol:?}: {text}"
        );
        assert!(!text.contains("good"), "{text}");
        assert_listens(&gateway, &["good"]);
        let state = until("refused", &following, |state| !state.refused.is_empty()).await;
        assert_eq!(&*state.refused[0].name, "bad");

        let mended: &[_] = &[("bad", LOOPBACK), ("good", LOOPBACK)];
        generations.send_replace(generation(2, &[("a", mended)]));
        within("mended", server.acknowledged()).await.unwrap();
        assert_listens(&gateway, &["bad", "good"]);
    }
}

#[tokio::test]
async fn losing_the_control_plane_changes_nothing_and_what_was_missed_is_caught_up() {
    for protocol in BOTH {
        let (server, _generations) = serve(
            generation(1, &[("a", &[("one", LOOPBACK)])]),
            Security::PlaintextOnLoopback,
        )
        .await;
        let gateway = gateway().await;
        let settings = following(&server, "a", ads::Security::PlaintextOnLoopback, protocol);
        let following = gateway.follow(settings).unwrap();
        within("first", server.acknowledged_by(&node_id("a"))).await.unwrap();
        let before = gateway.bound();
        let address = server.address();
        within("shutdown", server.shutdown()).await;
        until("disconnected", &following, |state| {
            !state.connected && state.last_error.is_some()
        })
        .await;
        assert_eq!(gateway.bound(), before);

        let next: &[_] = &[("one", LOOPBACK), ("two", LOOPBACK)];
        let (_generations, changes) = watch::channel(generation(1, &[("a", next)]));
        let server = Server::start(address, Security::PlaintextOnLoopback, changes)
            .await
            .unwrap();
        within("caught up", server.acknowledged_by(&node_id("a")))
            .await
            .unwrap();
        assert_listens(&gateway, &["one", "two"]);
        let kept = |name: &str| gateway.bound().get(name).copied();
        assert_eq!(kept("one"), before.get("one").copied(), "its socket stayed");
    }
}

/// The identity of a server.
fn exactly(id: &SpiffeId) -> Vec<SanMatcher> {
    vec![SanMatcher {
        kind: SanKind::Uri,
        name: StringMatcher::exact(id.as_str()),
    }]
}

#[tokio::test]
async fn identity_decides_who_gets_what() {
    let (ca, foreign) = (
        MeshCa::new("cluster.local").unwrap(),
        MeshCa::new("cluster.local").unwrap(),
    );
    let istiod = ca.workload("istio-system", "istiod").unwrap();
    let first = generation(1, &[("a", &[("one", LOOPBACK)])]);
    let (server, _generations) = serve(first, Security::MutualTls(istiod.clone())).await;
    let right = exactly(istiod.id());
    let other = exactly(&SpiffeId::parse("spiffe://cluster.local/ns/istio-system/sa/other").unwrap());
    for (workload, server_names, account, error) in [
        (
            ca.workload("b", "sa").unwrap(),
            &right,
            Value::Null,
            "authorization failed: no identities ([spiffe://cluster.local/ns/b/sa/sa]) matched a/",
        ),
        (
            ca.workload("a", "sa").unwrap(),
            &right,
            json!("gateway"),
            "authorization failed: no identities ([spiffe://cluster.local/ns/a/sa/sa]) matched a/gateway",
        ),
        (foreign.workload("a", "sa").unwrap(), &right, Value::Null, "certificate"),
        (
            ca.workload("a", "sa").unwrap(),
            &other,
            Value::Null,
            "none of the certificate's names",
        ),
    ] {
        let gateway = gateway().await;
        let security = ads::Security::MutualTls {
            workload,
            server: server_names.clone(),
        };
        let mut settings = following(&server, "a", security, Protocol::Delta);
        settings.metadata.insert("SERVICE_ACCOUNT".to_owned(), account);
        let following = gateway.follow(settings).unwrap();
        let state = until(error, &following, |state| state.last_error.is_some()).await;
        let said = state.last_error.unwrap();
        assert!(said.contains(error), "expected {error:?} in {said:?}");
        assert_listens(&gateway, &[]);
        assert_eq!(server.proxies(), []);
    }

    let gateway = gateway().await;
    let workload = ca.workload("a", "sa").unwrap();
    let security = ads::Security::MutualTls {
        workload: workload.clone(),
        server: right,
    };
    let _following = gateway
        .follow(following(&server, "a", security, Protocol::Delta))
        .unwrap();
    within("member", server.acknowledged_by(&node_id("a"))).await.unwrap();
    assert_eq!(server.proxies()[0].identity.as_ref(), Some(workload.id()));
    assert_listens(&gateway, &["one"]);
}

#[tokio::test]
async fn plaintext_is_not_served_where_others_could_reach_it() {
    let (_generations, changes) = watch::channel(generation(1, &[]));
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let refused = Server::start(everywhere, Security::PlaintextOnLoopback, changes).await;
    assert!(matches!(refused, Err(ServeError::Plaintext(_))));
}

#[tokio::test]
async fn a_node_that_cannot_be_understood_is_told_why() {
    let (server, _generations) = serve(generation(1, &[]), Security::PlaintextOnLoopback).await;
    let gateway = gateway().await;
    let mut settings = following(&server, "a", ads::Security::PlaintextOnLoopback, Protocol::Delta);
    settings.node_id = "router~127.0.0.1~gateway.a".to_owned();
    let following = gateway.follow(settings).unwrap();
    let state = until("error", &following, |state| state.last_error.is_some()).await;
    let said = state.last_error.unwrap();
    assert!(
        said.contains("is not <type>~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>"),
        "{said}"
    );
}
