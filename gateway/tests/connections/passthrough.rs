//! TLS that passes through, by server name.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use certs::{ServerVerifier, Versions};
use gateway::Settings;
use mesh::{
    authz::{Principal, RbacAction},
    cluster::CircuitBreakers,
    listener::{FilterChain, Protocol},
};
use rustls::{ClientConnection, pki_types::ServerName};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Proxy, bundle, chain, closed_port, echo, fixed, listener, rbac, read_all, soon};

/// What a client sends first that asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let config = certs::client_config(None, Arc::new(ServerVerifier::insecure()), Versions::ALL).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut bytes = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// A proxy that passes `a.test` to `upstream`.
async fn passing(upstream: SocketAddr) -> Proxy {
    let proxy = Proxy::start(Settings::default()).await;
    let chain = chain(&proxy, &["a.test"], "a");
    proxy
        .apply(bundle([listener(&proxy, "l", vec![chain])], [fixed("a", &[upstream])]))
        .await;
    proxy
}

fn denying(proxy: &Proxy) -> FilterChain {
    FilterChain {
        rbac: vec![rbac(RbacAction::Deny, "ns[a]-policy[no]-rule[0]", Principal::Any)],
        ..chain(proxy, &["a.test"], "a")
    }
}

#[tokio::test]
async fn bytes_arrive_as_they_were_sent_and_each_half_closes_on_its_own() {
    let upstream = echo().await;
    let proxy = passing(upstream).await;
    let sent = [hello("A.test"), b"and more".to_vec()].concat();
    let mut client = proxy.connect("l").await;
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let answer = read_all(&mut client).await.unwrap();
    assert_eq!(answer, [b"<", &sent[..], b">"].concat());
    let line = proxy.line().await;
    let length = u64::try_from(sent.len()).unwrap();
    assert_eq!(line.bytes, (length, length + 2));
    assert_eq!(
        (line.flags.as_str(), line.details.as_str(), line.sni.as_str()),
        ("-", "-", "a.test")
    );
    assert_eq!(
        (line.host, line.cluster, line.local),
        (upstream.to_string(), "a".to_owned(), proxy.address("l").to_string())
    );
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte() {
    let proxy = passing(echo().await).await;
    let mut client = proxy.connect("l").await;
    client.set_nodelay(true).unwrap();
    for byte in hello("a.test") {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.shutdown().await.unwrap();
    assert!(read_all(&mut client).await.unwrap().starts_with(b"<\x16\x03\x01"));
}

#[tokio::test]
async fn what_no_chain_is_for_is_reset_and_recorded() {
    let proxy = passing(echo().await).await;
    let mut oversized = vec![22, 3, 1, 0x40, 0, 1, 0, 0x40, 0];
    oversized.resize(5 + 0x4000, 0);
    let cases: [(&[u8], &str, &str); 4] = [
        (&hello("b.test"), "NR", "b.test"),
        (&hello("127.0.0.1"), "NR", "-"),
        (b"GET / HTTP/1.1\r\n\r\n", "NR", "-"),
        (&oversized, "-", "-"),
    ];
    for (at, (bytes, flags, sni)) in cases.into_iter().enumerate() {
        let mut client = proxy.connect("l").await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(read_all(&mut client).await, None, "{sni}");
        let line = proxy.lines(at + 1).await.remove(at);
        assert_eq!(
            (line.flags.as_str(), line.sni.as_str(), line.host.as_str()),
            (flags, sni, "-")
        );
        assert_eq!(line.details == "filter_chain_not_found", flags == "NR");
    }
}

#[tokio::test]
async fn a_refusing_upstream_is_recorded_with_the_reason() {
    let upstream = closed_port().await;
    let proxy = passing(upstream).await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    assert_ne!(read_all(&mut client).await, Some(b"<".to_vec()));
    let line = proxy.line().await;
    assert_eq!(
        (line.flags.as_str(), line.details.as_str(), line.host),
        ("UF,URX", "-", upstream.to_string())
    );
    assert_eq!(line.failure, "delayed_connect_error:_Connection_refused");
}

#[tokio::test]
async fn missing_clusters_and_hosts_have_flags_of_their_own() {
    let proxy = Proxy::start(Settings::default()).await;
    let chains = ["none", "empty", "full"].map(|name| chain(&proxy, &[&format!("{name}.test")], name));
    let mut full = fixed("full", &[echo().await]);
    full.circuit_breakers = Some(CircuitBreakers {
        max_connections: Some(0),
        ..CircuitBreakers::default()
    });
    proxy
        .apply(bundle(
            [listener(&proxy, "l", chains.to_vec())],
            [fixed("empty", &[]), full],
        ))
        .await;
    for (at, (name, flags, cluster)) in [
        ("none.test", "NC", "-"),
        ("empty.test", "UH", "empty"),
        ("full.test", "UO", "full"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = proxy.connect("l").await;
        client.write_all(&hello(name)).await.unwrap();
        read_all(&mut client).await;
        let line = proxy.lines(at + 1).await.remove(at);
        assert_eq!(
            (line.flags.as_str(), line.cluster.as_str(), line.host.as_str()),
            (flags, cluster, "-")
        );
    }
}

#[tokio::test]
async fn a_denied_connection_never_reaches_the_upstream() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(Settings::default()).await;
    let listener = listener(&proxy, "l", vec![denying(&proxy)]);
    proxy
        .apply(bundle([listener], [fixed("a", &[upstream.local_addr().unwrap()])]))
        .await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    read_all(&mut client).await;
    let line = proxy.line().await;
    assert_eq!(
        line.termination,
        "rbac_access_denied_matched_policy[ns[a]-policy[no]-rule[0]]"
    );
    assert_eq!(
        (line.flags.as_str(), line.host.as_str(), line.cluster.as_str()),
        ("-", "-", "a")
    );
    proxy.handle.shutdown().await;
    // Whatever was dialled before the data plane ended would wait here.
    let arrived = tokio::select! {
        biased;
        arrived = upstream.accept() => Some(arrived),
        () = std::future::ready(()) => None,
    };
    assert!(arrived.is_none());
}

#[tokio::test]
async fn a_tightened_policy_ends_live_connections() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let proxy = passing(address).await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    let (mut server, _) = soon(upstream.accept()).await.unwrap();
    server.read_u8().await.unwrap();
    let port = proxy.address("l");
    let listener = listener(&proxy, "l", vec![denying(&proxy)]);
    proxy.apply(bundle([listener], [fixed("a", &[address])])).await;
    assert_eq!(proxy.address("l"), port);
    read_all(&mut client).await;
    read_all(&mut server).await;
    let line = proxy.line().await;
    assert_eq!(
        line.termination,
        "rbac_access_denied_matched_policy[ns[a]-policy[no]-rule[0]]"
    );
    assert_eq!((line.host, line.cluster.as_str()), (address.to_string(), "a"));
}

#[tokio::test]
async fn a_reset_is_passed_on() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = passing(upstream.local_addr().unwrap()).await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    let (mut server, _) = soon(upstream.accept()).await.unwrap();
    server.read_u8().await.unwrap();
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(read_all(&mut client).await, None);
    assert_eq!(proxy.line().await.flags, "UR");

    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    let (mut server, _) = soon(upstream.accept()).await.unwrap();
    server.read_u8().await.unwrap();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(read_all(&mut server).await, None);
    assert_eq!(proxy.lines(2).await.remove(1).flags, "-");
}

