//! What the sites of the outside say.

use std::collections::BTreeMap;

use gateway::network::Accepted;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::json;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const MORE_INFO: HeaderName = HeaderName::from_static("x-more-info");

/// The answer to a request for a coffee (RFC 2324, section 2.3.2).
pub const TEAPOT: &str = r"
      I am a teapot
          ___
        _(___)_      __
   __  /       \____/ /
  /  \/  _   _      _/
  \  /  (o) (o)    |
   \_\      ^      |
      \_  \___/  _/
        \_______/
";

/// `example.com`: one page, whatever the path.
pub fn example_com(_: &Accepted, _: &Request<Bytes>) -> Response<Full<Bytes>> {
    let page = "<!doctype html>\n<title>Example Domain</title>\n<h1>Example Domain</h1>\n<p>For use in examples.</p>\n";
    reply(StatusCode::OK, HTML, page)
}

/// `httpbin.org`: says what it was asked.
pub fn httpbin_org(peer: &Accepted, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match path {
        "/" => reply(
            StatusCode::OK,
            HTML,
            "<!doctype html>\n<title>httpbin.org</title>\n<h1>httpbin.org</h1>\n",
        ),
        "/headers" => json(&json!({ "headers": headers(request.headers()) })),
        "/ip" => json(&json!({ "origin": peer.remote.ip() })),
        "/get" | "/post" | "/anything" => json(&echo(peer, request)),
        _ => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
            Some(code) => status(code),
            None => reply(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        },
    }
}

/// `storage.googleapis.com`: a bucket with one object.
pub fn storage_googleapis_com(_: &Accepted, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/bucket/hello" => reply(StatusCode::OK, TEXT, "Hello, World!\n"),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "no such object\n"),
    }
}

/// The metadata server: the identity a workload acts under.
pub fn metadata(_: &Accepted, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    if request
        .headers()
        .get("metadata-flavor")
        .is_none_or(|flavor| flavor != "Google")
    {
        return reply(StatusCode::FORBIDDEN, TEXT, "Metadata-Flavor: Google is missing\n");
    }
    reply(StatusCode::OK, TEXT, "sa-test-app-team-x\n")
}

fn status(code: u16) -> Response<Full<Bytes>> {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::IM_A_TEAPOT) => {
            let mut response = reply(StatusCode::IM_A_TEAPOT, TEXT, TEAPOT);
            let rfc = HeaderValue::from_static("https://www.rfc-editor.org/rfc/rfc2324");
            response.headers_mut().insert(MORE_INFO, rfc);
            response
        }
        // An informational status is not an answer.
        Ok(code) if code.as_u16() >= 200 => reply(code, TEXT, ""),
        _ => reply(StatusCode::BAD_REQUEST, TEXT, "not a status\n"),
    }
}

fn echo(peer: &Accepted, request: &Request<Bytes>) -> serde_json::Value {
    json!({
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "query": request.uri().query(),
        "version": format!("{:?}", request.version()),
        "headers": headers(request.headers()),
        "origin": peer.remote.ip(),
        "data": String::from_utf8_lossy(request.body()),
    })
}

/// Names in order, all values of a name in one list.
fn headers(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        all.entry(name.as_str()).or_default().push(value);
    }
    all
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    reply(StatusCode::OK, JSON, format!("{value:#}\n"))
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
