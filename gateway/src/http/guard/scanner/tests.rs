use mesh::listener::HttpLimits;
use proptest::prelude::*;

use super::*;
use crate::http::tests::settings;

#[track_caller]
fn check(input: &str, passed: usize, stop: Option<Stop>) {
    let input = input.as_bytes();
    assert_eq!(Scanner::new(&settings()).scan(input), (passed, stop));
    // The same, split at every byte.
    for split in 1..input.len() {
        assert_eq!(
            scan_in_parts(&[&input[..split], &input[split..]]),
            (passed, stop),
            "split at {split}"
        );
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(scan_in_parts(&bytes), (passed, stop), "byte by byte");
}

/// Gives the scanner what it did not pass again, with more behind it, as the guard does.
fn scan_in_parts(parts: &[&[u8]]) -> (usize, Option<Stop>) {
    let mut scanner = Scanner::new(&settings());
    let (mut held, mut total) = (Vec::new(), 0);
    for part in parts {
        held.extend_from_slice(part);
        let (passed, stop) = scanner.scan(&held);
        held.drain(..passed);
        total += passed;
        if stop.is_some() {
            return (total, stop);
        }
    }
    (total, None)
}

#[track_caller]
fn whole(input: &str) {
    check(input, input.len(), None);
}

#[track_caller]
fn refused(input: &str, bad: BadRequest) {
    check(input, 0, Some(Stop::Refused(1, bad)));
}

#[test]
fn passes_what_http_allows() {
    whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    whole("\r\nGET / HTTP/1.1\nHost: a\n\n");
    whole("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n");
    whole("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    whole(
        "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0A \r\n0123456789\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    whole("GET http://a/b?c HTTP/1.1\r\nx:\t \u{e9} \r\nx-empty:\r\n\r\n");
}

#[test]
fn holds_back_a_head_that_is_not_complete() {
    check("GET / HTTP/1.1\r\nHost: a\r\n", 0, None);
    let one = "GET / HTTP/1.1\r\n\r\n";
    check(&format!("{one}GET / HTTP/1.1\r\nHost: a\r\n\r"), one.len(), None);
}

#[test]
fn refuses_what_envoy_refuses() {
    refused("GET / HTTP/1.0\r\n\r\n", BadRequest::LowVersion);
    refused("GET / HTTP/2.0\r\n\r\n", BadRequest::LowVersion);
    refused("PRI * HTTP/2.0\r\n\r\n", BadRequest::Codec);
    refused("get / HTTP/1.1\r\n\r\n", BadRequest::Codec);
    refused("GET /\0 HTTP/1.1\r\n\r\n", BadRequest::Characters);
    refused("GET /\r\n\r\n", BadRequest::LowVersion);
    refused("GET / HTTP/1.1 x\r\n", BadRequest::Codec);
    refused("GET  / HTTP/1.1\r\n", BadRequest::Codec);
    refused("GET / FTP/1.1\r\n", BadRequest::Codec);
    refused("GET\t/ HTTP/1.1\r\n", BadRequest::Codec);
    refused("GET /\u{e9} HTTP/1.1\r\n", BadRequest::Codec);
    refused("\u{16}\u{3}\u{1}", BadRequest::Codec);
    refused("GET http:///a HTTP/1.1\r\n\r\n", BadRequest::Target);
    refused("GET ://a/ HTTP/1.1\r\n\r\n", BadRequest::Codec);
    refused("CONNECT /a HTTP/1.1\r\n\r\n", BadRequest::Target);
    refused("CONNECT a:1 HTTP/1.1\r\ncontent-length: 1\r\n\r\n", BadRequest::Body);
    refused("GET a/b HTTP/1.1\r\n\r\n", BadRequest::Codec);
    refused("GET /<a> HTTP/1.1\r\n\r\n", BadRequest::Codec);
    refused("GET http:/a HTTP/1.1\r\n\r\n", BadRequest::Codec);
    let field = |field: &str, bad| refused(&format!("POST / HTTP/1.1\r\n{field}\r\n\r\n"), bad);
    field("a b: c", BadRequest::Codec);
    field("a : c", BadRequest::Codec);
    field("a\0b: c", BadRequest::Characters);
    field(" folded", BadRequest::Codec);
    field(": c", BadRequest::Codec);
    field("no-colon", BadRequest::Codec);
    field("a: b\0c", BadRequest::Characters);
    field("a: b\rc", BadRequest::Characters);
    field("a: b\x7f", BadRequest::Characters);
    field("content-length: 1\r\ncontent-length: 1", BadRequest::Codec);
    field("content-length: 1, 1", BadRequest::Codec);
    field("content-length: -1", BadRequest::Codec);
    field("content-length: 0x1", BadRequest::Codec);
    field("content-length:", BadRequest::Codec);
    field("content-length: 18446744073709551616", BadRequest::Codec);
    field("content-length: 18446744073709551615", BadRequest::Codec);
    field("transfer-encoding: gzip", BadRequest::TransferEncoding);
    field("transfer-encoding: gzip, chunked", BadRequest::TransferEncoding);
    field(
        "transfer-encoding: gzip\r\ncontent-length: 1",
        BadRequest::LengthAndChunked,
    );
    field(
        "transfer-encoding: chunked\r\ncontent-length: x",
        BadRequest::LengthAndChunked,
    );
    field("transfer-encoding: xchunked", BadRequest::TransferEncoding);
    field("transfer-encoding:\x0bchunked", BadRequest::Characters);
    field(
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        BadRequest::TransferEncoding,
    );
    field(
        "transfer-encoding: chunked\r\ncontent-length: 1",
        BadRequest::LengthAndChunked,
    );
    field(
        "content-length: 1\r\ntransfer-encoding: chunked",
        BadRequest::LengthAndChunked,
    );
}

#[test]
fn a_violation_stops_at_the_head_it_is_in() {
    let one = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab";
    check(
        &format!("{one}BAD\r\n\r\n"),
        one.len(),
        Some(Stop::Refused(2, BadRequest::Codec)),
    );
}

#[test]
fn a_fragment_is_passed_and_stops() {
    let one = "GET /a#b HTTP/1.1\r\n\r\n";
    check(
        &format!("{one}GET / HTTP/1.1\r\n\r\n"),
        one.len(),
        Some(Stop::Refused(1, BadRequest::Path)),
    );
}

#[test]
fn stops_behind_a_request_that_wants_to_leave_http() {
    let connect = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
    check(&format!("{connect}\x16\x03"), connect.len(), Some(Stop::Switch(1)));
    let upgrade = "GET / HTTP/1.1\r\nconnection: upgrade\r\nUpgrade: websocket\r\ncontent-length: 1\r\n\r\nx";
    check(&format!("{upgrade}\u{1}"), upgrade.len(), Some(Stop::Switch(1)));
}

#[test]
fn a_body_that_breaks_its_framing_is_never_followed_by_a_request() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "x\r\n",
        "\r\n",
        "1\r\nab\r\n",
        "1\nab",
        "1;\n",
        "11111111111111111\r\n",
        "0\r\n\rx",
        "1 1\r\n",
        "0\r\na\rb",
    ] {
        let input = format!("{head}{body}\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n");
        let mut scanner = Scanner::new(&settings());
        assert_eq!(scanner.scan(input.as_bytes()), (input.len(), None), "{body:?}");
        assert_eq!((scanner.next_request(), scanner.in_head()), (2, false), "{body:?}");
    }
}

