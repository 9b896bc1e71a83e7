//! What comes in: a `ClientHello`, and requests of teams to their hosts.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, uri::Scheme};
use mesh::authz::Facts;

use super::{address, config::host};
use crate::http::Head;

/// A request as authorization sees it.
pub(super) struct Request {
    names: Vec<String>,
    authority: String,
}

impl Request {
    pub(super) fn of_team(number: usize) -> Self {
        Self {
            names: vec![format!("spiffe://cluster.local/ns/team-{number}/sa/test")],
            authority: host(number),
        }
    }
}

impl Facts for Request {
    fn peer_names(&self) -> Option<&[String]> {
        Some(&self.names)
    }

    fn direct_remote_ip(&self) -> IpAddr {
        address(0).ip()
    }

    fn remote_ip(&self) -> IpAddr {
        address(0).ip()
    }

    fn destination(&self) -> (IpAddr, u16) {
        (address(0).ip(), 8_080)
    }

    fn sni(&self) -> &str {
        ""
    }

    fn is_http(&self) -> bool {
        true
    }

    fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let line = (name == ":authority").then_some(self.authority.as_str());
        line.map(Cow::from).into_iter()
    }

    fn path(&self) -> &str {
        "/"
    }
}

/// A request with the headers that a sidecar sends.
pub(super) fn head(number: usize) -> Head {
    let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    Head {
        method: Method::GET,
        authority: host(number).parse().expect("a header's value"),
        target: "/some/path?and=query".parse().ok(),
        headers: HeaderMap::from_iter([
            header("user-agent", "curl/7.88.1"),
            header("accept", "*/*"),
            header("x-forwarded-for", "10.1.0.17"),
            header("x-request-id", "095711e6-64ef-4de0-983e-59158e3c55e7"),
        ]),
        version: Version::HTTP_2,
        upgrade: None,
        scheme: Scheme::HTTPS,
        client: address(44_404),
    }
}

/// As long as one with a hybrid key share, in two records: RFC 8446 section 4.1.2.
pub(super) fn client_hello() -> Vec<u8> {
    let name = b"host-0.test";
    let list = [&[0_u8][..], &length(name.len()), name].concat();
    let extensions = [
        extension(0, &[&length(list.len())[..], &list].concat()),
        extension(16, b"\x00\x0c\x02h2\x08http/1.1"),
        extension(51, &[0; 1_216]),
    ]
    .concat();
    let body = [
        &b"\x03\x03"[..],
        &[7; 32],
        b"\x20",
        &[9; 32],
        b"\x00\x06\x13\x01\x13\x02\x13\x03\x01\x00",
        &length(extensions.len()),
        &extensions,
    ]
    .concat();
    let message = [&b"\x01\x00"[..], &length(body.len()), &body].concat();
    let (first, second) = message.split_at(message.len() / 2);
    [record(first), record(second)].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length(data.len()), data].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&b"\x16\x03\x01"[..], &length(fragment.len()), fragment].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes)
        .expect("no part is longer than 64 KiB")
        .to_be_bytes()
}
