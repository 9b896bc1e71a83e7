//! Requests on connections that stay, in a closed loop.

use super::{ALL_RIVALS, Group, Run, Scenario, Setup, Target};
use crate::{
    load::{Load, Protocol},
    rival::Kind::{Envoy, Haproxy, Nginx},
    stage::{FORBIDDEN, PLAIN, SECURE},
};

pub(super) const GROUP: Group = Group {
    name: "requests",
    scenarios: &[
        Scenario {
            name: "h2",
            about: "mTLS HTTP/2 request, 1 KiB, kept alive, to a plain upstream",
            run: requests(Protocol::Http2, PLAIN, 200),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: &[
                Target::cpu(Envoy, 0.30),
                Target::cpu(Haproxy, 1.0),
                Target::cpu(Nginx, 1.0),
            ],
        },
        Scenario {
            name: "h1",
            about: "the same over HTTP/1.1",
            run: requests(Protocol::Http1, PLAIN, 200),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: &[Target::cpu(Envoy, 0.27), Target::cpu(Haproxy, 0.8)],
        },
        Scenario {
            name: "originate",
            about: "mTLS HTTP/2 request, TLS to the upstream",
            run: requests(Protocol::Http2, SECURE, 200),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: &[
                Target::cpu(Envoy, 0.35),
                Target::cpu(Haproxy, 1.0),
                Target::cpu(Nginx, 1.0),
            ],
        },
        Scenario {
            name: "denied",
            about: "request that no policy allows",
            run: requests(Protocol::Http2, FORBIDDEN, 403),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: &[Target::cpu(Envoy, 0.18), Target::cpu(Haproxy, 0.6)],
        },
    ],
};

const fn requests(protocol: Protocol, host: &'static str, status: u16) -> Run {
    Run::Load(Load::Requests { protocol, host, status })
}
