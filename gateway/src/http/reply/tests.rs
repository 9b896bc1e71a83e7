use super::*;
use crate::http::tests::settings;

fn client(version: Version, is_head: bool, is_grpc: bool) -> Client {
    Client {
        version,
        is_head,
        is_grpc,
        leaves_http: false,
        is_sending: false,
    }
}

fn headers(response: &Response<Bytes>) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<_> = response.headers().iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_denial_looks_like_envoys() {
    let reply = refuse(
        &ProxyError::Denied(None),
        false,
        client(Version::HTTP_2, false, false),
        &settings(),
    );
    assert_eq!(
        (reply.status(), &reply.body()[..]),
        (StatusCode::FORBIDDEN, &b"RBAC: access denied"[..])
    );
    assert_eq!(
        headers(&reply),
        ["content-length: 19", "content-type: text/plain", "server: istio-envoy"]
    );
}

#[test]
fn a_grpc_client_gets_trailers_only() {
    let reply = refuse(
        &ProxyError::Denied(None),
        false,
        client(Version::HTTP_2, false, true),
        &settings(),
    );
    assert_eq!((reply.status(), reply.body().len()), (StatusCode::OK, 0));
    assert_eq!(
        headers(&reply),
        [
            "content-type: application/grpc",
            "grpc-message: RBAC: access denied",
            "grpc-status: 7",
            "server: istio-envoy"
        ]
    );
    let reply = refuse(
        &ProxyError::NoRoute,
        false,
        client(Version::HTTP_2, false, true),
        &settings(),
    );
    assert_eq!(
        headers(&reply),
        [
            "content-type: application/grpc",
            "grpc-status: 12",
            "server: istio-envoy"
        ]
    );
}

#[test]
fn an_empty_body_has_a_length_and_no_type() {
    let reply = refuse(
        &ProxyError::NoRoute,
        false,
        client(Version::HTTP_11, false, false),
        &settings(),
    );
    assert_eq!(headers(&reply), ["content-length: 0", "server: istio-envoy"]);
}

#[test]
fn a_response_to_head_says_how_long_it_would_be() {
    let reply = refuse(
        &ProxyError::NoHealthyHost,
        false,
        client(Version::HTTP_11, true, false),
        &settings(),
    );
    assert!(reply.body().is_empty());
    assert_eq!(reply.headers()[header::CONTENT_LENGTH], "19");
}

#[test]
fn only_http_1_is_told_to_close() {
    let error = ProxyError::Request(BadRequest::MissingHost);
    let close = |version| {
        refuse(&error, false, client(version, false, false), &settings())
            .headers()
            .contains_key(header::CONNECTION)
    };
    assert!(close(Version::HTTP_11) && !close(Version::HTTP_2));
}

#[test]
fn an_open_breaker_says_so() {
    let reply = refuse(
        &ProxyError::Overflow,
        false,
        client(Version::HTTP_11, false, false),
        &settings(),
    );
    assert_eq!(reply.headers()[OVERLOADED], "true");
}

#[test]
fn grpc_messages_are_percent_encoded() {
    assert_eq!(grpc_message("50% é\n".as_bytes()), b"50%25 %C3%A9%0A");
}
