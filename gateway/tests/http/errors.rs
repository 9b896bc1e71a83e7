//! What goes wrong, in Envoy's words.

use std::time::Duration;

use mesh::route::{RetryOn, RetryPolicy};
use tokio::io::AsyncWriteExt;

use crate::{
    proxy::{PATIENCE, Plan, body, get},
    upstream::Upstream,
};

const RESET: &str = "upstream connect error or disconnect/reset before headers. ";

fn retry(retry_on: Vec<RetryOn>) -> RetryPolicy {
    RetryPolicy {
        retry_on,
        num_retries: 2,
        per_try_timeout: None,
        status_codes: Vec::new(),
        avoid_previous_hosts: true,
        host_selection_attempts: None,
    }
}

#[track_caller]
fn check(answer: &str, status: u16, expected: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert_eq!(body(answer), expected, "{answer}");
}

#[tokio::test]
async fn nobody_listens() {
    let proxy = Plan::to(&[Upstream::nobody().await]).start().await;
    check(
        &proxy.exchange(&get("/")).await,
        503,
        &format!("{RESET}reset reason: remote connection failure"),
    );
    assert_eq!(
        proxy.line().await,
        "GET / HTTP/1.1 503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:\
         _Connection_refused} 0 98 c 1"
    );
}

#[tokio::test]
async fn retries_are_counted_and_said() {
    let policy = retry(vec![RetryOn::ConnectFailure]);
    let plan = Plan::to(&[Upstream::nobody().await]).with_forward(|to| to.retry = Some(policy));
    let proxy = plan.start().await;
    let reason = "retried and the latest reset reason: remote connection failure";
    check(&proxy.exchange(&get("/")).await, 503, &format!("{RESET}{reason}"));
    assert!(proxy.line().await.contains(" 503 URX,UF ") && proxy.line().await.ends_with(" c 3"));
}

#[tokio::test]
async fn a_retry_takes_another_host() {
    let (dead, echo) = (Upstream::nobody().await, Upstream::echo().await);
    let policy = retry(vec![RetryOn::ConnectFailure]);
    let plan = Plan::to(&[dead, echo.address]).with_forward(|to| to.retry = Some(policy));
    let proxy = plan.start().await;
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answers = [proxy.exchange(post).await, proxy.exchange(post).await];
    assert!(answers.iter().all(|answer| answer.ends_with("\n\nbody")), "{answers:?}");
}

