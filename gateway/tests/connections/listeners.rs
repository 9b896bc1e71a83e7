//! Listeners that come, change and go while connections live.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use gateway::{
    Resource, Settings,
    network::{Accepted, BoxFuture, Dialled, Kernel, Network},
};
use mesh::{
    cluster::{Discovery, LbPolicy},
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Proxy, bundle, chain, cluster, echo, eventually, fixed, listener, reached, read_all, soon};

/// A listener that relays whatever comes.
fn relaying(proxy: &Proxy, name: &str) -> Listener {
    Listener {
        inspectors: Inspectors::default(),
        ..listener(proxy, name, vec![chain(proxy, &[], "a")])
    }
}

async fn ask(mut client: TcpStream) -> Option<Vec<u8>> {
    client.write_all(b"hi").await.unwrap();
    client.shutdown().await.unwrap();
    read_all(&mut client).await
}

#[tokio::test]
async fn a_removed_listener_lets_its_connections_finish() {
    let proxy = Proxy::start(Settings::default()).await;
    let upstream = || async { fixed("a", &[echo().await]) };
    proxy
        .apply(bundle(
            [relaying(&proxy, "l"), relaying(&proxy, "m")],
            [upstream().await],
        ))
        .await;
    let (address, mut live) = (proxy.address("l"), proxy.connect("l").await);
    live.write_all(b"first half, ").await.unwrap();
    proxy.apply(bundle([relaying(&proxy, "m")], [upstream().await])).await;
    assert_eq!(proxy.handle.bound().len(), 1);
    refused(address).await;
    live.write_all(b"second half").await.unwrap();
    live.shutdown().await.unwrap();
    assert_eq!(read_all(&mut live).await, Some(b"<first half, second half>".to_vec()));
    assert_eq!(ask(proxy.connect("m").await).await, Some(b"<hi>".to_vec()));
}

/// Waits until nobody listens at an address: sockets are closed just after a configuration is published.
async fn refused(address: SocketAddr) {
    eventually(|| std::net::TcpStream::connect(address).err()).await;
}

#[tokio::test]
async fn a_changed_chain_keeps_the_socket_and_serves_new_connections_anew() {
    let proxy = Proxy::start(Settings::default()).await;
    let (one, two) = (echo().await, echo().await);
    proxy
        .apply(bundle(
            [relaying(&proxy, "l")],
            [fixed("a", &[one]), fixed("b", &[two])],
        ))
        .await;
    let (address, mut live) = (proxy.address("l"), proxy.connect("l").await);
    live.write_all(b"hi").await.unwrap();
    reached(&mut live).await;
    let changed = Listener {
        filter_chains: vec![chain(&proxy, &[], "b")],
        ..relaying(&proxy, "l")
    };
    proxy
        .apply(bundle([changed], [fixed("a", &[one]), fixed("b", &[two])]))
        .await;
    assert_eq!(proxy.address("l"), address);
    assert_eq!(ask(proxy.connect("l").await).await, Some(b"<hi>".to_vec()));
    assert_eq!(proxy.line().await.host, two.to_string());
    live.shutdown().await.unwrap();
    assert_eq!(read_all(&mut live).await, Some(b"hi>".to_vec()));
    assert_eq!(proxy.lines(2).await.remove(1).host, one.to_string());
}

#[tokio::test]
async fn what_cannot_be_taken_is_named_and_the_rest_applies() {
    let proxy = Proxy::start(Settings::default()).await;
    let upstream = fixed("a", &[echo().await]);
    proxy
        .apply(bundle([relaying(&proxy, "keeps")], [upstream.clone()]))
        .await;
    let address = proxy.address("keeps");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at_taken = |name| Listener {
        address: taken.local_addr().unwrap(),
        ..relaying(&proxy, name)
    };
    let ambiguous = Listener {
        filter_chains: vec![chain(&proxy, &["a.test"], "a"), chain(&proxy, &["a.test"], "a")],
        ..relaying(&proxy, "keeps")
    };
    let next = bundle([ambiguous, at_taken("taken"), relaying(&proxy, "new")], [upstream]);
    let mut rejected = proxy.handle.apply(next).await.unwrap_err();
    rejected.sort_by(|one, two| one.name.cmp(&two.name));
    let names: Vec<_> = rejected
        .iter()
        .map(|rejected| (rejected.resource, rejected.name.as_str()))
        .collect();
    assert_eq!(names, [(Resource::Listener, "keeps"), (Resource::Listener, "taken")]);
    assert!(
        rejected[0].reason.contains("match the same connections"),
        "{}",
        rejected[0]
    );
    assert!(
        rejected[1].reason.contains("cannot listen on 127.0.0.1:"),
        "{}",
        rejected[1]
    );
    assert_eq!(proxy.address("keeps"), address);
    for name in ["keeps", "new"] {
        assert_eq!(ask(proxy.connect(name).await).await, Some(b"<hi>".to_vec()));
    }
}

#[tokio::test]
async fn two_listeners_cannot_share_an_address() {
    let proxy = Proxy::start(Settings::default()).await;
    let address = crate::support::closed_port().await;
    let at = |name| Listener {
        address,
        ..relaying(&proxy, name)
    };
    let rejected = proxy
        .handle
        .apply(bundle([at("one"), at("two")], []))
        .await
        .unwrap_err();
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        rejected[0].to_string(),
        format!("listener two: listener one has the same address {address}")
    );
}

