//! The credentials of the mesh's members, and of a stranger, made by `sallyport certs`.

use std::{fs, os::unix::fs::chown, path::Path, process::Command};

use crate::{network, process, world::PROXY_USER};

const TRUST_DOMAIN: &str = "cluster.local";
const FOREIGN_TRUST_DOMAIN: &str = "other.example";

/// Who gets what: directory, trust domain, namespace, service account.
const MEMBERS: [(&str, &str, &str, &str); 5] = [
    ("control", TRUST_DOMAIN, "istio-system", "istiod"),
    (
        "gateway",
        TRUST_DOMAIN,
        "istio-egress",
        "istio-egressgateway-service-account",
    ),
    ("team-x", TRUST_DOMAIN, "team-x", "test"),
    ("team-y", TRUST_DOMAIN, "team-y", "test"),
    (STRANGER, FOREIGN_TRUST_DOMAIN, "team-x", "test"),
];

/// A well-formed identity of another mesh.
pub(crate) const STRANGER: &str = "stranger";

/// Makes two authorities and everybody's credentials, each in a directory of its own below `directory`, which becomes the
/// proxies' own.
pub(crate) fn create(program: &Path, directory: &Path) {
    fs::create_dir(directory).unwrap();
    chown(directory, Some(PROXY_USER), Some(PROXY_USER)).unwrap();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    for domain in [TRUST_DOMAIN, FOREIGN_TRUST_DOMAIN] {
        certs(program, &["init-ca", &path(domain), "--trust-domain", domain]);
    }
    for (name, domain, namespace, account) in MEMBERS {
        let id = format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
        certs(program, &["issue", &id, "--ca", &path(domain), "--out", &path(name)]);
    }
}

fn certs(program: &Path, arguments: &[&str]) {
    let mut command = Command::new("setpriv");
    command
        .args(network::identity(PROXY_USER))
        .arg(program)
        .arg("certs")
        .args(arguments);
    process::run(&command).unwrap();
}
