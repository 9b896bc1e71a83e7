use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    firewall::{Blocked, Rule, Verdict},
    *,
};

const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 17));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 4, 12));
const SITE: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34));

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn network() -> VirtualNetwork {
    let everywhere = || vec!["0.0.0.0/0".parse().unwrap()];
    let firewall = Firewall::new(vec![
        Rule::new(
            "pods",
            Verdict::Allow,
            everywhere(),
            vec!["10.1.0.0/16".parse().unwrap()],
        ),
        Rule::new("web", Verdict::Allow, vec![GATEWAY.into()], everywhere()).on_ports([80, 443]),
        Rule::new("deny-all", Verdict::Deny, everywhere(), everywhere()),
    ]);
    VirtualNetwork::new(firewall, [(at("10.2.0.12:80"), at("10.1.4.12:8080"))])
}

/// Dials and accepts; returns what both sides are told, after proving that bytes flow between the two.
async fn connect(from: &Process, to: &str, on: &Process, listener: &TcpListener) -> (SocketAddr, Accepted) {
    let (dialled, accepted) = tokio::join!(from.dial(at(to)), listener.accept());
    let (mut dialled, (mut stream, _)) = (dialled.unwrap(), accepted.unwrap());
    let seen = on.accepted(&stream).unwrap();
    dialled.stream.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    (dialled.local, seen)
}

#[tokio::test]
async fn both_sides_see_virtual_addresses() {
    let network = network();
    let (pod, gateway) = (network.process(POD), network.process(GATEWAY));
    let listener = gateway.listen(at("0.0.0.0:8080")).unwrap();
    let (local, seen) = connect(&pod, "10.1.4.12:8080", &gateway, &listener).await;
    assert_eq!(local.ip(), POD);
    assert_eq!(seen.local, at("10.1.4.12:8080"));
    assert_eq!(seen.remote, local);
    assert_eq!(seen.original_destination, None);
}

#[tokio::test]
async fn an_application_is_redirected_and_its_destination_kept() {
    let network = network();
    let (app, sidecar) = (network.app(POD), network.process(POD));
    let listener = sidecar.listen(at("0.0.0.0:15001")).unwrap();
    let (local, seen) = connect(&app, "93.184.216.34:80", &sidecar, &listener).await;
    assert_eq!(seen.original_destination, Some(at("93.184.216.34:80")));
    assert_eq!(seen.local, at("127.0.0.1:15001"));
    assert_eq!((seen.remote, local.ip()), (local, POD));
}

#[tokio::test]
async fn a_captured_application_gets_nowhere_without_its_sidecar() {
    let error = network().app(POD).dial(at("10.1.4.12:8080")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn loopback_is_private_to_a_host_and_never_redirected() {
    let network = network();
    let sidecar = network.process(POD);
    let listener = sidecar.listen(at("127.0.0.1:15080")).unwrap();
    let (_, seen) = connect(&network.app(POD), "127.0.0.1:15080", &sidecar, &listener).await;
    assert!(seen.remote.ip().is_loopback());
    let error = network.process(GATEWAY).dial(at("127.0.0.1:15080")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn service_addresses_lead_to_their_endpoint() {
    let network = network();
    let gateway = network.process(GATEWAY);
    let listener = gateway.listen(at("10.1.4.12:8080")).unwrap();
    let (_, seen) = connect(&network.process(POD), "10.2.0.12:80", &gateway, &listener).await;
    assert_eq!(seen.local, at("10.1.4.12:8080"));
}

#[tokio::test]
async fn the_firewall_lets_only_the_gateway_out() {
    let network = network();
    let site = network.process(SITE);
    let listener = site.listen(at("0.0.0.0:80")).unwrap();
    let (local, _) = connect(&network.process(GATEWAY), "93.184.216.34:80", &site, &listener).await;
    assert_eq!(local.ip(), GATEWAY);

    let error = network.process(POD).dial(at("93.184.216.34:80")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    assert_eq!(Blocked::find(&error).unwrap().rule, Some("deny-all"));
    let error = network.process(GATEWAY).dial(at("93.184.216.34:22")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no route to host 93.184.216.34:22: stopped by the firewall (deny-all)"
    );
    assert_eq!(
        (network.firewall().hits("web"), network.firewall().hits("deny-all")),
        (1, 2)
    );
}

#[tokio::test]
async fn what_nobody_listens_on_is_refused() {
    let network = network();
    let error = network.process(POD).dial(at("10.1.4.12:8080")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    drop(network.process(GATEWAY).listen(at("0.0.0.0:8080")).unwrap());
    let error = network.process(POD).dial(at("10.1.4.12:8080")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(network.tables().arriving.is_empty());
}

#[tokio::test]
async fn workers_share_an_address() {
    let network = network();
    let gateway = network.process(GATEWAY);
    let first = gateway.listen(at("0.0.0.0:8080")).unwrap();
    let second = gateway.listen(at("0.0.0.0:8080")).unwrap();
    assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    drop(first);
    connect(&network.process(POD), "10.1.4.12:8080", &gateway, &second).await;
}

#[tokio::test]
async fn a_host_listens_on_its_own_addresses_only() {
    let error = network().process(POD).listen(at("10.1.4.12:8080")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn a_connection_from_outside_the_network_is_refused() {
    let network = network();
    let gateway = network.process(GATEWAY);
    let listener = gateway.listen(at("0.0.0.0:8080")).unwrap();
    let stranger = TcpStream::connect(listener.local_addr().unwrap());
    let (stranger, accepted) = tokio::join!(stranger, listener.accept());
    let (_stranger, (stream, _)) = (stranger.unwrap(), accepted.unwrap());
    assert_eq!(
        gateway.accepted(&stream).unwrap_err().kind(),
        io::ErrorKind::PermissionDenied
    );
}
