//! How connections are kept, joined and ended.

use std::time::Duration;

use mesh::{
    listener::{Codec, HttpTimeouts},
    route::{PathMatch, RouteAction},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    proxy::{PATIENCE, Plan, get},
    upstream::Upstream,
};

const KEEP: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[tokio::test]
async fn connect_ends_here_where_a_route_says_so() {
    let upstream = Upstream::repeater().await;
    let mut plan = Plan::to(&[upstream.address]).with_forward(|to| to.terminate_connect = true);
    plan.routes[0].matches.path = PathMatch::Connect;
    let proxy = plan
        .with_http(|http| http.upgrades.push("connect".to_owned()))
        .start()
        .await;
    let mut client = proxy.connect().await;
    client
        .write_all(b"CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && !head.contains("content-length"),
        "{head}"
    );
    client.write_all(b"\x16\x03\x01 not http\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x16\x03\x01 not http\r\n\r\n");
    let line = proxy.line().await;
    assert_eq!(line, "CONNECT - HTTP/1.1 200 DC downstream_remote_disconnect 16 16 c 1");
}

#[tokio::test]
async fn connections_of_clients_share_those_to_the_upstream() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    for _ in 0..5 {
        assert!(proxy.exchange(&get("/")).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_not_used() {
    let script: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"];
    let upstream = Upstream::scripted(script).await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    for _ in 0..5 {
        assert!(proxy.exchange(&get("/")).await.ends_with("ok"));
    }
    assert_eq!(upstream.connections(), 5);
}

#[tokio::test]
async fn a_full_cluster_makes_requests_wait_for_a_connection() {
    let upstream = Upstream::echo().await;
    let breakers = mesh::cluster::CircuitBreakers {
        max_connections: Some(1),
        ..Default::default()
    };
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.circuit_breakers = Some(breakers));
    let proxy = plan.start().await;
    let request = get("/");
    let answers = futures_util::future::join_all((0..10).map(|_| proxy.exchange(&request))).await;
    assert!(
        answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")),
        "{answers:?}"
    );
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn draining_closes_connections_after_their_request() {
    let upstream = Upstream::held().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let (mut idle, mut busy) = (proxy.connect().await, proxy.connect().await);
    idle.write_all(KEEP.as_bytes()).await.unwrap();
    upstream.let_go(1);
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    busy.write_all(KEEP.as_bytes()).await.unwrap();
    upstream.wait_for_requests(2).await;
    let drained = tokio::spawn(proxy.drain());
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest))
        .await
        .expect("an idle connection is closed")
        .unwrap();
    upstream.let_go(1);
    let mut answer = String::new();
    timeout(PATIENCE, busy.read_to_string(&mut answer))
        .await
        .expect("a busy one after its request")
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\nhost: example.com\n"),
        "{answer}"
    );
    timeout(PATIENCE, drained).await.expect("the proxy ends").unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle = HttpTimeouts {
        idle: Some(Duration::from_millis(50)),
        ..HttpTimeouts::default()
    };
    let plan = Plan::to(&[Upstream::echo().await.address]);
    let proxy = plan.with_http(|http| http.timeouts = idle).start().await;
    let answer = proxy.exchange(KEEP).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let nothing = proxy.exchange("").await;
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time() {
    let times = HttpTimeouts {
        request_headers: Some(Duration::from_millis(50)),
        ..HttpTimeouts::default()
    };
    let proxy = Plan::to(&[]).with_http(|http| http.timeouts = times).start().await;
    let answer = proxy.exchange("GET / HTTP/1.1\r\nHo").await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("request header timeout"),
        "{answer}"
    );
    assert!(
        proxy
            .line()
            .await
            .starts_with("- - HTTP/1.1 408 - request_header_timeout 0 22 - 0")
    );
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let times = HttpTimeouts {
        stream_idle: Some(Duration::from_millis(50)),
        ..HttpTimeouts::default()
    };
    let plan = Plan::to(&[Upstream::silent().await.address]);
    let proxy = plan.with_http(|http| http.timeouts = times).start().await;
    let answer = proxy.exchange(&get("/")).await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("stream timeout"),
        "{answer}"
    );
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nabc";
    let answer = proxy.exchange(post).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("stream timeout"),
        "{answer}"
    );
    let lines = proxy.lines(2).await;
    assert!(lines[0].contains(" 504 SI stream_idle_timeout ") && lines[1].contains(" 408 SI stream_idle_timeout 3 "));
}

#[tokio::test]
async fn a_listener_for_http1_does_not_speak_http2() {
    let plan = Plan::to(&[]).with_http(|http| http.codec = Codec::Http1);
    let proxy = plan.start().await;
    let answer = proxy.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn redirects_and_direct_responses_need_no_upstream() {
    let mut plan = Plan::to(&[]);
    let redirect = mesh::route::Redirect {
        scheme: Some("https".into()),
        ..Default::default()
    };
    plan.routes[0].action = RouteAction::Redirect(redirect);
    let proxy = plan.start().await;
    let answer = proxy
        .exchange(&get("/a?b").replace("example.com", "example.com:80"))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 301 ") && answer.contains("location: https://example.com/a?b\r\n"),
        "{answer}"
    );
    assert_eq!(proxy.line().await, "GET /a?b HTTP/1.1 301 - direct_response 0 0 - 0");
    let mut plan = Plan::to(&[]);
    plan.routes[0].action = RouteAction::Direct(mesh::route::DirectResponse {
        status: 502,
        body: String::new(),
    });
    let proxy = plan.start().await;
    assert!(proxy.exchange(&get("/")).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(proxy.line().await, "GET / HTTP/1.1 502 - direct_response 0 0 - 0");
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let plan = Plan::to(&[Upstream::echo().await.address]).with_forward(|to| {
        to.prefix_rewrite = Some("/new/".to_owned());
        to.host_rewrite = Some("other.test".to_owned());
        to.timeout = Some(Duration::from_secs(7));
    });
    let proxy = plan.start().await;
    let answer = proxy.exchange(&get("/a?b")).await;
    assert!(
        answer.contains("GET /new/a?b HTTP/1.1\n") && answer.contains("\nhost: other.test\n"),
        "{answer}"
    );
    assert!(answer.contains("x-envoy-original-path: /a?b") && answer.contains("x-envoy-original-host: example.com"));
    assert!(answer.contains("x-envoy-expected-rq-timeout-ms: 7000"), "{answer}");
}
