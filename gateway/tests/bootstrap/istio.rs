//! The bootstrap that Istio's agent writes for an egress gateway: everything in it is taken, by Envoy and by us.

use std::{fs, process::Command};

use gateway::{Gateway, ads, bootstrap::Plan};
use mesh::ListenerName;
use tempfile::TempDir;

use super::proxy::{Proxy, envoy};

const BOOTSTRAP: &str = include_str!("istio.yaml");

/// In a directory where the agent's sockets would be.
fn bootstrap(directory: &TempDir) -> String {
    BOOTSTRAP
        .replace("<directory>", directory.path().to_str().unwrap())
        .replace("<agent port>", "9")
}

#[tokio::test]
async fn a_gateway_starts_from_it() {
    let directory = TempDir::new().unwrap();
    let plan = Plan::read(&bootstrap(&directory), None).unwrap();
    let control = plan.control.unwrap();
    assert_eq!(control.server, format!("unix:{}/xds", directory.path().display()));
    assert_eq!(control.protocol, ads::Protocol::Delta);
    assert_eq!(control.wants, ads::Wants::default());
    assert_eq!(
        (control.node_cluster.as_str(), &control.metadata["NAMESPACE"]),
        ("istio-egressgateway.istio-egress", &"istio-egress".into())
    );
    let gateway = Gateway::start(plan.settings).await.unwrap();
    for listener in ["stats", "readiness"] {
        assert!(
            gateway.bound().contains_key(&ListenerName::parse(listener).unwrap()),
            "{listener}"
        );
    }
    gateway.follow(control).unwrap();
    // Nothing listens where the agent would.
    let gateway = Proxy::Ours(Box::new(gateway));
    gateway.answers("readiness", "/elsewhere", "404", "").await;
}

#[test]
fn envoy_takes_it_too() {
    let Some(envoy) = envoy() else { return };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("bootstrap.yaml");
    fs::write(&file, bootstrap(&directory)).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
