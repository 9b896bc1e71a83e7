//! Resources of one gateway from several sources at once: static, in files, from a control plane.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control::{
    node::Node,
    serve::{Generation, Security, Server, Source},
};
use gateway::{Following, Gateway, Handle, bootstrap::Plan};
use mesh::{
    ListenerName,
    bundle::Bundle,
    xds::{Resource, ResourceType, file::Contents},
};
use sallyport::lab::pki::MeshCa;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpStream, UnixListener},
    sync::watch,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(30);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const NODE: &str = "router~127.0.0.1~gateway.a~a.svc.cluster.local";
const TYPE: &str = "type.googleapis.com/";
/// Both forms of ADS.
const BOTH: [&str; 2] = ["DELTA_GRPC", "GRPC"];

/// What a control plane has for everybody.
struct All(Bundle);

impl Source for All {
    fn compile(&self, _node: &Node) -> Bundle {
        self.0.clone()
    }
}

fn generation(number: u64, bundle: Bundle) -> Generation {
    Generation {
        number,
        source: Arc::new(All(bundle)),
    }
}

async fn serve(bundle: Bundle) -> (Server, watch::Sender<Generation>) {
    let (generations, changes) = watch::channel(generation(1, bundle));
    let server = Server::start(LOOPBACK, Security::PlaintextOnLoopback, changes).await;
    (server.unwrap(), generations)
}

/// A listener whose routes come from somewhere.
fn listener(name: &str, routes: &str, from: &Value) -> Value {
    json!({
        "@type": format!("{TYPE}envoy.config.listener.v3.Listener"),
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "http",
            "rds": {"route_config_name": routes, "config_source": from},
            "http_filters": [{"name": "router", "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router"),
            }}],
        }}]}],
    })
}

/// The same, as it is written into a bootstrap.
fn fixed(mut listener: Value) -> Value {
    listener.as_object_mut().unwrap().remove("@type");
    json!({"static_resources": {"listeners": [listener]}})
}

/// Routes that answer everything with `says`.
fn routes(name: &str, says: &str) -> Value {
    json!({
        "@type": format!("{TYPE}envoy.config.route.v3.RouteConfiguration"),
        "name": name,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": says}}},
        ]}],
    })
}

/// What a control plane has: these listeners and route configurations.
fn bundle(listeners: &[Value], routes: &[Value]) -> Bundle {
    let mut bundle = Bundle::default();
    let all = [(ResourceType::Listener, listeners), (ResourceType::RouteConfig, routes)];
    for (kind, resources) in all {
        let text = json!({"resources": resources}).to_string();
        for resource in Contents::read(&text, kind).unwrap().resources.into_values() {
            match resource.unwrap() {
                Resource::Listener(listener) => drop(bundle.listeners.insert(listener.name.clone(), listener)),
                Resource::RouteConfig(routes) => drop(bundle.routes.insert(routes.name.clone(), routes)),
                other => panic!("{}", other.name()),
            }
        }
    }
    bundle
}

fn over_ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

/// A directory of resource files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.json"))
    }

    fn source(&self, name: &str) -> Value {
        json!({"path_config_source": {"path": self.path(name)}, "resource_api_version": "V3"})
    }

    fn write(&self, name: &str, resources: &[Value]) {
        let beside = self.0.path().join("beside");
        fs::write(&beside, json!({"resources": resources}).to_string()).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

/// A gateway and what it follows; its bootstrap has `more`.
async fn gateway(server: &Server, api: &str, more: Value) -> (Handle, Following) {
    let bootstrap = bootstrap(&socket(server.address()), &Value::Null, api, &more);
    let plan = Plan::read(&bootstrap.to_string(), None).unwrap();
    let handle = Gateway::start(plan.settings).await.unwrap();
    let following = handle.follow(plan.control.unwrap()).unwrap();
    (handle, following)
}

/// Of a gateway that follows the control plane at an address, with this transport socket.
fn bootstrap(address: &Value, transport: &Value, api: &str, more: &Value) -> Value {
    let mut bootstrap = json!({
        "node": {"id": NODE, "cluster": "egress"},
        "dynamic_resources": {"ads_config": {
            "api_type": api,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}],
        }},
        "static_resources": {"clusters": [{
            "name": "control",
            "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "transport_socket": transport,
            "load_assignment": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        }]},
    });
    for (section, fields) in more.as_object().unwrap() {
        for (field, value) in fields.as_object().unwrap() {
            bootstrap[section][field] = value.clone();
        }
    }
    bootstrap
}

