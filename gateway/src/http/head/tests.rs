use std::cell::RefCell;

use http::Request;
use mesh::listener::{EscapedSlashes, ForwardClientCert};
use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::http::tests::{plain, settings};

/// Reads and sanitizes.
fn accept(request: http::request::Builder, settings: &Http) -> Result<Head, String> {
    let conn = plain();
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let mut head = Head::read(parts, &conn, settings).map_err(|bad| format!("{bad:?}"))?;
    let edge = forwarded::Edge {
        settings,
        conn: &conn,
        rng: &RefCell::new(SmallRng::seed_from_u64(1)),
        peer: &forwarded::PeerDescription::default(),
    };
    match head.sanitize(&edge) {
        Ok(()) => Ok(head),
        Err(Refusal::Error(bad)) => Err(format!("{bad:?}")),
        Err(Refusal::Redirect(path)) => Err(path),
    }
}

fn get(target: &str) -> http::request::Builder {
    Request::builder().uri(target).header("host", "a.test")
}

#[test]
fn the_authority_comes_from_where_http_says() {
    let check = |request: http::request::Builder, authority: &str| {
        let head = accept(request, &settings()).unwrap();
        assert_eq!((head.authority(), head.headers.get("host")), (authority, None));
    };
    check(get("/"), "a.test");
    check(get("http://b.test:80/x"), "b.test:80");
    check(get("http://user:secret@b.test/x"), "b.test");
    check(
        Request::builder()
            .uri("/")
            .header("host", "A.test")
            .header("host", "b.test"),
        "A.test,b.test",
    );
    check(
        Request::builder()
            .version(Version::HTTP_2)
            .uri("https://c.test/")
            .header("host", "d.test"),
        "c.test",
    );
}

#[test]
fn refuses_what_has_no_meaning() {
    let check = |request: http::request::Builder, error: &str| {
        assert_eq!(accept(request, &settings()).unwrap_err(), error);
    };
    check(Request::builder().uri("/"), "MissingHost");
    check(Request::builder().uri("/").header("host", ""), "MissingHost");
    check(get("/").header("connection", "close, host"), "MissingHost");
    check(Request::builder().uri("/").header("host", "a b"), "Authority");
    check(Request::builder().uri("/").header("host", "a/b"), "Authority");
    check(get("https://a.test/"), "HttpsOnPlaintext");
    check(get("ftp://a.test/"), "Scheme");
    check(
        Request::builder().method("QUERY").uri("/").header("host", "a.test"),
        "QueryContent",
    );
    check(get("/%00"), "Path");
    check(get("*"), "Target");
    check(get("*").method("OPTIONS"), "AsteriskPath");
    check(get("http://a.test?b"), "AsteriskPath");
}

#[test]
fn underscores_are_what_is_configured() {
    let with = |underscores| {
        let settings = Http {
            underscores,
            ..settings()
        };
        accept(get("/").header("x_y", "1"), &settings).map(|head| head.headers.contains_key("x_y"))
    };
    assert_eq!(with(Underscores::Allow), Ok(true));
    assert_eq!(with(Underscores::DropHeader), Ok(false));
    assert_eq!(with(Underscores::RejectRequest), Err("Underscore".to_owned()));
}

#[test]
fn a_path_with_escaped_slashes_is_sent_elsewhere() {
    let settings = Http {
        escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
        ..settings()
    };
    assert_eq!(accept(get("/a%2Fb"), &settings).unwrap_err(), "/a/b");
}

#[test]
fn an_edge_believes_nothing() {
    let request = get("/")
        .header("x-forwarded-for", "9.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "mine")
        .header("x-envoy-original-path", "/evil")
        .header("x-envoy-decorator-operation", "x")
        .header("x-envoy-external-address", "8.8.8.8")
        .header("x-forwarded-client-cert", "By=me");
    let head = accept(request, &settings()).unwrap();
    let header = |name: &str| head.header_lines(name).next().map(Cow::into_owned);
    assert_eq!(header("x-forwarded-for").as_deref(), Some("9.9.9.9,127.0.0.1"));
    assert_eq!(header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(header("x-envoy-external-address").as_deref(), Some("127.0.0.1"));
    assert_ne!(header("x-request-id").as_deref(), Some("mine"));
    assert_eq!(head.client.ip().to_string(), "127.0.0.1");
    for name in [
        "x-envoy-original-path",
        "x-envoy-decorator-operation",
        "x-forwarded-client-cert",
    ] {
        assert_eq!(header(name), None, "{name}");
    }
}

#[test]
fn a_sidecar_believes_its_application() {
    let settings = Http {
        use_remote_address: false,
        ..settings()
    };
    let request = get("/")
        .header("x-forwarded-for", "9.9.9.9, 7.7.7.7")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "mine")
        .header("x-envoy-max-retries", "9");
    let head = accept(request, &settings).unwrap();
    let header = |name: &str| head.header_lines(name).next().map(Cow::into_owned);
    assert_eq!(header("x-forwarded-for").as_deref(), Some("9.9.9.9, 7.7.7.7"));
    assert_eq!(header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(header("x-request-id").as_deref(), Some("mine"));
    assert_eq!(
        (header("x-envoy-external-address"), header("x-envoy-max-retries")),
        (None, None)
    );
    assert_eq!(
        (head.client.ip().to_string().as_str(), head.scheme.as_str()),
        ("7.7.7.7", "https")
    );
}

#[test]
fn trusted_hops_are_counted_from_the_right() {
    let settings = Http {
        xff_trusted_hops: 2,
        ..settings()
    };
    let head = accept(get("/").header("x-forwarded-for", "1.1.1.1,2.2.2.2,3.3.3.3"), &settings).unwrap();
    assert_eq!(head.client.ip().to_string(), "2.2.2.2");
}

#[test]
fn a_plaintext_peer_has_no_certificate_to_describe() {
    let details = mesh::listener::ClientCertDetails::default();
    for client_cert in [
        ForwardClientCert::Sanitize,
        ForwardClientCert::SanitizeSet(details),
        ForwardClientCert::AppendForward(details),
        ForwardClientCert::ForwardOnly,
    ] {
        let settings = Http {
            client_cert,
            ..settings()
        };
        let head = accept(get("/").header("x-forwarded-client-cert", "By=me"), &settings).unwrap();
        assert_eq!(
            head.header_lines("x-forwarded-client-cert").next(),
            None,
            "{client_cert:?}"
        );
    }
}

#[test]
fn cookie_crumbs_become_one_line() {
    let request = Request::builder().version(Version::HTTP_2).uri("http://a.test/");
    let head = accept(request.header("cookie", "a=1").header("cookie", "b=2"), &settings()).unwrap();
    assert_eq!(head.header_lines("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn ports_are_cut_off_hosts() {
    for (authority, host) in [
        ("a.test", "a.test"),
        ("a.test:80", "a.test"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a.test:", "a.test"),
        ("a:b", "a:b"),
        (":80", ":80"),
    ] {
        assert_eq!(without_port(authority), host, "{authority}");
    }
}