#[tokio::test]
async fn draining_lets_connections_finish_and_then_cuts_them_off() {
    let proxy = Proxy::start(Settings::default()).await;
    proxy
        .apply(bundle([relaying(&proxy, "l")], [fixed("a", &[echo().await])]))
        .await;
    let address = proxy.address("l");
    let (mut finishing, mut lingering) = (proxy.connect("l").await, proxy.connect("l").await);
    for client in [&mut finishing, &mut lingering] {
        client.write_all(b"hi").await.unwrap();
        reached(client).await;
    }
    let draining = tokio::spawn(proxy.handle.drain(Duration::from_millis(300)));
    refused(address).await;
    finishing.shutdown().await.unwrap();
    assert_eq!(read_all(&mut finishing).await, Some(b"hi>".to_vec()));
    soon(draining).await.unwrap();
    assert_ne!(soon(lingering.read(&mut [0; 8])).await.unwrap_or(0), 8);
}

#[tokio::test]
async fn a_data_plane_that_is_dropped_is_gone() {
    let proxy = Proxy::start(Settings::default()).await;
    proxy
        .apply(bundle([relaying(&proxy, "l")], [fixed("a", &[echo().await])]))
        .await;
    let (address, mut client) = (proxy.address("l"), proxy.connect("l").await);
    drop(proxy);
    read_all(&mut client).await;
    refused(address).await;
}

/// The kernel's network, in which every accepted connection was redirected from one destination.
struct Redirecting(SocketAddr);

impl Network for Redirecting {
    fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        Kernel.listen(at)
    }

    fn accepted(&self, stream: &TcpStream) -> io::Result<Accepted> {
        Ok(Accepted {
            original_destination: Some(self.0),
            ..Kernel.accepted(stream)?
        })
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Dialled>> {
        Kernel.dial(to)
    }
}

/// `virtualOutbound` and whatever else; a connection redirected from `destination` arrives.
async fn redirected(destination: SocketAddr, others: &[(&str, &str)]) -> String {
    let proxy = Proxy::start(Settings {
        network: Arc::new(Redirecting(destination)),
        ..Settings::default()
    })
    .await;
    let upstream = echo().await;
    let catch_all = Listener {
        use_original_dst: true,
        inspectors: Inspectors {
            original_dst: true,
            ..Inspectors::default()
        },
        filter_chains: vec![
            chain(&proxy, &[], "catchall"),
            FilterChain {
                matches: FilterChainMatch {
                    destination_port: Some(15001),
                    ..FilterChainMatch::default()
                },
                ..chain(&proxy, &[], "loop")
            },
        ],
        ..relaying(&proxy, "virtualOutbound")
    };
    let other = |(address, cluster): &(&str, &str)| Listener {
        address: address.parse().unwrap(),
        bind_to_port: false,
        filter_chains: vec![chain(&proxy, &[], cluster)],
        ..relaying(&proxy, address)
    };
    let listeners = others.iter().map(other).chain([catch_all]).collect::<Vec<_>>();
    let clusters = ["catchall", "loop", "exact", "port"].map(|name| fixed(name, &[upstream]));
    proxy.apply(bundle(listeners, clusters)).await;
    assert_eq!(
        ask(proxy.connect("virtualOutbound").await).await,
        Some(b"<hi>".to_vec())
    );
    let line = proxy.line().await;
    assert_eq!(line.local, destination.to_string());
    line.cluster
}

#[tokio::test]
async fn a_redirected_connection_goes_to_the_listener_of_its_destination() {
    let to = |text: &str| text.parse().unwrap();
    let others = [("192.0.2.1:443", "exact"), ("0.0.0.0:443", "port")];
    assert_eq!(redirected(to("192.0.2.1:443"), &others).await, "exact");
    assert_eq!(redirected(to("192.0.2.2:443"), &others).await, "port");
    assert_eq!(redirected(to("192.0.2.2:80"), &others).await, "catchall");
    assert_eq!(redirected(to("192.0.2.2:15001"), &others).await, "loop");
}

#[tokio::test]
async fn an_original_destination_is_dialled_only_where_the_listener_honours_it() {
    let (wanted, proxy) = {
        let wanted = echo().await;
        let network = Arc::new(Redirecting(wanted));
        (
            wanted,
            Proxy::start(Settings {
                network,
                ..Settings::default()
            })
            .await,
        )
    };
    let mut original = cluster("a", Discovery::OriginalDst);
    original.lb_policy = LbPolicy::ClusterProvided;
    let honouring = Listener {
        inspectors: Inspectors {
            original_dst: true,
            ..Inspectors::default()
        },
        ..relaying(&proxy, "honouring")
    };
    proxy
        .apply(bundle([honouring, relaying(&proxy, "deaf")], [original]))
        .await;
    assert_eq!(ask(proxy.connect("honouring").await).await, Some(b"<hi>".to_vec()));
    assert_eq!(proxy.line().await.host, wanted.to_string());
    ask(proxy.connect("deaf").await).await;
    let line = proxy.lines(2).await.remove(1);
    assert_eq!((line.flags.as_str(), line.host.as_str()), ("UH", "-"));
}
