//! What is compared: a kind of load, and what it is to cost.

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// What clients do.
    pub(crate) load: Load,
    /// Authorization policies in force.
    pub(crate) policies: usize,
    /// Rivals that can do the job beside Envoy.
    pub(crate) others: &'static [&'static str],
    /// At most so much of Envoy's processor time per unit.
    pub(crate) target: f64,
}

/// What clients do, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Requests on connections that stay.
    Requests {
        protocol: Protocol,
        host: &'static str,
        /// The answer that makes it right.
        status: u16,
    },
    /// A connection with a full handshake and one request.
    Handshakes,
    /// A TCP connection through the passthrough listener, with one exchange of bytes behind a `ClientHello`.
    Tunnels,
    /// Bodies of so many bytes from the upstream.
    Downloads { host: &'static str, bytes: usize },
}

/// What clients speak inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

use crate::stage::{FORBIDDEN, PLAIN, SECURE};

const ALL_RIVALS: &[&str] = &["haproxy", "nginx"];

const fn requests(protocol: Protocol, host: &'static str, status: u16) -> Load {
    Load::Requests { protocol, host, status }
}

/// Every scenario, in the order in which they run.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "h2",
        about: "mTLS HTTP/2 request, 1 KiB, kept alive, to a plain upstream",
        load: requests(Protocol::Http2, PLAIN, 200),
        policies: 1,
        others: ALL_RIVALS,
        target: 0.30,
    },
    Scenario {
        name: "h1",
        about: "the same over HTTP/1.1",
        load: requests(Protocol::Http1, PLAIN, 200),
        policies: 1,
        others: ALL_RIVALS,
        target: 0.27,
    },
    Scenario {
        name: "originate",
        about: "mTLS HTTP/2 request, TLS to the upstream",
        load: requests(Protocol::Http2, SECURE, 200),
        policies: 1,
        others: ALL_RIVALS,
        target: 0.35,
    },
    Scenario {
        name: "denied",
        about: "request that no policy allows",
        load: requests(Protocol::Http2, FORBIDDEN, 403),
        policies: 1,
        others: ALL_RIVALS,
        target: 0.18,
    },
    Scenario {
        name: "handshake",
        about: "full mTLS handshake and one request",
        load: Load::Handshakes,
        policies: 1,
        others: &[],
        target: 0.60,
    },
    Scenario {
        name: "tunnel",
        about: "passthrough connection",
        load: Load::Tunnels,
        policies: 1,
        others: ALL_RIVALS,
        target: 0.50,
    },
    Scenario {
        name: "download",
        about: "64 MiB through mTLS, HTTP/2",
        load: Load::Downloads {
            host: PLAIN,
            bytes: 64 << 20,
        },
        policies: 1,
        others: ALL_RIVALS,
        target: 0.90,
    },
    Scenario {
        name: "policies",
        about: "mTLS HTTP/2 request under 1,000 policies",
        load: requests(Protocol::Http2, PLAIN, 200),
        policies: 1_000,
        others: &[],
        target: 0.30,
    },
];
