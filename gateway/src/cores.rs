//! The cores that a request's cost is made of, for benchmarks alone: named pieces of work, set up once, done again and again.
//!
//! No part of the product: nothing here is reachable from a gateway. What is measured is the real code; only its surroundings, a
//! request and what is configured, are made here. No core uses cryptography, whose cost depends on the processor's extensions.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use mesh::{
    ClusterName, ListenerName,
    log::{AccessLog, ISTIO_DEFAULT_FORMAT, LogFormat},
    xds::{decode, encode},
};

use crate::{
    access_log::{AccessRecord, Loggers, Overflow, Sinks},
    authz::Engine,
    clock::Moment,
    connection::Connection,
    http::RouteTable,
    snapshot::ChainId,
    tls::client_hello,
};

mod config;
mod traffic;

/// A piece of work that can be repeated.
pub type Core = Box<dyn FnMut()>;

/// A core's name, and what sets it up.
type Entry = (&'static str, fn() -> Core);

const CORES: &[Entry] = &[
    ("client hello", hello),
    ("decision, 10 policies", || decision(10)),
    ("decision, 1000 policies", || decision(1_000)),
    ("decision, 100000 policies", || decision(100_000)),
    ("route, 10 hosts", || route(10)),
    ("route, 1000 hosts", || route(1_000)),
    ("route, 50000 hosts", || route(50_000)),
    ("access log line", log_line),
    ("decode, 1000 hosts", || decoded(1_000)),
    ("build, 1000 hosts", || routes_built(1_000)),
    ("build, 1000 policies", || policies_built(1_000)),
];

/// Every core's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    CORES.iter().map(|(name, _)| *name)
}

/// Sets a core up. `None` if there is none of that name.
pub fn core(name: &str) -> Option<Core> {
    let (_, set_up) = CORES.iter().find(|(known, _)| *known == name)?;
    Some(set_up())
}

/// Does a core's work `times` times. What counts instructions counts them in and below this function: hence it is never inlined, and
/// has no closure, whose name would hold its own.
#[inline(never)]
pub fn measured_core(core: &mut Core, times: usize) {
    for _ in 0..times {
        core();
    }
}

fn hello() -> Core {
    let bytes = traffic::client_hello();
    Box::new(move || drop(black_box(client_hello::read(black_box(&bytes)))))
}

fn decision(policies: usize) -> Core {
    let engine = Engine::build(&[config::policies(policies)]);
    // The last of them, so that whoever looks at each pays for it.
    let request = traffic::Request::of_team(policies - 1);
    Box::new(move || {
        black_box(engine.check(black_box(&request)));
    })
}

fn route(hosts: usize) -> Core {
    let table = RouteTable::build(&config::routes(hosts)).expect("the routes change no header");
    let head = traffic::head(hosts - 1);
    Box::new(move || {
        black_box(table.find(black_box(&head)));
    })
}

fn log_line() -> Core {
    let record = record();
    let mut line = Vec::new();
    Box::new(move || {
        line.clear();
        black_box(&record).render(&mut line);
        black_box(&line);
    })
}

/// A finished request's record in Istio's default format, which goes nowhere.
fn record() -> AccessRecord {
    let log = AccessLog {
        path: PathBuf::from("/dev/null"),
        format: LogFormat::Text(ISTIO_DEFAULT_FORMAT.to_owned()),
        only_flags: Vec::new(),
    };
    let loggers = Loggers::build(&[log], &Sinks::new(1, Overflow::Block));
    let connection = Arc::new(connection());
    let loggers = Arc::new(loggers.expect("the null device can be written to"));
    let mut record = AccessRecord::http(loggers, connection.clone(), connection.started, "HTTP/2");
    record.request(&traffic::head(0).view());
    record.request_complete();
    record.upstream.cluster = ClusterName::parse("outbound|80||host-0.test").ok();
    record.upstream.host = Some(address(80));
    record.upstream.local = Some(address(40_000));
    record.upstream.attempts = 1;
    record.response(200, &http::HeaderMap::new());
    record.response_began();
    record.details("via_upstream");
    record.bytes_sent = 1_024;
    record
}

fn connection() -> Connection {
    Connection {
        id: 7,
        started: Moment {
            wall: SystemTime::UNIX_EPOCH,
            ..Moment::now()
        },
        listener: ListenerName::parse("0.0.0.0_8080").expect("a listener's name"),
        chain: ChainId::NONE,
        chain_name: None,
        local: address(8_080),
        remote: address(44_404),
        original_destination: None,
        sni: None,
        alpn: Some("h2".into()),
        tls: None,
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::new(10, 1, 4, 12), port).into()
}

fn decoded(hosts: usize) -> Core {
    let message = encode::route_config(&config::routes(hosts));
    Box::new(move || {
        let decoded = decode::route_config(black_box(&message));
        drop(black_box(decoded.expect("what was encoded can be decoded")));
    })
}

fn routes_built(hosts: usize) -> Core {
    let config = config::routes(hosts);
    Box::new(move || drop(black_box(RouteTable::build(black_box(&config)))))
}

fn policies_built(policies: usize) -> Core {
    let filters = [config::policies(policies)];
    Box::new(move || drop(black_box(Engine::build(black_box(&filters)))))
}

#[cfg(test)]
mod tests;
