//! What goes up and what comes down.

use mesh::route::HeaderChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    proxy::{PATIENCE, Plan, body, get, only_path},
    upstream::Upstream,
};

#[tokio::test]
async fn a_request_goes_up_as_envoy_sends_it() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let answer = proxy
        .exchange(
            "GET /a/../b?q HTTP/1.1\r\nHost: Example.com:80\r\nX-Forwarded-For: 9.9.9.9\r\nX-Request-ID: mine\r\n\
             X-Envoy-Retry-On: 5xx\r\nX-A: 1\r\nX-B: 2\r\nConnection: close, x-a\r\nx-forwarded-client-cert: By=me\r\n\r\n",
        )
        .await;
    let seen = body(&answer);
    let header = |name: &str| seen.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    assert!(seen.starts_with("GET /b?q HTTP/1.1\n"), "{seen}");
    assert_eq!(header("host"), Some("Example.com:80"));
    assert_eq!(header("x-forwarded-for"), Some("9.9.9.9,127.0.0.1"));
    assert_eq!(header("x-envoy-external-address"), Some("127.0.0.1"));
    assert_eq!(header("x-forwarded-proto"), Some("http"));
    assert_eq!(header("x-envoy-attempt-count"), Some("1"));
    assert_eq!(header("x-request-id").map(str::len), Some(36));
    assert_eq!(header("x-b"), Some("2"));
    for absent in ["x-a", "x-envoy-retry-on", "x-forwarded-client-cert", "connection"] {
        assert_eq!(header(absent), None, "{absent}");
    }
    let head = answer.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(head.contains("\r\nserver: istio-envoy\r\n") && head.contains("\r\nx-envoy-upstream-service-time: "));
    let length = seen.len();
    assert_eq!(
        proxy.line().await,
        format!("GET /b?q HTTP/1.1 200 - via_upstream 0 {length} c 1")
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn_over_one_upstream_connection() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let request = "POST /1 HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = proxy.exchange(&format!("{request}{}", get("/2"))).await;
    let (one, two) = (answer.find("POST /1").unwrap(), answer.find("GET /2").unwrap());
    assert!(one < two && answer.contains("\n\nabc"), "{answer}");
    let lines = proxy.lines(2).await;
    assert!(
        lines[0].starts_with("POST /1 HTTP/1.1 200 - via_upstream 3 "),
        "{lines:?}"
    );
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_head_request_has_no_body() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let answer = proxy.exchange(&get("/").replace("GET", "HEAD")).await;
    assert_eq!(body(&answer), "");
    assert!(
        proxy
            .line()
            .await
            .starts_with("HEAD / HTTP/1.1 200 - via_upstream 0 0 c 1")
    );
}

#[tokio::test]
async fn a_route_may_refuse_what_its_listener_lets_through() {
    let plan = Plan::to(&[]).with_forward(|to| to.refused_upgrades = vec!["websocket".to_owned()]);
    let proxy = plan.start().await;
    let wish = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    let answer = proxy.exchange(wish).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(proxy.line().await, "GET /ws HTTP/1.1 403 - upgrade_failed 0 0 c 0");
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let upstream = Upstream::websocket().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let mut client = proxy.connect().await;
    let wish = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(wish.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\nhello ") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket"),
        "{head}"
    );
    client.write_all(b"GET smuggled\r\n\r\n\x00").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"GET smuggled\r\n\r\n\x00");
    assert_eq!(
        proxy.line().await,
        "GET /ws HTTP/1.1 101 DC downstream_remote_disconnect 17 23 c 1"
    );
}

#[tokio::test]
async fn a_denial_comes_before_a_missing_route_and_says_where_it_would_have_gone() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address])
        .with_http(|http| http.rbac = vec![only_path("/allowed")])
        .start()
        .await;
    assert!(proxy.exchange(&get("/x/../allowed")).await.starts_with("HTTP/1.1 200 "));
    for request in [get("/other"), get("/other").replace("example.com", "unknown.test")] {
        let answer = proxy.exchange(&request).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && body(&answer) == "RBAC: access denied",
            "{answer}"
        );
    }
    let lines = proxy.lines(3).await;
    let denied = "GET /other HTTP/1.1 403 - rbac_access_denied_matched_policy[none] 0 19";
    assert_eq!(lines[1..], [format!("{denied} c 0"), format!("{denied} - 0")]);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_ends_when_a_newer_policy_refuses_it() {
    let upstream = Upstream::websocket().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let mut client = proxy.connect().await;
    let wish = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(wish.as_bytes()).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'H');
    let allowing = Plan::to(&[upstream.address]).with_http(|http| http.rbac = vec![only_path("/ws")]);
    proxy.apply(allowing).await;
    client.write_all(b"ping").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ping") {
        seen.push(client.read_u8().await.unwrap());
    }
    let refusing = Plan::to(&[upstream.address]).with_http(|http| http.rbac = vec![only_path("/other")]);
    proxy.apply(refusing).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    ended.expect("the tunnel ends").unwrap();
    assert_eq!(
        proxy.line().await,
        "GET /ws HTTP/1.1 101 - rbac_access_denied_matched_policy[none] 4 10 c 1"
    );
}

#[tokio::test]
async fn a_route_cannot_announce_a_body_that_does_not_come() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::to(&[upstream.address]);
    plan.routes[0].request_headers.add = vec![HeaderChange {
        name: "content-length".into(),
        value: "30".into(),
        append: false,
    }];
    let proxy = plan.start().await;
    let first = get("/1").replace("Connection: close\r\n", "");
    let answer = proxy.exchange(&format!("{first}{}", get("/2"))).await;
    let (one, two) = (answer.find("GET /1 HTTP/1.1"), answer.find("GET /2 HTTP/1.1"));
    assert!(one.is_some() && one < two, "{answer}");
    assert!(!answer.contains("content-length: 30\n"), "{answer}");
}
