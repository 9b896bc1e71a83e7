//! What a request costs when many policies are in force.

use super::{ENVOY, Group, Run, Scenario, Setup, Target};
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
        Scenario {
            name: "policies-1000",
            about: "mTLS HTTP/2 request under 1,000 policies",
            run: REQUESTS,
            setup: Setup {
                policies: 1_000,
                ..Setup::BASIC
            },
            rivals: ENVOY,
            targets: &[Target::own(Metric::Cpu, "policies-1", 1.1)],
        },
    ],
};

const REQUESTS: Run = Run::Load(Load::Requests {
    protocol: Protocol::Http2,
    host: PLAIN,
    status: 200,
});
