//! What a request costs when many policies are in force. Envoy walks all of them.

use super::{ENVOY, Group, Run, Scenario, Setup, Shape, Target};
use crate::{
    load::{Load, Protocol},
    metric::Metric,
    stage::PLAIN,
};

pub(super) const GROUP: Group = Group {
    name: "policies",
    scenarios: &[
        Scenario {
            name: "policies-1",
            about: "mTLS HTTP/2 request under one policy",
            run: REQUESTS,
            setup: Setup::BASIC,
            rivals: ENVOY,
            targets: &[],
        },
        under(
            "policies-100",
            "under 100 policies: team i may reach host i",
            100,
            Shape::Hosts,
        ),
        under("policies-1000", "under 1,000 policies", 1_000, Shape::Hosts),
        under("policies-10000", "under 10,000 policies", 10_000, Shape::Hosts),
        under(
            "one-host-100",
            "under 100 policies for one host: the namespace decides",
            100,
            Shape::OneHost,
        ),
        under(
            "one-host-10000",
            "under 10,000 policies for one host",
            10_000,
            Shape::OneHost,
        ),
        under("rules-1000", "under one policy of 1,000 rules", 1_000, Shape::Rules),
    ],
};

/// As dear as under one.
const FLAT: &[Target] = &[Target::own(Metric::Cpu, "policies-1", 1.1)];

const REQUESTS: Run = Run::Load(Load::Requests {
    protocol: Protocol::Http2,
    host: PLAIN,
    status: 200,
});

const fn under(name: &'static str, about: &'static str, policies: usize, shape: Shape) -> Scenario {
    Scenario {
        name,
        about,
        run: REQUESTS,
        setup: Setup {
            policies,
            shape,
            ..Setup::BASIC
        },
        rivals: ENVOY,
        targets: FLAT,
    }
}
