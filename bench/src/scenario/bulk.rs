//! Long bodies and streams; a unit is a MiB.

use super::{ALL_RIVALS, Group, Run, Scenario, Setup, Target};
use crate::{
    load::Load,
    rival::Kind::{Envoy, Haproxy, Nginx},
    stage::PLAIN,
};

pub(super) const GROUP: Group = Group {
    name: "bulk",
    scenarios: &[Scenario {
        name: "download",
        about: "64 MiB through mTLS, HTTP/2, from a plain upstream",
        run: Run::Load(Load::Downloads {
            host: PLAIN,
            bytes: 64 << 20,
        }),
        setup: Setup::BASIC,
        rivals: ALL_RIVALS,
        targets: &[
            Target::cpu(Envoy, 0.90),
            Target::cpu(Haproxy, 1.0),
            Target::cpu(Nginx, 1.0),
        ],
    }],
};
