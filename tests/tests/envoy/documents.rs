//! Bootstraps: what is rendered starts a real Envoy, and our gateway.

use std::{env, fs, path::PathBuf};

use certs::FileWatcher;
use gateway::bootstrap::Plan;
use libtest_mimic::Trial;
use mesh::{
    cluster::EndpointAddress,
    host::Host,
    id::SpiffeId,
    xds::render::{ControlPlane, Files, Proxy as Rendered, Secrets, fixed, following},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::complaints,
    examples::{Proxy, State, mistakes, steps},
    identity::{ISTIOD, Mesh, files},
    trial,
};

/// One for every state of every example: whatever a proxy is served can be a file.
pub(crate) fn trials() -> Vec<Trial> {
    let states = steps().into_iter().map(|state| ("tutorial", state));
    let states = states.chain(mistakes().into_iter().map(|state| ("broken", state)));
    let fixed =
        states.map(|(group, state)| trial(format!("fixed::{group}::{}", state.name), move || check_fixed(&state)));
    let sources = Proxy::ALL.map(|proxy| {
        trial(format!("control_and_agent::{}", proxy.name()), move || {
            check_sources(proxy)
        })
    });
    fixed.chain(sources).collect()
}

/// What needs no Envoy.
pub(crate) fn own_trials() -> Vec<Trial> {
    vec![trial("documents::of_the_tutorial_are_golden", golden)]
}

fn check_fixed(state: &State) {
    let directory = identity(Proxy::Gateway);
    for proxy in Proxy::ALL {
        let secrets = Secrets::Files(files(directory.path()));
        let document = fixed(&rendered(proxy, secrets), &state.bundle(proxy)).unwrap();
        check(&document, &directory);
    }
}

fn check_sources(proxy: Proxy) {
    let directory = identity(proxy);
    for (secrets, control) in [
        (Secrets::Files(files(directory.path())), plaintext(true)),
        (Secrets::Files(files(directory.path())), plaintext(false)),
        (Secrets::Files(files(directory.path())), mutual_tls(true)),
        (agent(), mutual_tls(true)),
        (agent(), mutual_tls(false)),
    ] {
        let document = following(&rendered(proxy, secrets), &control).unwrap();
        check(&document, &directory);
    }
    let tutorial = steps().pop().unwrap().bundle(proxy);
    let document = fixed(&rendered(proxy, agent()), &tutorial).unwrap();
    check(&document, &directory);
}

/// Both start from it, and Envoy finds nothing to say.
#[track_caller]
fn check(document: &Value, directory: &TempDir) {
    let said = complaints(document, directory.path());
    assert!(said.is_empty(), "{said:#?}\n{document:#}");
    let workload = FileWatcher::new().workload(directory.path()).unwrap();
    if let Err(error) = Plan::read(&document.to_string(), Some(workload)) {
        panic!("{error}\n{document:#}");
    }
}

fn identity(proxy: Proxy) -> TempDir {
    let directory = TempDir::new().unwrap();
    Mesh::new().issue(&proxy.identity(), directory.path());
    directory
}

fn rendered(proxy: Proxy, secrets: Secrets) -> Rendered {
    Rendered {
        node: proxy.node(),
        admin: Some(([127, 0, 0, 1], 15000).into()),
        resolvers: vec![([127, 0, 0, 1], 53).into()],
        secrets,
    }
}

fn agent() -> Secrets {
    Secrets::Agent("/var/run/secrets/workload-spiffe-uds/socket".into())
}

fn plaintext(delta: bool) -> ControlPlane {
    ControlPlane {
        address: EndpointAddress::Socket(([127, 0, 0, 1], 15010).into()),
        identity: None,
        delta,
    }
}

fn mutual_tls(delta: bool) -> ControlPlane {
    ControlPlane {
        address: EndpointAddress::Name(Host::parse("istiod.istio-system").unwrap(), 15012),
        identity: Some(SpiffeId::parse(ISTIOD).unwrap()),
        delta,
    }
}

/// The two documents of the tutorial's gateway; `UPDATE_GOLDEN=1` rewrites them.
fn golden() {
    let secrets = Secrets::Files(Files {
        chain: "/etc/certs/cert-chain.pem".into(),
        key: "/etc/certs/key.pem".into(),
        roots: "/etc/certs/root-cert.pem".into(),
        system_roots: "/etc/ssl/certs/ca-certificates.crt".into(),
    });
    let proxy = rendered(Proxy::Gateway, secrets);
    let tutorial = steps().pop().unwrap().bundle(Proxy::Gateway);
    let proxy_of_agent = rendered(Proxy::Gateway, agent());
    for (name, document) in [
        ("fixed", fixed(&proxy, &tutorial).unwrap()),
        ("following", following(&proxy_of_agent, &mutual_tls(true)).unwrap()),
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/envoy/golden/{name}.json"));
        let text = format!("{document:#}\n");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(wanted, text, "{}", path.display());
    }
}