#[tokio::test]
async fn a_body_is_sent_again_after_a_reset() {
    let (closes, echo) = (Upstream::scripted(&[b""]).await, Upstream::echo().await);
    let policy = retry(vec![RetryOn::Reset]);
    let plan = Plan::to(&[closes.address, echo.address]).with_forward(|to| to.retry = Some(policy));
    let proxy = plan.start().await;
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answers = [proxy.exchange(post).await, proxy.exchange(post).await];
    assert!(answers.iter().all(|answer| answer.ends_with("\n\nbody")), "{answers:?}");
    assert!(
        answers.iter().any(|answer| answer.contains("x-envoy-attempt-count: 2")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn the_upstream_closes_without_an_answer() {
    let proxy = Plan::to(&[Upstream::scripted(&[b""]).await.address]).start().await;
    check(
        &proxy.exchange(&get("/")).await,
        503,
        &format!("{RESET}reset reason: connection termination"),
    );
    assert!(
        proxy
            .line()
            .await
            .contains(" 503 UC upstream_reset_before_response_started{connection_termination} ")
    );
}

#[tokio::test]
async fn the_upstream_does_not_speak_http() {
    let proxy = Plan::to(&[Upstream::scripted(&[b"SSH-2.0-x\r\n"]).await.address])
        .start()
        .await;
    check(
        &proxy.exchange(&get("/")).await,
        502,
        &format!("{RESET}reset reason: protocol error"),
    );
    assert!(
        proxy
            .line()
            .await
            .contains(" 502 UPE upstream_reset_before_response_started{protocol_error} ")
    );
}

#[tokio::test]
async fn the_upstream_cuts_its_body_short() {
    let script: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"];
    let proxy = Plan::to(&[Upstream::scripted(script).await.address]).start().await;
    let answer = proxy.exchange(&get("/")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("half"),
        "{answer}"
    );
    assert_eq!(
        proxy.line().await,
        "GET / HTTP/1.1 200 UPE upstream_reset_after_response_started{protocol_error} 0 4 c 1"
    );
}

#[tokio::test]
async fn no_route_no_host_no_cluster() {
    let proxy = Plan::to(&[]).start().await;
    check(
        &proxy.exchange(&get("/").replace("example.com", "other.test")).await,
        404,
        "",
    );
    check(&proxy.exchange(&get("/")).await, 503, "no healthy upstream");
    let lines = proxy.lines(2).await;
    assert_eq!(lines[0], "GET / HTTP/1.1 404 NR route_not_found 0 0 - 0");
    assert_eq!(lines[1], "GET / HTTP/1.1 503 UH no_healthy_upstream 0 19 c 1");
    let mut plan = Plan::to(&[]);
    plan.clusters.clear();
    let proxy = plan.start().await;
    check(&proxy.exchange(&get("/")).await, 503, "");
    assert_eq!(proxy.line().await, "GET / HTTP/1.1 503 NC cluster_not_found 0 0 - 0");
}

#[tokio::test]
async fn the_routes_timeout() {
    let plan = Plan::to(&[Upstream::silent().await.address]);
    let proxy = plan
        .with_forward(|to| to.timeout = Some(Duration::from_millis(50)))
        .start()
        .await;
    check(&proxy.exchange(&get("/")).await, 504, "upstream request timeout");
    assert_eq!(proxy.line().await, "GET / HTTP/1.1 504 UT response_timeout 0 24 c 1");
}

#[tokio::test]
async fn the_timeout_of_each_attempt() {
    let policy = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(20)),
        ..retry(vec![RetryOn::Reset])
    };
    let plan = Plan::to(&[Upstream::silent().await.address]).with_forward(|to| to.retry = Some(policy));
    let proxy = plan.start().await;
    check(&proxy.exchange(&get("/")).await, 504, "upstream request timeout");
    assert_eq!(
        proxy.line().await,
        "GET / HTTP/1.1 504 URX,UT upstream_per_try_timeout 0 24 c 3"
    );
}

#[tokio::test]
async fn the_client_goes_away() {
    let upstream = Upstream::held().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let mut client = proxy.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    upstream.wait_for_requests(1).await;
    drop(client);
    assert_eq!(
        proxy.line().await,
        "GET / HTTP/1.1 0 DC downstream_remote_disconnect 0 0 c 1"
    );
}

#[tokio::test]
async fn the_client_is_gone_before_its_request_is_looked_at() {
    let proxy = Plan::to(&[Upstream::silent().await.address]).start().await;
    let mut client = proxy.connect().await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    drop(client);
    let line = proxy.line().await;
    assert!(
        line.starts_with("GET / HTTP/1.1 0 DC downstream_remote_disconnect 0 0 "),
        "{line}"
    );
}

#[tokio::test]
async fn a_full_circuit_breaker_says_so() {
    let breakers = mesh::cluster::CircuitBreakers {
        max_requests: Some(1),
        ..Default::default()
    };
    let plan = Plan::to(&[Upstream::silent().await.address]);
    let proxy = plan
        .with_cluster(|cluster| cluster.circuit_breakers = Some(breakers))
        .start()
        .await;
    let mut first = proxy.connect().await;
    first.write_all(get("/first").as_bytes()).await.unwrap();
    // The first request occupies the breaker as soon as it is read; until then the second waits for an answer that does not
    // come, and is given up.
    let answer = loop {
        if let Ok(answer) = tokio::time::timeout(PATIENCE / 20, proxy.exchange(&get("/second"))).await {
            break answer;
        }
    };
    check(&answer, 503, &format!("{RESET}reset reason: overflow"));
    assert!(answer.contains("x-envoy-overloaded: true"), "{answer}");
}

#[tokio::test]
async fn bad_requests_are_refused_in_envoys_words() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let many = "x: y\r\n".repeat(100);
    let large = format!("x: {}\r\n", "y".repeat(61 * 1024));
    let cases: &[(&str, u16, &str, &str)] = &[
        (
            "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n",
            426,
            "Upgrade Required",
            "DPE low_version",
        ),
        ("GET /\r\n\r\n", 426, "Upgrade Required", "DPE low_version"),
        ("GET / HTTP/1.2\r\n\r\n", 426, "Upgrade Required", "DPE low_version"),
        ("G{T / HTTP/1.1\r\n\r\n", 400, "Bad Request", "DPE http1.codec_error"),
        ("\x16\x03\x01\x02", 400, "Bad Request", "DPE http1.codec_error"),
        (
            "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "Bad Request",
            "DPE http1.content_length_and_chunked_not_allowed",
        ),
        (
            "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400,
            "Bad Request",
            "DPE http1.codec_error",
        ),
        (
            "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: +5\r\n\r\n",
            400,
            "Bad Request",
            "DPE http1.codec_error",
        ),
        (
            "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "Not Implemented",
            "DPE http1.invalid_transfer_encoding",
        ),
        (
            "GET / HTTP/1.1\r\nHost : example.com\r\n\r\n",
            400,
            "Bad Request",
            "DPE http1.codec_error",
        ),
        (
            "GET / HTTP/1.1\r\nHost: example.com\r\nx: \x01\r\n\r\n",
            400,
            "Bad Request",
            "DPE http1.invalid_characters",
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: example.com\r\n{large}\r\n"),
            431,
            "Request Header Fields Too Large",
            "DPE http1.headers_too_large",
        ),
        (
            &format!("GET / HTTP/1.1\r\nHost: example.com\r\n{many}\r\n"),
            431,
            "Request Header Fields Too Large",
            "DPE http1.too_many_headers",
        ),
        (
            "GET / HTTP/1.1\r\nHost: exa mple.com\r\n\r\n",
            400,
            "Bad Request",
            "DPE http.invalid_authority",
        ),
        (
            "GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            403,
            "Forbidden",
            "DPE http1.https_url_on_plaintext_connection",
        ),
    ];
    for (at, (request, status, text, words)) in cases.iter().enumerate() {
        let answer = proxy.exchange(request).await;
        check(&answer, *status, text);
        assert!(answer.contains("connection: close"), "{answer}");
        let lines = proxy.lines(at + 1).await;
        let sent = text.len();
        assert_eq!(
            lines[at],
            format!("- - HTTP/1.1 {status} {words} 0 {sent} - 0"),
            "{request}"
        );
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn requests_without_a_meaning_are_refused_with_their_data_in_the_log() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let cases = [
        (
            "GET /a HTTP/1.1\r\n\r\n",
            400,
            "GET /a HTTP/1.1 400 - missing_host_header 0 0 - 0",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: example.com\r\nConnection: host\r\n\r\n",
            400,
            "GET /a HTTP/1.1 400 - missing_host_header 0 0 - 0",
        ),
        (
            "GET /a%00 HTTP/1.1\r\nHost: example.com\r\n\r\n",
            400,
            "GET /a%00 HTTP/1.1 400 - path_normalization_failed 0 0 - 0",
        ),
        (
            "GET /a#b HTTP/1.1\r\nHost: example.com\r\n\r\n",
            400,
            "GET /a HTTP/1.1 400 - path_normalization_failed 0 0 - 0",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
            404,
            "OPTIONS * HTTP/1.1 404 - absolute_path_rejected 0 0 - 0",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
            403,
            "GET /a HTTP/1.1 403 - upgrade_failed 0 0 c 0",
        ),
        (
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
            404,
            "CONNECT - HTTP/1.1 404 NR route_not_found 0 0 - 0",
        ),
    ];
    for (at, (request, status, line)) in cases.iter().enumerate() {
        let answer = proxy.exchange(request).await;
        check(&answer, *status, "");
        assert_eq!(&proxy.lines(at + 1).await[at], line, "{request}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_bad_request_behind_good_ones_is_refused_in_turn() {
    let proxy = Plan::to(&[Upstream::echo().await.address]).start().await;
    let good = "GET /good HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let answer = proxy.exchange(&format!("{good}{good}BAD\r\n\r\n{good}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(
        answer.contains("HTTP/1.1 400 Bad Request") && answer.ends_with("Bad Request"),
        "{answer}"
    );
    assert!(proxy.lines(3).await[2].starts_with("- - HTTP/1.1 400 DPE http1.codec_error"));
}

#[tokio::test]
async fn bad_chunking_is_refused_with_the_request_in_the_log() {
    let proxy = Plan::to(&[Upstream::echo().await.address]).start().await;
    let post = "POST /p HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = proxy.exchange(&format!("{post}xyz\r\n")).await;
    check(&answer, 400, "Bad Request");
    assert_eq!(
        proxy.line().await,
        "POST /p HTTP/1.1 400 DPE http1.codec_error 0 11 c 1"
    );
}
