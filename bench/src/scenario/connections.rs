//! A new connection for each unit of work.

use super::{ALL_RIVALS, ENVOY, Group, Run, Scenario, Setup, Target};
use crate::{
    load::Load,
    rival::Kind::{Envoy, Nginx},
};

pub(super) const GROUP: Group = Group {
    name: "connections",
    scenarios: &[
        Scenario {
            name: "handshake",
            about: "full mTLS handshake and one request",
            run: Run::Load(Load::Handshakes),
            setup: Setup::BASIC,
            rivals: ENVOY,
            targets: &[Target::cpu(Envoy, 0.60)],
        },
        Scenario {
            name: "tunnel",
            about: "passthrough connection",
            run: Run::Load(Load::Tunnels),
            setup: Setup::BASIC,
            rivals: ALL_RIVALS,
            targets: &[Target::cpu(Envoy, 0.50), Target::cpu(Nginx, 1.0)],
        },
    ],
};
