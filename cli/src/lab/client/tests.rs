use std::net::Ipv4Addr;

use super::*;
use crate::lab::{
    dns::{Answer, NameServer},
    network::{
        VirtualNetwork,
        firewall::{Firewall, Rule, Verdict},
    },
    outside::{Outside, Site, pages},
    pki::PublicCa,
};

const SITE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 17);
const FENCED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 18);

struct World {
    network: VirtualNetwork,
    outside: Outside,
    names: NameServer,
    ca: PublicCa,
}

impl World {
    async fn start() -> Self {
        let everywhere = || vec!["0.0.0.0/0".parse().unwrap()];
        let rules = vec![
            Rule::new("fenced", Verdict::Deny, vec![IpAddr::V4(FENCED).into()], everywhere()),
            Rule::new("open", Verdict::Allow, everywhere(), everywhere()),
        ];
        let network = VirtualNetwork::new(Firewall::new(rules), []);
        let (ca, names) = (
            PublicCa::new("Outside Root").unwrap(),
            NameServer::start().await.unwrap(),
        );
        names.zone().set("httpbin.org", Answer::Addresses(vec![SITE]));
        let site = Site {
            host: "httpbin.org",
            address: SITE.into(),
            identity: ca.certify("httpbin.org").unwrap(),
            page: Arc::new(pages::httpbin_org),
        };
        let outside = Outside::start(|host| network.on(host), [site]).unwrap();
        Self {
            network,
            outside,
            names,
            ca,
        }
    }

    fn app(&self, host: Ipv4Addr, trust: &PublicCa) -> App {
        App::new(
            self.network.process(host.into()),
            self.names.address(),
            trust.trusting().unwrap(),
        )
    }

    async fn send(&self, call: Call) -> Result<Reply, Failure> {
        self.app(POD, &self.ca).send(&call).await
    }
}

#[tokio::test]
async fn plain_http_and_https_reach_a_site() {
    let world = World::start().await;
    for call in [
        Call::get("http://httpbin.org/status/418"),
        Call::get("https://httpbin.org/status/418"),
    ] {
        let reply = world.send(call).await.unwrap();
        assert_eq!(reply.status, StatusCode::IM_A_TEAPOT);
        assert!(reply.text().contains("I am a teapot"));
    }
    assert_eq!(world.outside.requests("httpbin.org"), 2);
}

#[tokio::test]
async fn the_site_sees_what_was_sent_and_from_where() {
    let world = World::start().await;
    let call = Call::new(hyper::Method::POST, Uri::from_static("http://httpbin.org/post?a=b"))
        .header("x-team", "x")
        .body("hello");
    let seen: serde_json::Value = serde_json::from_slice(&world.send(call).await.unwrap().body).unwrap();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["path"], "/post");
    assert_eq!(seen["query"], "a=b");
    assert_eq!(seen["data"], "hello");
    assert_eq!(seen["origin"], "10.1.0.17");
    assert_eq!(seen["headers"]["host"][0], "httpbin.org");
    assert_eq!(seen["headers"]["x-team"][0], "x");
}

#[tokio::test]
async fn a_head_request_has_no_body() {
    let reply = World::start()
        .await
        .send(Call::head("http://httpbin.org/"))
        .await
        .unwrap();
    assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn a_failure_says_how_far_the_call_came() {
    let world = World::start().await;
    let stranger = PublicCa::new("Stranger").unwrap();
    let check = async |app: App, url: &'static str, expect: &str| {
        let failure = app.send(&Call::get(url)).await.unwrap_err();
        assert!(failure.to_string().starts_with(expect), "{failure}");
    };
    check(
        world.app(POD, &world.ca),
        "http://nowhere.test",
        "could not resolve nowhere.test",
    )
    .await;
    check(
        world.app(POD, &world.ca),
        "http://httpbin.org:81",
        "could not connect: connection refused",
    )
    .await;
    check(
        world.app(FENCED, &world.ca),
        "http://httpbin.org",
        "could not connect: no route to host",
    )
    .await;
    check(
        world.app(POD, &stranger),
        "https://httpbin.org",
        "TLS handshake failed: invalid peer certificate",
    )
    .await;
    check(
        world.app(POD, &world.ca),
        "https://203.0.113.7",
        "TLS handshake failed: invalid peer certificate",
    )
    .await;
    check(world.app(POD, &world.ca), "/no-host", "bad URL").await;
}

#[tokio::test]
async fn an_impostor_is_not_believed_and_the_site_again_afterwards() {
    let world = World::start().await;
    let stranger = PublicCa::new("Stranger").unwrap().certify("httpbin.org").unwrap();
    world.outside.show("httpbin.org", stranger);
    let failure = world.send(Call::get("https://httpbin.org")).await.unwrap_err();
    assert!(failure.to_string().contains("UnknownIssuer"), "{failure}");
    world
        .outside
        .show("httpbin.org", world.ca.certify("httpbin.org").unwrap());
    assert_eq!(
        world.send(Call::get("https://httpbin.org")).await.unwrap().status,
        StatusCode::OK
    );
    assert_eq!(world.outside.requests("httpbin.org"), 1);
}

#[tokio::test]
async fn the_firewall_is_named_when_it_stops_a_call() {
    let world = World::start().await;
    let failure = world
        .app(FENCED, &world.ca)
        .send(&Call::get("http://httpbin.org"))
        .await
        .unwrap_err();
    assert_eq!(failure.blocked().unwrap().rule, Some("fenced"));
}

#[test]
fn a_call_reads_as_a_curl_command() {
    let proxy = "127.0.0.1:15080".parse().unwrap();
    for (call, expect) in [
        (Call::get("http://example.com"), "curl -s http://example.com"),
        (Call::head("https://example.com/"), "curl -s -I https://example.com"),
        (
            Call::get("http://a.test/b/").header("x-a", "1"),
            "curl -s -H 'x-a: 1' http://a.test/b/",
        ),
        (
            Call::get("http://a.test").through(proxy),
            "curl -s -x http://127.0.0.1:15080 http://a.test",
        ),
        (
            Call::get("http://a.test").connect_to(proxy),
            "curl -s --connect-to ::127.0.0.1:15080 http://a.test",
        ),
    ] {
        assert_eq!(call.to_string(), expect);
    }
}
