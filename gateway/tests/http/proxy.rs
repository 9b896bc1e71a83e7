//! A data plane with one HTTP listener, and a client that speaks to it byte by byte.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use gateway::{Gateway, Handle, Settings};
use mesh::{
    ClusterName, ListenerName, PolicyName, RouteConfigName,
    authz::{Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    bundle::Bundle,
    cluster::{Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, LbPolicy, UpstreamHttp},
    host::HostPattern,
    listener::{
        Codec, EscapedSlashes, FilterChain, FilterChainMatch, ForwardClientCert, Http, Http2Settings, HttpLimits,
        HttpTimeouts, Inspectors, Listener, Protocol, RouteSource, ServerHeader, TrafficDirection, Underscores,
    },
    log::{AccessLog, LogFormat},
    matcher::StringMatcher,
    route::{
        Domain, Forward, HeaderChanges, PathMatch, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost,
        WeightedClusters,
    },
    source::Source,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What is configured.
pub(crate) struct Plan {
    pub(crate) http: Http,
    pub(crate) routes: Vec<Route>,
    pub(crate) clusters: Vec<Cluster>,
}

/// A data plane that runs.
pub(crate) struct Proxy {
    handle: Handle,
    pub(crate) address: SocketAddr,
    logs: tempfile::TempDir,
}

const FORMAT: &str = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                      %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n";

impl Plan {
    /// Every host goes to one cluster with these endpoints.
    pub(crate) fn to(endpoints: &[SocketAddr]) -> Self {
        Self {
            http: http(),
            routes: vec![forward("c")],
            clusters: vec![cluster("c", endpoints)],
        }
    }

    /// The route's `Forward`.
    pub(crate) fn with_forward(mut self, change: impl FnOnce(&mut Forward)) -> Self {
        let RouteAction::Forward(forward) = &mut self.routes[0].action else {
            unreachable!("made by forward()")
        };
        change(forward);
        self
    }

    /// The connection manager.
    pub(crate) fn with_http(mut self, change: impl FnOnce(&mut Http)) -> Self {
        change(&mut self.http);
        self
    }

    /// The cluster.
    pub(crate) fn with_cluster(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        change(&mut self.clusters[0]);
        self
    }

    pub(crate) async fn start(self) -> Proxy {
        let logs = tempfile::tempdir().unwrap();
        let settings = Settings {
            workers: NonZeroUsize::MIN,
            name_servers: vec![loopback()],
            ..Settings::default()
        };
        let handle = Gateway::start(settings).await.unwrap();
        handle.apply(self.bundle(logs.path())).await.unwrap();
        let address = handle.bound()[&listener_name()];
        Proxy { handle, address, logs }
    }

    fn bundle(self, logs: &Path) -> Bundle {
        let mut http = self.http;
        http.access_logs = vec![AccessLog {
            path: logs.join("log"),
            format: LogFormat::Text(FORMAT.to_owned()),
            only_flags: Vec::new(),
        }];
        http.routes = RouteSource::Inline(RouteConfig {
            name: RouteConfigName::parse("r").unwrap(),
            virtual_hosts: vec![Arc::new(VirtualHost {
                name: "v".to_owned(),
                domains: ["example.com", "*.example.com"].map(domain).to_vec(),
                routes: self.routes,
                require_tls: false,
                include_attempt_count: true,
            })],
            ignore_port_in_host_matching: true,
        });
        let clusters = self.clusters.into_iter();
        Bundle {
            listeners: BTreeMap::from([(listener_name(), listener(http).into())]),
            clusters: clusters.map(|cluster| (cluster.name.clone(), cluster.into())).collect(),
            ..Bundle::default()
        }
    }
}

/// An RBAC filter that allows requests for this path only.
pub(crate) fn only_path(path: &str) -> RbacFilter {
    let policy = Policy {
        permissions: vec![Permission::Path(StringMatcher::exact(path))],
        principals: vec![Principal::Any],
    };
    let name = PolicyName::parse("ns[a]-policy[b]-rule[0]").unwrap();
    let rules = Rbac {
        action: RbacAction::Allow,
        policies: BTreeMap::from([(name, policy.into())]),
    };
    RbacFilter {
        rules: Some(rules.into()),
        ..RbacFilter::default()
    }
}

fn domain(host: &str) -> Domain {
    Domain {
        host: HostPattern::parse(host).unwrap(),
        port: None,
    }
}

fn listener_name() -> ListenerName {
    ListenerName::parse("l").unwrap()
}

impl Proxy {
    /// One connection of a client that writes these bytes and reads until the proxy closes.
    pub(crate) async fn exchange(&self, bytes: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut answer))
            .await
            .expect("the proxy closes")
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Replaces the configuration.
    pub(crate) async fn apply(&self, plan: Plan) {
        self.handle.apply(plan.bundle(self.logs.path())).await.unwrap();
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits for a line and ends; the lines of the log.
    pub(crate) async fn lines(&self, count: usize) -> Vec<String> {
        let path = self.logs.path().join("log");
        let wait = async {
            loop {
                let text = tokio::fs::read_to_string(&path).await.unwrap_or_default();
                let lines: Vec<_> = text.lines().map(str::to_owned).collect();
                if lines.len() >= count {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let lines = timeout(PATIENCE, wait).await.expect("the lines are written");
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// The only line.
    pub(crate) async fn line(&self) -> String {
        self.lines(1).await.remove(0)
    }

    pub(crate) async fn drain(self) -> tempfile::TempDir {
        self.handle.drain(PATIENCE).await;
        self.logs
    }
}

/// A request of curl's kind that ends its connection.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
}

/// The body of a response.
pub(crate) fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 53))
}

pub(crate) fn forward(cluster: &str) -> Route {
    route(RouteAction::Forward(Box::new(Forward {
        clusters: WeightedClusters::one(ClusterName::parse(cluster).unwrap()),
        timeout: Some(Duration::ZERO),
        idle_timeout: None,
        retry: None,
        host_rewrite: None,
        prefix_rewrite: None,
        regex_rewrite: None,
        mirrors: Vec::new(),
        terminate_connect: false,
        refused_upgrades: Vec::new(),
    })))
}

pub(crate) fn route(action: RouteAction) -> Route {
    Route {
        name: None,
        matches: RouteMatch {
            path: PathMatch::Prefix("/".to_owned()),
            case_sensitive: true,
            headers: Vec::new(),
            query: Vec::new(),
        },
        action,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}

pub(crate) fn cluster(name: &str, endpoints: &[SocketAddr]) -> Cluster {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: EndpointAddress::Socket(*address),
        weight: None,
        healthy: true,
    };
    Cluster {
        name: ClusterName::parse(name).unwrap(),
        alt_stat_name: None,
        discovery: Discovery::Static(Endpoints(endpoints.iter().map(endpoint).collect())),
        lb_policy: LbPolicy::RoundRobin,
        connect_timeout: None,
        tls: None,
        http: UpstreamHttp::Http1,
        auto_sni: false,
        auto_san_validation: false,
        circuit_breakers: None,
        buffer_limit: None,
        reuse: mesh::cluster::Reuse::default(),
    }
}

fn listener(http: Http) -> Listener {
    Listener {
        name: listener_name(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        bind_to_port: true,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors::default(),
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains: vec![FilterChain {
            name: None,
            matches: FilterChainMatch::default(),
            tls: None,
            handshake_timeout: None,
            rbac: Vec::new(),
            protocol: Protocol::Http(Box::new(http)),
        }],
        default_filter_chain: None,
        access_logs: Vec::new(),
        buffer_limit: None,
    }
}

/// As istiod configures a gateway.
fn http() -> Http {
    Http {
        stat_prefix: "s".to_owned(),
        codec: Codec::Auto,
        routes: RouteSource::Rds(RouteConfigName::parse("r").unwrap(), Source::Ads),
        rbac: Vec::new(),
        use_remote_address: true,
        xff_trusted_hops: 0,
        client_cert: ForwardClientCert::Sanitize,
        server_name: Some("istio-envoy".to_owned()),
        server_header: ServerHeader::Overwrite,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Allow,
        upgrades: vec!["websocket".to_owned()],
        generate_request_id: None,
        preserve_external_request_id: false,
        proxy_100_continue: true,
        accept_http_10: false,
        allow_absolute_url: None,
        http2: Http2Settings::default(),
        limits: HttpLimits::default(),
        timeouts: HttpTimeouts {
            stream_idle: Some(Duration::ZERO),
            ..HttpTimeouts::default()
        },
        access_logs: Vec::new(),
    }
}
