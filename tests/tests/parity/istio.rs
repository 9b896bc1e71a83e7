//! Istio's objects in place of a case's listener, routes and clusters: control compiles them for the tutorial's gateway, and
//! addresses of this machine take the place of those that they name. Everything else stays as an Envoy of the mesh would get it.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use control::{
    compile::compile,
    diag::Diagnostic,
    istio::load,
    mesh_config::MeshConfig,
    node::{Interception, Node, Role},
    world::World,
};
use mesh::{
    bundle::Bundle,
    xds::{
        bootstrap,
        render::{Files, Proxy, Secrets, fixed},
    },
};
use serde_json::{Value, json};

use crate::{
    case::{Case, Istio},
    config::{Places, access_log, socket},
};

/// The bootstrap of a gateway that Istio's objects configure.
///
/// # Errors
/// What control says of the objects, or that the port has no listener.
pub(crate) fn bootstrap(case: &Case, istio: &Istio, places: &Places<'_>) -> Result<Value, String> {
    let mut bundle = compiled(istio)?;
    let port = istio.port;
    bundle.listeners.retain(|_, listener| listener.address.port() == port);
    let mut document = fixed(&proxy(places), &bundle).map_err(|error| error.to_string())?;
    let listener = &mut document["static_resources"]["listeners"][0];
    if listener.is_null() {
        return Err(format!("no listener has port {port}"));
    }
    listener["address"] = socket(SocketAddr::new(own_loopback(places), port));
    localize(&mut document, istio, &access_log(case, places), places);
    Ok(document)
}

fn compiled(istio: &Istio) -> Result<Bundle, String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for (index, file) in istio.examples.iter().enumerate() {
        let to = scratch.path().join(format!("{index}.yaml"));
        fs::copy(examples.join(file), to).map_err(|error| format!("{file}: {error}"))?;
    }
    fs::write(scratch.path().join("case.yaml"), &istio.objects).map_err(|error| error.to_string())?;
    let loaded = load(scratch.path());
    let mesh: MeshConfig = serde_json::from_str("{}").map_err(|error| error.to_string())?;
    let (bundle, notes) = compile(&World::new(&loaded.objects), &mesh, &gateway());
    let found = loaded.diagnostics.iter().chain(&notes);
    let errors: Vec<_> = found
        .filter(|found| found.is_error())
        .map(Diagnostic::to_string)
        .collect();
    if errors.is_empty() {
        Ok(bundle)
    } else {
        Err(errors.join("\n"))
    }
}

/// The tutorial's.
fn gateway() -> Node {
    let labels = [("app", "istio-egressgateway"), ("istio", "egressgateway")];
    Node {
        role: Role::Gateway,
        namespace: "istio-egress".into(),
        service_account: "istio-egressgateway-service-account".into(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ips: vec![[10, 1, 4, 12].into()],
        interception: Interception::Redirect,
        http_proxy_port: None,
    }
}

fn proxy(places: &Places<'_>) -> Proxy {
    Proxy {
        node: bootstrap::Node {
            id: "router~127.0.0.1~egress.istio-egress~istio-egress.svc.cluster.local".to_owned(),
            cluster: "egress".to_owned(),
            ..bootstrap::Node::default()
        },
        admin: Some(([127, 0, 0, 1], 0).into()),
        resolvers: vec![places.names],
        secrets: Secrets::Files(Files {
            chain: places.pki.join("gateway/cert-chain.pem"),
            key: places.pki.join("gateway/key.pem"),
            roots: places.pki.join("gateway/root-cert.pem"),
            system_roots: places.pki.join("site/root-cert.pem"),
        }),
    }
}

/// An address of nobody else, so that the gateway has the port that policies name: an upstream's port is only ours, and so is what is
/// made of it.
fn own_loopback(places: &Places<'_>) -> IpAddr {
    let port = places.upstreams.values().next().map_or(0, SocketAddr::port);
    let [high, low] = port.to_be_bytes();
    [127, high, low, 9].into()
}

/// Puts this machine's ports and the case's log where the objects' are.
fn localize(value: &mut Value, istio: &Istio, log: &Value, places: &Places<'_>) {
    if let Some(logs) = value.get_mut("access_log").filter(|logs| logs.is_array()) {
        let filter = logs[0].get("filter").cloned();
        *logs = json!([log]);
        if let Some(filter) = filter {
            logs[0]["filter"] = filter;
        }
    }
    if let Some(port) = value
        .get("socket_address")
        .and_then(|address| local_port(address, istio, places))
    {
        value["socket_address"]["port_value"] = json!(port);
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| localize(item, istio, log, places)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| localize(member, istio, log, places)),
        _ => {}
    }
}

/// The port of the upstream that stands where a host and port are.
fn local_port(address: &Value, istio: &Istio, places: &Places<'_>) -> Option<u16> {
    let at = format!("{}:{}", address["address"].as_str()?, address["port_value"]);
    let upstream = istio.upstreams.get(&at)?;
    places.upstreams.get(upstream).map(|address| address.port())
}