#[test]
fn limits_are_those_configured() {
    let limits = HttpLimits {
        headers_kib: Some(1),
        header_count: Some(2),
    };
    let settings = Http { limits, ..settings() };
    let scan = |input: String| Scanner::new(&settings).scan(input.as_bytes());
    let head = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let too_large = Some(Stop::Refused(1, BadRequest::HeadersTooLarge));
    assert_eq!(scan(head("a: b\r\nc: d\r\n")).1, None);
    assert_eq!(
        scan(head("a: b\r\nc: d\r\ne: f\r\n")).1,
        Some(Stop::Refused(1, BadRequest::TooManyHeaders))
    );
    assert_eq!(scan(head(&format!("a: {}\r\n", "b".repeat(1024)))).1, too_large);
    assert_eq!(scan("G".repeat(1025)).1, too_large);
}

#[test]
fn http_10_is_passed_where_it_is_accepted() {
    let settings = Http {
        accept_http_10: true,
        ..settings()
    };
    let scan = |input: &str| Scanner::new(&settings).scan(input.as_bytes()).1;
    assert_eq!(scan("GET / HTTP/1.0\r\n\r\n"), None);
    assert_eq!(
        scan("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"),
        Some(Stop::Refused(1, BadRequest::TransferEncoding))
    );
}

proptest! {
    /// What is passed and decided does not depend on how the bytes are split, and nothing panics.
    #[test]
    fn splitting_changes_nothing(input in stream(), cuts in proptest::collection::vec(0usize..400, 0..6)) {
        let whole = Scanner::new(&settings()).scan(&input);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut start = 0;
        for cut in cuts {
            parts.push(&input[start..cut]);
            start = cut;
        }
        parts.push(&input[start..]);
        prop_assert_eq!(scan_in_parts(&parts), whole);
    }
}

/// Streams that are almost right.
pub(in crate::http) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        Just("POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"),
        Just("POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
        Just("3\r\nabc\r\n"),
        Just("a;e\r\n0123456789\r\n"),
        Just("0\r\n\r\n"),
        Just("0\r\nt: u\r\n\r\n"),
        Just("content-length: 5\r\n"),
        Just("transfer-encoding: chunked\r\n"),
        Just("GET /x HTTP/1.1\n"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just(" "),
        Just("a: b\r\n"),
        Just("GET /#f HTTP/1.1\r\nhost: a\r\n\r\n"),
        Just("upgrade: websocket\r\nconnection: upgrade\r\n"),
        Just("\0"),
        Just("HTTP/1.0\r\n"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat().into_bytes())
}
