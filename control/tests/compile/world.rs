//! Configurations to compile: files of `examples/`, or text in place.

use std::{fs, path::Path};

use control::{
    compile::compile,
    diag::Diagnostic,
    istio::{Objects, load},
    mesh_config::MeshConfig,
    node::{Interception, Node, Role},
    world::World,
};
use mesh::bundle::Bundle;

/// A Gateway like that of the tutorial.
pub(crate) const GATEWAY: &str = r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress-gateway, namespace: istio-egress}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}
---
";

/// The objects of files below `examples/`; a later file of the same name replaces an earlier one.
#[track_caller]
pub(crate) fn examples(files: &[&str]) -> Objects {
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
        fs::copy(&from, directory.path().join(from.file_name().unwrap())).unwrap();
    }
    read(directory.path())
}

/// The objects of a text, together with the tutorial's cluster.
#[track_caller]
pub(crate) fn text(yaml: &str) -> Objects {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tutorial/00-cluster.yaml");
    fs::copy(cluster, directory.path().join("cluster.yaml")).unwrap();
    fs::write(directory.path().join("case.yaml"), yaml).unwrap();
    read(directory.path())
}

#[track_caller]
fn read(directory: &Path) -> Objects {
    let loaded = load(directory);
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|found| found.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    loaded.objects
}

/// The tutorial's egress gateway.
pub(crate) fn gateway() -> Node {
    let labels = [("app", "istio-egressgateway"), ("istio", "egressgateway")];
    Node {
        role: Role::Gateway,
        namespace: "istio-egress".into(),
        service_account: "istio-egressgateway-service-account".into(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ips: vec!["10.1.4.12".parse().unwrap()],
        interception: Interception::Redirect,
        http_proxy_port: None,
    }
}

/// The sidecar of a team's test application.
pub(crate) fn sidecar(namespace: &str) -> Node {
    Node {
        role: Role::Sidecar,
        namespace: namespace.into(),
        service_account: "test".into(),
        labels: [("app".to_owned(), "test".to_owned())].into(),
        ips: vec!["10.1.0.17".parse().unwrap()],
        interception: Interception::Redirect,
        http_proxy_port: None,
    }
}

/// Keeps golden files short; the default format has a test where it is defined.
const MESH: &str = r#"{"accessLogFormat": "%RESPONSE_CODE%\n"}"#;

/// Compiles with the default mesh configuration, but for the length of a log line.
pub(crate) fn build(objects: &Objects, node: &Node) -> (Bundle, Vec<Diagnostic>) {
    build_with(objects, node, MESH)
}

/// Compiles with a mesh configuration written in JSON.
pub(crate) fn build_with(objects: &Objects, node: &Node, mesh: &str) -> (Bundle, Vec<Diagnostic>) {
    let mesh: MeshConfig = serde_json::from_str(mesh).unwrap();
    compile(&World::new(objects), &mesh, node)
}

/// Compiles what has nothing wrong with it.
#[track_caller]
pub(crate) fn clean(objects: &Objects, node: &Node) -> Bundle {
    let (bundle, notes) = build(objects, node);
    assert!(notes.is_empty(), "{notes:#?}");
    bundle
}
