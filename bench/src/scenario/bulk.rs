//! Long bodies and streams; a unit is a MiB.

use super::{ALL_RIVALS, Group, Run, Scenario, Setup, Target};
use crate::{
    load::{Load, Protocol},
    rival::Kind::{Envoy, Haproxy, Nginx},
    stage::{PLAIN, SECURE},
};

pub(super) const GROUP: Group = Group {
    name: "bulk",
    scenarios: &[
        Scenario {
            targets: MUTUAL,
            ..bulk(
                "download",
                "64 MiB through mTLS, HTTP/2, from a plain upstream",
                download(Protocol::Http2, PLAIN),
            )
        },
        Scenario {
            targets: MUTUAL,
            ..bulk(
                "download-originate",
                "the same from a TLS upstream",
                download(Protocol::Http2, SECURE),
            )
        },
        bulk(
            "download-h1",
            "64 MiB through mTLS, HTTP/1.1, from a plain upstream",
            download(Protocol::Http1, PLAIN),
        ),
        Scenario {
            targets: MUTUAL,
            ..bulk(
                "upload",
                "64 MiB through mTLS, HTTP/2, to a plain upstream",
                Load::Uploads {
                    host: PLAIN,
                    bytes: BYTES,
                },
            )
        },
        Scenario {
            targets: MUTUAL,
            ..bulk(
                "upload-originate",
                "the same to a TLS upstream",
                Load::Uploads {
                    host: SECURE,
                    bytes: BYTES,
                },
            )
        },
        Scenario {
            targets: &[Target::cpu(Envoy, 0.40), Target::cpu(Haproxy, 0.5)],
            ..bulk(
                "tunnel-bulk",
                "passthrough stream whose ends touch none of it",
                Load::Endless,
            )
        },
        Scenario {
            targets: &[Target::cpu(Envoy, 0.85), Target::cpu(Haproxy, 1.0)],
            ..bulk(
                "tunnel-tls",
                "64 MiB through passthrough, inside the ends' TLS",
                Load::SecureTunnel { bytes: BYTES },
            )
        },
    ],
};

/// Of a body.
const BYTES: usize = 64 << 20;

/// Where the proxy ends TLS.
const MUTUAL: &[Target] = &[
    Target::cpu(Envoy, 0.90),
    Target::cpu(Haproxy, 1.0),
    Target::cpu(Nginx, 1.0),
];

const fn bulk(name: &'static str, about: &'static str, load: Load) -> Scenario {
    Scenario {
        name,
        about,
        run: Run::Load(load),
        setup: Setup::BASIC,
        rivals: ALL_RIVALS,
        targets: &[],
    }
}

const fn download(protocol: Protocol, host: &'static str) -> Load {
    Load::Downloads {
        protocol,
        host,
        bytes: BYTES,
    }
}
