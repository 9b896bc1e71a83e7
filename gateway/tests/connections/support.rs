//! A data plane to test, what it talks to, and its log.

use std::{future::Future, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use gateway::{Gateway, Handle, Settings};
use mesh::{
    ClusterName, ListenerName, PolicyName,
    authz::{Policy, Principal, Rbac, RbacAction, RbacFilter},
    bundle::Bundle,
    cluster::{Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, LbPolicy, UpstreamHttp},
    host::HostPattern,
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, Protocol, TcpProxy, TrafficDirection},
    log::{AccessLog, LogFormat},
    route::WeightedClusters,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
                      \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% \
                      %UPSTREAM_CLUSTER_RAW% %DOWNSTREAM_LOCAL_ADDRESS% %REQUESTED_SERVER_NAME% \
                      %DOWNSTREAM_PEER_URI_SAN%\n";

/// A data plane and its log.
pub(crate) struct Proxy {
    pub(crate) handle: Handle,
    log: LogFile,
}

/// One line of the log, by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) flags: String,
    pub(crate) details: String,
    pub(crate) termination: String,
    pub(crate) failure: String,
    pub(crate) bytes: (u64, u64),
    pub(crate) host: String,
    pub(crate) cluster: String,
    pub(crate) local: String,
    pub(crate) sni: String,
    pub(crate) peer: String,
}

pub(crate) struct LogFile(TempDir);

impl Proxy {
    /// Starts two workers with these settings.
    pub(crate) async fn start(settings: Settings) -> Self {
        let workers = NonZeroUsize::new(2).unwrap();
        let handle = Gateway::start(Settings { workers, ..settings }).await.unwrap();
        Self {
            handle,
            log: LogFile(TempDir::new().unwrap()),
        }
    }

    /// Applies a bundle whose every resource must be taken.
    pub(crate) async fn apply(&self, bundle: Bundle) {
        self.handle.apply(bundle).await.unwrap();
    }

    /// The access log for listeners and chains.
    pub(crate) fn log(&self) -> Vec<AccessLog> {
        vec![AccessLog {
            path: self.log.path(),
            format: LogFormat::Text(FORMAT.to_owned()),
            only_flags: Vec::new(),
        }]
    }

    /// Connects to a listener.
    pub(crate) async fn connect(&self, listener: &str) -> TcpStream {
        TcpStream::connect(self.address(listener)).await.unwrap()
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.handle.bound()[&ListenerName::parse(listener).unwrap()]
    }

    /// The lines, once there are `count`.
    pub(crate) async fn lines(&self, count: usize) -> Vec<Line> {
        let text = eventually(|| Some(self.log.read()).filter(|text| text.lines().count() >= count)).await;
        assert_eq!(text.lines().count(), count, "{text}");
        text.lines().map(Line::parse).collect()
    }

    /// The one line.
    pub(crate) async fn line(&self) -> Line {
        self.lines(1).await.remove(0)
    }

    /// Ends the data plane and returns everything it logged.
    pub(crate) async fn end(self) -> Vec<Line> {
        self.handle.shutdown().await;
        self.log.read().lines().map(Line::parse).collect()
    }
}

impl LogFile {
    fn path(&self) -> PathBuf {
        self.0.path().join("access.log")
    }

    fn read(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }
}

impl Line {
    #[track_caller]
    fn parse(text: &str) -> Self {
        let (head, rest) = text.split_once(" \"").unwrap();
        let (failure, rest) = rest.split_once("\" ").unwrap();
        let head: Vec<_> = head.split(' ').collect();
        let rest: Vec<_> = rest.split(' ').collect();
        let &[code, flags, details, termination] = head.as_slice() else {
            panic!("{text}");
        };
        let &[received, sent, host, cluster, local, sni, peer] = rest.as_slice() else {
            panic!("{text}");
        };
        assert_eq!(code, "0");
        Self {
            flags: flags.to_owned(),
            details: details.to_owned(),
            termination: termination.to_owned(),
            failure: failure.to_owned(),
            bytes: (received.parse().unwrap(), sent.parse().unwrap()),
            host: host.to_owned(),
            cluster: cluster.to_owned(),
            local: local.to_owned(),
            sni: sni.to_owned(),
            peer: peer.to_owned(),
        }
    }
}