#[tokio::test]
async fn silence_ends_a_connection_without_a_flag() {
    let upstream = echo().await;
    let proxy = Proxy::start(Settings::default()).await;
    let mut chain = chain(&proxy, &["a.test"], "a");
    let Protocol::Tcp(tcp) = &mut chain.protocol else {
        unreachable!()
    };
    tcp.idle_timeout = Some(Duration::from_millis(50));
    proxy
        .apply(bundle([listener(&proxy, "l", vec![chain])], [fixed("a", &[upstream])]))
        .await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    assert_eq!(read_all(&mut client).await, Some(b"<".to_vec()));
    assert_eq!(proxy.line().await.flags, "-");
}

#[tokio::test]
async fn a_connection_has_a_longest_life() {
    let upstream = echo().await;
    let proxy = Proxy::start(Settings::default()).await;
    let mut chain = chain(&proxy, &["a.test"], "a");
    let Protocol::Tcp(tcp) = &mut chain.protocol else {
        unreachable!()
    };
    tcp.max_connection_duration = Some(Duration::from_millis(50));
    proxy
        .apply(bundle([listener(&proxy, "l", vec![chain])], [fixed("a", &[upstream])]))
        .await;
    let mut client = proxy.connect("l").await;
    client.write_all(&hello("a.test")).await.unwrap();
    read_all(&mut client).await;
    let line = proxy.line().await;
    assert_eq!(line.flags, "DT");
}
