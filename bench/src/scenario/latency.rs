//! How long clients wait: at a fixed rate, and beside a tenant who floods.

use super::{ALL_RIVALS, Group, Run, Scenario, Setup, Target};
use crate::{
    load::{Load, Protocol},
    metric::Metric::{P50, P99},
    rival::Kind::{Envoy, Haproxy},
    stage::PLAIN,
};

/// Requests a second of the open loops: what the slowest proxy can carry on a slow day.
const RATE: u32 = 5_000;

const TARGETS: &[Target] = &[
    Target::of(P50, Envoy, 0.8),
    Target::of(P99, Envoy, 0.8),
    Target::of(P50, Haproxy, 1.0),
    Target::of(P99, Haproxy, 1.0),
];

/// The tutorial's gateway with a second tenant.
const TWO_TENANTS: Setup = Setup {
    flooder: true,
    ..Setup::BASIC
};

pub(super) const GROUP: Group = Group {
    name: "latency",
    scenarios: &[
        Scenario {
            name: "open-loop",
            about: "5,000 mTLS HTTP/2 requests a second, latency from when each was due",
            run: open_loop(Protocol::Http2),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: TARGETS,
        },
        Scenario {
            name: "open-loop-h1",
            about: "the same over HTTP/1.1",
            run: open_loop(Protocol::Http1),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: TARGETS,
        },
        Scenario {
            name: "flood-handshakes",
            about: "100 requests a second while another tenant begins handshakes as fast as it can",
            run: Run::Flood(Load::Hellos),
            setup: TWO_TENANTS,
            rivals: ALL_RIVALS,
            targets: &[],
        },
        Scenario {
            name: "flood-requests",
            about: "100 requests a second while another tenant sends requests as fast as it can",
            run: Run::Flood(Load::Requests {
                protocol: Protocol::Http2,
                host: PLAIN,
                status: 200,
            }),
            setup: TWO_TENANTS,
            rivals: ALL_RIVALS,
            targets: &[],
        },
    ],
};

const fn open_loop(protocol: Protocol) -> Run {
    Run::Load(Load::Paced {
        protocol,
        host: PLAIN,
        rate: RATE,
    })
}