/// Waits until there is something to return.
pub(crate) async fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while Instant::now() < end {
        if let Some(found) = attempt() {
            return found;
        }
        ticks.tick().await;
    }
    panic!("did not happen within {PATIENCE:?}");
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("did not happen in time")
}

/// Everything up to the end of the stream; `None` if it ends with a reset.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    match soon(stream.read_to_end(&mut all)).await {
        Ok(_) => Some(all),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

/// An upstream that sends `<`, reads to the end, then answers with what it read and `>`.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = Vec::new();
                // The other end may be gone at any point; what matters is checked there.
                let _ = stream.write_all(b"<").await;
                let _ = stream.read_to_end(&mut heard).await;
                let _ = stream.write_all(&[&heard[..], b">"].concat()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

/// Waits until a connection has reached an [`echo`], and takes its first byte.
pub(crate) async fn reached(stream: &mut (impl AsyncRead + Unpin)) {
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'<');
}

/// An address nobody listens on.
pub(crate) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A bundle of these.
pub(crate) fn bundle(
    listeners: impl IntoIterator<Item = Listener>,
    clusters: impl IntoIterator<Item = Cluster>,
) -> Bundle {
    let listeners = listeners
        .into_iter()
        .map(|listener| (listener.name.clone(), listener.into()));
    let clusters = clusters
        .into_iter()
        .map(|cluster| (cluster.name.clone(), cluster.into()));
    Bundle {
        listeners: listeners.collect(),
        clusters: clusters.collect(),
        ..Bundle::default()
    }
}

/// A listener on a port of the system's choice that reads the `ClientHello` and logs to the proxy's log.
pub(crate) fn listener(proxy: &Proxy, name: &str, filter_chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: ListenerName::parse(name).unwrap(),
        address: "127.0.0.1:0".parse().unwrap(),
        bind_to_port: true,
        use_original_dst: false,
        direction: TrafficDirection::Outbound,
        inspectors: Inspectors {
            tls: true,
            ..Inspectors::default()
        },
        inspect_timeout: None,
        continue_on_inspect_timeout: false,
        filter_chains,
        default_filter_chain: None,
        access_logs: proxy.log(),
        buffer_limit: None,
    }
}

/// A chain for these server names that relays to a cluster.
pub(crate) fn chain(proxy: &Proxy, server_names: &[&str], cluster: &str) -> FilterChain {
    FilterChain {
        name: None,
        matches: FilterChainMatch {
            server_names: server_names
                .iter()
                .map(|name| HostPattern::parse(name).unwrap())
                .collect(),
            ..FilterChainMatch::default()
        },
        tls: None,
        handshake_timeout: None,
        rbac: Vec::new(),
        protocol: Protocol::Tcp(TcpProxy {
            stat_prefix: cluster.to_owned(),
            clusters: WeightedClusters::one(ClusterName::parse(cluster).unwrap()),
            idle_timeout: None,
            max_connection_duration: None,
            access_logs: proxy.log(),
        }),
    }
}

/// A cluster without TLS, found as said.
pub(crate) fn cluster(name: &str, discovery: Discovery) -> Cluster {
    Cluster {
        name: ClusterName::parse(name).unwrap(),
        alt_stat_name: None,
        discovery,
        lb_policy: LbPolicy::LeastRequest,
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

/// Endpoints by address.
pub(crate) fn endpoints(addresses: &[SocketAddr]) -> Endpoints {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: EndpointAddress::Socket(*address),
        weight: None,
        healthy: true,
    };
    Endpoints(addresses.iter().map(endpoint).collect())
}

/// A cluster of fixed addresses.
pub(crate) fn fixed(name: &str, addresses: &[SocketAddr]) -> Cluster {
    cluster(name, Discovery::Static(endpoints(addresses)))
}

/// A filter with one policy.
pub(crate) fn rbac(action: RbacAction, name: &str, principal: Principal) -> RbacFilter {
    let policy = Policy {
        permissions: vec![mesh::authz::Permission::Any],
        principals: vec![principal],
    };
    RbacFilter {
        rules: Some(
            Rbac {
                action,
                policies: [(PolicyName::parse(name).unwrap(), policy.into())].into(),
            }
            .into(),
        ),
        ..RbacFilter::default()
    }
}
