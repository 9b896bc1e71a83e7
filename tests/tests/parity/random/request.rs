//! Random requests, near to what policies of the same set name.

use std::net::Ipv4Addr;

use rand::{RngExt as _, rngs::StdRng};

use super::words::{self, Words, chance, pick};
use crate::case::Message;

/// Requests of one client on one connection.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// Whose certificate the client shows.
    pub(super) identity: &'static str,
    /// A server name; `!` is in the place of the set's own label.
    pub(super) sni: String,
    /// Its address.
    pub(super) from: Ipv4Addr,
    pub(super) protocol: Protocol,
    pub(super) requests: Vec<Request>,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    H1,
    H2,
}

/// A request without a body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

const IDENTITIES: &[&str] = &[
    "team-x",
    "team-x",
    "team-x",
    "team-y",
    "team-y",
    "gateway",
    "two-sans",
    "two-uris",
    "dns-san",
    "no-san",
    "other-domain",
    "nobody",
];

/// Two or three clients.
pub(super) fn doors(rng: &mut StdRng, words: &Words) -> Vec<Door> {
    (0..rng.random_range(2..4)).map(|_| door(rng, words)).collect()
}

fn door(rng: &mut StdRng, words: &Words) -> Door {
    let protocol = if chance(rng, 50) { Protocol::H2 } else { Protocol::H1 };
    Door {
        identity: pick(rng, IDENTITIES),
        sni: words::name(rng).to_owned(),
        from: Ipv4Addr::new(127, 0, 0, rng.random_range(2..5)),
        protocol,
        requests: (0..rng.random_range(10..24))
            .map(|_| request(rng, words, protocol))
            .collect(),
    }
}

fn request(rng: &mut StdRng, words: &Words, protocol: Protocol) -> Request {
    Request {
        method: words.method(rng).to_owned(),
        authority: authority(rng, words),
        path: path(rng, words),
        headers: headers(rng, words, protocol),
    }
}

fn authority(rng: &mut StdRng, words: &Words) -> String {
    let host = words.host(rng);
    match rng.random_range(0..16) {
        0 => host.to_ascii_uppercase(),
        1 | 2 => format!("{host}:80"),
        3 => format!("{host}:8080"),
        4 => format!("{host}."),
        5 => format!("{host}.:80"),
        6 => format!("x.{host}"),
        7 => format!("{host}x"),
        _ => host.to_owned(),
    }
}

/// Not of slashes alone, which are merged here and not by Envoy; there is a case for that.
fn path(rng: &mut StdRng, words: &Words) -> String {
    let path = words.path(rng);
    let path = written(rng, path);
    if path.starts_with("//") && path.bytes().all(|byte| byte == b'/') {
        return "/".to_owned();
    }
    path
}

fn written(rng: &mut StdRng, path: &str) -> String {
    match rng.random_range(0..24) {
        0 | 1 => format!("{path}?a=b"),
        2 => format!("{path}?/../x"),
        3 => format!("/x/..{path}"),
        4 => format!("/.{path}"),
        5 => format!("/{path}"),
        6 => format!("{path}/"),
        7 => path.replace('a', "%61"),
        8 => path.replace('/', "%2F").replacen("%2F", "/", 1),
        9 => path.replace('/', "%2f").replacen("%2f", "/", 1),
        10 => path.to_ascii_uppercase(),
        11 => format!("{path}/%2e%2e/b"),
        12 => format!("{path};v=1"),
        13 if chance(rng, 10) => format!("{path}%00"),
        14 => format!("{path}/c"),
        15 => format!("{path}%5c..%5cb"),
        _ => path.to_owned(),
    }
}

fn headers(rng: &mut StdRng, words: &Words, protocol: Protocol) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let name = words.header(rng).to_owned();
        let name = if protocol == Protocol::H1 && chance(rng, 20) {
            name.to_ascii_uppercase()
        } else {
            name
        };
        let value = match rng.random_range(0..10) {
            0 => String::new(),
            1 => words.value(rng).to_ascii_uppercase(),
            2 => format!("{}x", words.value(rng)),
            _ => words.value(rng).to_owned(),
        };
        headers.push((name, value));
    }
    for _ in 0..rng.random_range(0..2) {
        let value = match rng.random_range(0..8) {
            0 => "no address".to_owned(),
            1 => format!("{}, {}", words::address(rng), words::address(rng)),
            2 => format!(
                "{},{},{}",
                words::address(rng),
                words::address(rng),
                words::address(rng)
            ),
            _ => words::address(rng).to_owned(),
        };
        headers.push(("x-forwarded-for".to_owned(), value));
    }
    headers
}

impl Request {
    /// As HTTP/1.1, with a header that the log shows.
    pub(super) fn text(&self, mark: &str) -> String {
        let fields = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n{}x-mark: {mark}\r\n\r\n",
            self.method,
            self.path,
            self.authority,
            fields.collect::<String>()
        )
    }

    /// As HTTP/2, with a header that the log shows.
    pub(super) fn message(&self, mark: &str) -> Message {
        let mark = ("x-mark".to_owned(), mark.to_owned());
        Message {
            method: Some(self.method.clone()),
            authority: Some(self.authority.clone()),
            path: Some(self.path.clone()),
            headers: self.headers.iter().cloned().chain([mark]).collect(),
            ..Message::default()
        }
    }
}
