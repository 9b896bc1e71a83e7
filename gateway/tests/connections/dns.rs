//! Clusters whose hosts are found by name, with a real name server.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use gateway::Settings;
use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Header, HeaderCounts, Metadata, ResponseCode},
        rr::{LowerName, Name, RData, Record, RecordType},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use mesh::{
    cluster::{Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, EndpointAddress, Endpoints},
    host::Host,
    listener::{Inspectors, Listener},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, UdpSocket},
};

use crate::support::{Line, Proxy, bundle, chain, cluster, echo, listener, read_all};

/// What names stand for; what is missing does not exist. Answers live for a second.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<HashMap<String, Answer>>>);

#[derive(Clone)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Failure,
}

impl Zone {
    fn set(&self, name: &str, answer: Answer) {
        self.0.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn answer(&self, name: &LowerName, kind: RecordType) -> (ResponseCode, Vec<Record>) {
        match self.0.lock().unwrap().get(name.to_string().trim_end_matches('.')) {
            None => (ResponseCode::NXDomain, Vec::new()),
            Some(Answer::Failure) => (ResponseCode::ServFail, Vec::new()),
            Some(Answer::Addresses(addresses)) => {
                let data = addresses.iter().map(|address| match address {
                    IpAddr::V4(four) => RData::A((*four).into()),
                    IpAddr::V6(six) => RData::AAAA((*six).into()),
                });
                let data = data.filter(|data| data.record_type() == kind);
                let records = data.map(|data| Record::from_rdata(Name::from(name), 1, data));
                (ResponseCode::NoError, records.collect())
            }
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let asked = request.request_info().unwrap();
        let (code, records) = self.answer(asked.query.name(), asked.query.query_type());
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = reply.send_response(builder.build(metadata, &records, [], [], [])).await;
        sent.unwrap_or_else(|_| {
            let counts = HeaderCounts::default();
            ResponseInfo::from(Header { metadata, counts })
        })
    }
}

/// A name server on loopback; ends when dropped.
async fn name_server(zone: &Zone) -> (SocketAddr, Server<Zone>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let mut server = Server::new(zone.clone());
    server.register_socket(udp);
    (address, server)
}

fn by_name(name: &str, port: u16, family: DnsFamily) -> Cluster {
    let endpoint = Endpoint {
        address: EndpointAddress::Name(Host::parse(name).unwrap(), port),
        weight: None,
        healthy: true,
    };
    let settings = DnsSettings {
        family,
        refresh: Some(Duration::from_secs(1)),
        respect_ttl: true,
    };
    cluster("a", Discovery::StrictDns(Endpoints(vec![endpoint]), settings))
}

struct Rig {
    proxy: Proxy,
    zone: Zone,
    port: u16,
    asked: usize,
    _server: Server<Zone>,
}

impl Rig {
    /// A proxy that relays to `site.test`, which is on 127.0.0.1 and an echo.
    async fn start(family: DnsFamily) -> Self {
        let (zone, port) = (Zone::default(), echo().await.port());
        zone.set("site.test", Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
        let (address, server) = name_server(&zone).await;
        let proxy = Proxy::start(Settings {
            name_servers: vec![address],
            ..Settings::default()
        })
        .await;
        let listener = Listener {
            inspectors: Inspectors::default(),
            ..listener(&proxy, "l", vec![chain(&proxy, &[], "a")])
        };
        proxy
            .apply(bundle([listener], [by_name("site.test", port, family)]))
            .await;
        Self {
            proxy,
            zone,
            port,
            asked: 0,
            _server: server,
        }
    }

    /// The record of one connection.
    async fn ask(&mut self) -> Line {
        let mut client = self.proxy.connect("l").await;
        // A connection that has no host is closed before it can be written to.
        let _ = client.write_all(b"hi").await;
        let _ = client.shutdown().await;
        read_all(&mut client).await;
        self.asked += 1;
        self.proxy.lines(self.asked).await.remove(self.asked - 1)
    }

    /// Asks until the host is as expected.
    async fn until(&mut self, host: &str) {
        for _ in 0..2000 {
            if self.ask().await.host == host {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the host never became {host}");
    }
}

#[tokio::test]
async fn the_first_connection_finds_the_name_resolved() {
    let mut rig = Rig::start(DnsFamily::V4Only).await;
    let line = rig.ask().await;
    assert_eq!((line.host, line.bytes.1), (format!("127.0.0.1:{}", rig.port), 4));
}

#[tokio::test]
async fn a_changed_answer_is_followed_and_a_vanished_name_has_no_host() {
    let mut rig = Rig::start(DnsFamily::V4Preferred).await;
    let moved = format!("127.0.0.2:{}", rig.port);
    rig.zone
        .set("site.test", Answer::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2).into()]));
    rig.until(&moved).await;
    rig.zone.set("site.test", Answer::Failure);
    let held = tokio::time::Instant::now();
    while held.elapsed() < Duration::from_millis(1500) {
        assert_eq!(rig.ask().await.host, moved);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.zone.0.lock().unwrap().clear();
    rig.until("-").await;
    assert_eq!(rig.ask().await.flags, "UH");
}

#[tokio::test]
async fn a_name_that_does_not_exist_holds_nothing_up() {
    let mut rig = Rig::start(DnsFamily::All).await;
    let missing = by_name("missing.test", rig.port, DnsFamily::All);
    let listener = Listener {
        inspectors: Inspectors::default(),
        ..listener(&rig.proxy, "l", vec![chain(&rig.proxy, &[], "a")])
    };
    rig.proxy.apply(bundle([listener], [missing])).await;
    let line = rig.ask().await;
    assert_eq!(
        (line.flags.as_str(), line.host.as_str(), line.cluster.as_str()),
        ("UH", "-", "a")
    );
}

#[tokio::test]
async fn a_family_that_is_missing_is_replaced_only_where_that_is_asked_for() {
    let mut auto = Rig::start(DnsFamily::Auto).await;
    assert_eq!(auto.ask().await.host, format!("127.0.0.1:{}", auto.port));
    let mut six = Rig::start(DnsFamily::V6Only).await;
    assert_eq!(six.ask().await.flags, "UH");
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_no_reason_to_wait_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(Settings {
        name_servers: vec![silent.local_addr().unwrap()],
        ..Settings::default()
    })
    .await;
    let start = tokio::time::Instant::now();
    let listening = listener(&proxy, "l", vec![chain(&proxy, &[], "a")]);
    proxy
        .apply(bundle([listening], [by_name("site.test", 80, DnsFamily::V4Only)]))
        .await;
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(proxy.handle.bound().len(), 1);
}