/// Waits until a listener answers with `says`.
async fn answers(gateway: &Handle, listener: &str, says: &str) {
    let mut changes = gateway.changes();
    let mut last = String::new();
    let asking = async {
        loop {
            let address = gateway.bound().get(&ListenerName::parse(listener).unwrap()).copied();
            if let Some(address) = address {
                last = get(address).await.unwrap();
                if last.ends_with(says) {
                    return;
                }
            }
            changes.changed().await.unwrap();
        }
    };
    let asked = timeout(DEADLINE, asking).await;
    assert!(asked.is_ok(), "{listener} should say {says:?}, but {last:?}");
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn static_listeners_take_routes_from_the_control_plane_and_nothing_else() {
    for api in BOTH {
        let unwanted = listener("unwanted", "r", &over_ads());
        let (server, generations) = serve(bundle(std::slice::from_ref(&unwanted), &[routes("r", "first")])).await;
        let own = fixed(listener("static", "r", &over_ads()));
        let (gateway, following) = gateway(&server, api, own).await;
        answers(&gateway, "static", "first").await;
        generations.send_replace(generation(2, bundle(&[unwanted], &[routes("r", "second")])));
        answers(&gateway, "static", "second").await;
        assert_eq!(gateway.bound().len(), 1, "{api}");
        let mut state = following.state();
        timeout(DEADLINE, state.wait_for(|state| state.complete))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn listeners_of_the_control_plane_take_routes_from_files() {
    for api in BOTH {
        let files = Files::new();
        files.write("rds", &[routes("r", "first")]);
        let (server, generations) = serve(bundle(&[listener("remote", "r", &files.source("rds"))], &[])).await;
        let wants = json!({"dynamic_resources": {"lds_config": over_ads()}});
        let (gateway, _following) = gateway(&server, api, wants).await;
        answers(&gateway, "remote", "first").await;
        files.write("rds", &[routes("r", "second")]);
        answers(&gateway, "remote", "second").await;

        // The same name from the control plane is another route configuration.
        let other = listener("other", "r", &over_ads());
        let both = [listener("remote", "r", &files.source("rds")), other];
        generations.send_replace(generation(2, bundle(&both, &[routes("r", "remote")])));
        answers(&gateway, "other", "remote").await;
        answers(&gateway, "remote", "second").await;
    }
}

#[tokio::test]
async fn a_file_that_comes_later_opens_the_listener_that_waits_for_it() {
    let files = Files::new();
    // Watched from the first look on, though nothing is there yet.
    let (server, _generations) = serve(bundle(&[listener("remote", "r", &files.source("rds"))], &[])).await;
    let wants = json!({"dynamic_resources": {"lds_config": over_ads()}});
    let (gateway, _following) = gateway(&server, BOTH[0], wants).await;
    timeout(DEADLINE, server.acknowledged_by(NODE)).await.unwrap().unwrap();
    assert_eq!(gateway.bound().len(), 0);
    files.write("rds", &[routes("r", "late")]);
    answers(&gateway, "remote", "late").await;
}

#[tokio::test]
async fn listeners_of_files_move_from_one_route_configuration_of_the_control_plane_to_another() {
    for api in BOTH {
        let files = Files::new();
        files.write("lds", &[listener("local", "one", &over_ads())]);
        let (server, generations) = serve(bundle(&[], &[routes("one", "first")])).await;
        let wants = json!({"dynamic_resources": {"lds_config": files.source("lds")}});
        let (gateway, _following) = gateway(&server, api, wants).await;
        answers(&gateway, "local", "first").await;

        // Until the new routes are there, the listener stays as it was, with its old ones.
        files.write("lds", &[listener("local", "two", &over_ads())]);
        let both = [routes("one", "still first"), routes("two", "second")];
        generations.send_replace(generation(2, bundle(&[], &both[..1])));
        answers(&gateway, "local", "still first").await;
        generations.send_replace(generation(3, bundle(&[], &both)));
        answers(&gateway, "local", "second").await;
    }
}

/// What a gateway shows to, and wants of, the control plane `name`.
fn tls(directory: &Path, name: &str) -> Value {
    let file = |name: &str| json!({"filename": directory.join(name)});
    json!({"name": "tls", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": file("cert-chain.pem"), "private_key": file("key.pem")}],
            "validation_context": {
                "trusted_ca": file("root-cert.pem"),
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": name}}],
            },
        },
    }})
}

#[tokio::test]
async fn certificates_for_the_control_plane_are_those_of_the_bootstrap() {
    let ca = MeshCa::new("cluster.local").unwrap();
    let (istiod, own) = (
        ca.workload("istio-system", "istiod").unwrap(),
        ca.workload("a", "sa").unwrap(),
    );
    let directory = TempDir::new().unwrap();
    own.identity
        .load()
        .save(directory.path(), ca.authority().roots())
        .unwrap();
    let (_generations, changes) = watch::channel(generation(
        1,
        bundle(&[listener("remote", "r", &over_ads())], &[routes("r", "x")]),
    ));
    let server = Server::start(LOOPBACK, Security::MutualTls(istiod.clone()), changes)
        .await
        .unwrap();
    let wants = json!({"dynamic_resources": {"lds_config": over_ads()}});
    let start = async |name: &str| {
        let text = bootstrap(&socket(server.address()), &tls(directory.path(), name), BOTH[0], &wants).to_string();
        let plan = Plan::read(&text, None).unwrap();
        let handle = Gateway::start(plan.settings).await.unwrap();
        let following = handle.follow(plan.control.unwrap()).unwrap();
        (handle, following)
    };
    let (gateway, _following) = start(istiod.id().as_str()).await;
    answers(&gateway, "remote", "x").await;

    let (_gateway, following) = start("spiffe://cluster.local/ns/istio-system/sa/other").await;
    let mut state = following.state();
    let failed = timeout(DEADLINE, state.wait_for(|state| state.last_error.is_some())).await;
    let error = failed.unwrap().unwrap().last_error.clone().unwrap();
    assert!(error.contains("SAN matcher, certificate SANs are"), "{error}");
}

#[tokio::test]
async fn a_control_plane_may_be_behind_a_unix_socket() {
    let (server, _generations) = serve(bundle(&[listener("remote", "r", &over_ads())], &[routes("r", "x")])).await;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("xds");
    let (agent, behind) = (UnixListener::bind(&path).unwrap(), server.address());
    tokio::spawn(async move {
        let (mut from, _) = agent.accept().await.unwrap();
        let mut to = TcpStream::connect(behind).await.unwrap();
        copy_bidirectional(&mut from, &mut to).await
    });
    let wants = json!({"dynamic_resources": {"lds_config": over_ads()}});
    let text = bootstrap(&json!({"pipe": {"path": path}}), &Value::Null, BOTH[0], &wants).to_string();
    let plan = Plan::read(&text, None).unwrap();
    let gateway = Gateway::start(plan.settings).await.unwrap();
    let _following = gateway.follow(plan.control.unwrap()).unwrap();
    answers(&gateway, "remote", "x").await;
}

#[tokio::test]
async fn nothing_waits_for_a_control_plane_that_there_is_not() {
    let files = Files::new();
    files.write("rds", &[routes("r", "x")]);
    let check = |from: Value, expect: Option<&str>| {
        let text = fixed(listener("static", "r", &from)).to_string();
        let error = Plan::read(&text, None).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expect);
    };
    check(
        over_ads(),
        Some("listener static waits for something over ads, but dynamic_resources.ads_config is not set"),
    );
    check(files.source("rds"), None);
}
