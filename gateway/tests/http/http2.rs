//! HTTP/2 on either side.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::Frame,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::cluster::UpstreamHttp;

use crate::{
    proxy::{Plan, Proxy, body, get, only_path},
    upstream::Upstream,
};

type Body = BoxBody<Bytes, std::convert::Infallible>;

async fn client(proxy: &Proxy) -> SendRequest<Body> {
    let io = TokioIo::new(proxy.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .uri(format!("http://example.com{path}"))
        .body(body)
        .unwrap()
}

async fn call(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> (StatusCode, HeaderMap, String, Option<HeaderMap>) {
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    assert_eq!(parts.version, Version::HTTP_2);
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (parts.status, parts.headers, text, trailers)
}

#[tokio::test]
async fn http2_goes_down_to_http1() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::to(&[upstream.address]).start().await;
    let mut sender = client(&proxy).await;
    let trailers = HeaderMap::from_iter([("x-t".parse().unwrap(), HeaderValue::from_static("1"))]);
    let frames = [Ok(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
    let post = request("/p", StreamBody::new(futures_util::stream::iter(frames)).boxed());
    let (status, headers, text, _) = call(&mut sender, post).await;
    assert_eq!(
        (status, headers["server"].as_bytes()),
        (StatusCode::OK, &b"istio-envoy"[..])
    );
    assert!(
        text.starts_with("GET /p HTTP/1.1\n") && text.contains("\nhost: example.com\n"),
        "{text}"
    );
    assert!(text.ends_with("\n\nabc") && !text.contains("trailers:"), "{text}");
    assert!(proxy.line().await.starts_with("GET /p HTTP/2 200 - via_upstream 3 "));
}

#[tokio::test]
async fn http1_goes_up_to_http2() {
    let upstream = Upstream::echo_http2().await;
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.http = UpstreamHttp::Http2);
    let proxy = plan.start().await;
    let answer = proxy.exchange(&get("/")).await;
    assert!(answer.contains("GET http://example.com/ HTTP/2.0\n"), "{answer}");
    assert!(!answer.contains("grpc-status"), "trailers are dropped: {answer}");
}

#[tokio::test]
async fn an_http1_client_has_all_when_it_has_the_announced_length() {
    let upstream = Upstream::unending_http2().await;
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.http = UpstreamHttp::Http2);
    let proxy = plan.start().await;
    let answer = proxy.exchange(&get("/")).await;
    assert_eq!(body(&answer), "whole", "{answer}");
    assert_eq!(proxy.line().await, "GET / HTTP/1.1 200 - via_upstream 0 5 c 1");
}

#[tokio::test]
async fn trailers_pass_between_http2_sides() {
    let upstream = Upstream::echo_http2().await;
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.http = UpstreamHttp::AsDownstream);
    let proxy = plan.start().await;
    let mut sender = client(&proxy).await;
    let trailers = HeaderMap::from_iter([("x-t".parse().unwrap(), HeaderValue::from_static("1"))]);
    let frames = [Ok(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
    let call = call(
        &mut sender,
        request("/", StreamBody::new(futures_util::stream::iter(frames)).boxed()),
    )
    .await;
    assert!(call.2.contains("trailers: {\"x-t\": \"1\"}\n"), "{}", call.2);
    assert_eq!(call.3.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn many_requests_share_one_connection_upstream() {
    let upstream = Upstream::echo_http2().await;
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.http = UpstreamHttp::Http2);
    let proxy = plan.start().await;
    let sender = client(&proxy).await;
    let calls = (0..50).map(|number| {
        let mut sender = sender.clone();
        async move {
            call(&mut sender, request(&format!("/{number}"), Empty::new().boxed()))
                .await
                .0
        }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    assert_eq!(upstream.connections(), 1);
    proxy.lines(50).await;
}

#[tokio::test]
async fn another_connection_is_made_when_all_streams_are_taken() {
    let upstream = Upstream::held_http2(2).await;
    let plan = Plan::to(&[upstream.address]).with_cluster(|cluster| cluster.http = UpstreamHttp::Http2);
    let proxy = plan.start().await;
    let mut sender = client(&proxy).await;
    // The peer's limit is known once it has answered.
    upstream.let_go(1);
    assert_eq!(
        call(&mut sender, request("/first", Empty::new().boxed())).await.0,
        StatusCode::OK
    );
    let calls = (0..5).map(|_| {
        let mut sender = sender.clone();
        async move { call(&mut sender, request("/", Empty::new().boxed())).await.0 }
    });
    let all = futures_util::future::join_all(calls);
    let release = async {
        upstream.wait_for_connections(3).await;
        upstream.let_go(5);
    };
    let (statuses, ()) = tokio::join!(all, release);
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn a_client_that_resets_its_stream_is_recorded() {
    let proxy = Plan::to(&[Upstream::silent().await.address]).start().await;
    let mut sender = client(&proxy).await;
    let pending = sender.send_request(request("/slow", Full::from("abc").boxed()));
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(50), pending)
            .await
            .is_err()
    );
    let line = proxy.line().await;
    assert!(line.starts_with("GET /slow HTTP/2 0 DR http2.remote_reset "), "{line}");
}

#[tokio::test]
async fn a_request_to_a_wrong_host_over_http2() {
    let proxy = Plan::to(&[]).start().await;
    let mut sender = client(&proxy).await;
    let wrong = Request::builder()
        .uri("http://other.test/")
        .body(Empty::new().boxed())
        .unwrap();
    let (status, headers, text, _) = call(&mut sender, wrong).await;
    assert_eq!(
        (status, text.as_str(), headers.contains_key("connection")),
        (StatusCode::NOT_FOUND, "", false)
    );
    assert_eq!(proxy.line().await, "GET / HTTP/2 404 NR route_not_found 0 0 - 0");
}

#[tokio::test]
async fn frames_that_are_none_end_the_connection_with_a_record() {
    let proxy = Plan::to(&[]).start().await;
    let answer = proxy
        .exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no SETTINGS frame at all")
        .await;
    assert_eq!(body(&answer), "");
    assert!(proxy.line().await.starts_with("- - HTTP/2 "));
}

#[tokio::test]
async fn a_denied_call_is_answered_in_grpc() {
    let plan = Plan::to(&[]).with_http(|http| http.rbac = vec![only_path("/allowed")]);
    let proxy = plan.start().await;
    let mut sender = client(&proxy).await;
    let mut denied = request("/a.B/C", Empty::new().boxed());
    denied
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let (status, headers, text, _) = call(&mut sender, denied).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, ""));
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (&"7".parse().unwrap(), &"RBAC: access denied".parse().unwrap())
    );
    assert_eq!(
        proxy.line().await,
        "GET /a.B/C HTTP/2 200 - rbac_access_denied_matched_policy[none] 0 0 c 0"
    );
}
