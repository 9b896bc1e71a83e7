//! What policies and requests talk about. Each set draws a few words that both use, so that they often meet.

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

const HOSTS: &[&str] = &[
    "site.test",
    "a.site.test",
    "b.a.site.test",
    "example.com",
    "api.example.com",
    "xn--bcher-kva.example",
    "localhost",
    "10.0.0.1",
];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/",
    "/admin",
    "/admin/",
    "/status/418",
    "/a//b",
    "/~user",
    "/x;y=z",
    "/a%2Fb",
    "/a%20b",
    "/A",
    "/v1.2/items",
];
const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PURGE"];
const HEADERS: &[&str] = &["x-a", "x-b", "x-team", "user-agent"];
const VALUES: &[&str] = &[
    "1",
    "red",
    "Red",
    "red,blue",
    "red, blue",
    "blue",
    "a b",
    "\"q\"",
    "12",
    "*",
];
const NAMES: &[&str] = &["a.!.test", "b.!.test", "c.b.!.test"];
const ADDRESSES: &[&str] = &["127.0.0.2", "127.0.0.3", "127.0.0.9", "10.1.2.3", "2001:db8::1"];

/// How many words of a kind policies and requests of a set share.
const SHARED: usize = 3;

/// A set's words.
#[derive(Debug)]
pub(super) struct Words {
    hosts: Vec<&'static str>,
    paths: Vec<&'static str>,
    methods: Vec<&'static str>,
    headers: Vec<&'static str>,
    values: Vec<&'static str>,
}

impl Words {
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let mut some = |all: &'static [&'static str], many: usize| all.sample(rng, many).copied().collect();
        Self {
            hosts: some(HOSTS, SHARED),
            paths: some(PATHS, SHARED),
            methods: some(METHODS, SHARED - 1),
            headers: some(HEADERS, SHARED - 1),
            values: some(VALUES, SHARED),
        }
    }

    pub(super) fn host(&self, rng: &mut StdRng) -> &'static str {
        mostly(rng, &self.hosts, HOSTS)
    }

    pub(super) fn path(&self, rng: &mut StdRng) -> &'static str {
        mostly(rng, &self.paths, PATHS)
    }

    pub(super) fn method(&self, rng: &mut StdRng) -> &'static str {
        mostly(rng, &self.methods, METHODS)
    }

    pub(super) fn header(&self, rng: &mut StdRng) -> &'static str {
        mostly(rng, &self.headers, HEADERS)
    }

    pub(super) fn value(&self, rng: &mut StdRng) -> &'static str {
        mostly(rng, &self.values, VALUES)
    }
}

/// A server name below the set's own.
pub(super) fn name(rng: &mut StdRng) -> &'static str {
    pick(rng, NAMES)
}

/// A client's address.
pub(super) fn address(rng: &mut StdRng) -> &'static str {
    pick(rng, ADDRESSES)
}

/// One of several.
pub(super) fn pick<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    *of.choose(rng).expect("lists of words are not empty")
}

/// Whether something happens that happens so many times in a hundred.
pub(super) fn chance(rng: &mut StdRng, percent: u32) -> bool {
    rng.random_ratio(percent, 100)
}

fn mostly(rng: &mut StdRng, shared: &[&'static str], all: &[&'static str]) -> &'static str {
    if chance(rng, 80) {
        pick(rng, shared)
    } else {
        pick(rng, all)
    }
}
