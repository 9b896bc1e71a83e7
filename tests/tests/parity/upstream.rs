//! Servers beyond the proxy: they do what a case says and tell what they saw.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    case::{self, Asks, Protocol, Reply},
    h2_server,
    setting::Setting,
    steps,
    wire::{PATIENCE, Wire, message},
};

static ONLY_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
static ONLY_1_3: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HELLO: &str = "HTTP/1.1 200 OK\ncontent-type: text/plain\ncontent-length: 5\n\nhello";

/// The upstreams of one run.
pub(crate) struct Upstreams {
    running: BTreeMap<String, Running>,
}

struct Running {
    address: SocketAddr,
    watch_end: bool,
    seen: Arc<Seen>,
    /// Keeps the port of an upstream that does not listen.
    _reserved: Option<TcpSocket>,
    /// Fill the queue of one that does not accept.
    _queue: Option<(TcpListener, Vec<TcpStream>)>,
    _server: JoinSet<()>,
}

/// What one upstream saw: its connections, in the order in which they were accepted.
pub(crate) struct Seen {
    connections: Mutex<Vec<Value>>,
    open: watch::Sender<usize>,
}

/// What an upstream does, shared by its connections.
pub(crate) struct Script {
    case: case::Upstream,
    /// Requests so far.
    count: Mutex<usize>,
}

impl Upstreams {
    /// Starts what a case needs.
    pub(crate) async fn start(cases: BTreeMap<String, case::Upstream>, setting: &Setting) -> io::Result<Self> {
        let mut running = BTreeMap::new();
        for (name, case) in cases {
            running.insert(name, Running::start(case, setting).await?);
        }
        Ok(Self { running })
    }

    pub(crate) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let addresses = self
            .running
            .iter()
            .map(|(name, running)| (name.clone(), running.address));
        addresses.collect()
    }

    /// What each saw, once those that watch for the end have seen it.
    pub(crate) async fn told(&self) -> Value {
        let mut told = json!({});
        for (name, running) in &self.running {
            if running.watch_end {
                let mut open = running.seen.open.subscribe();
                // If it does not come, the connection is told as open.
                let _ = timeout(PATIENCE, open.wait_for(|open| *open == 0)).await;
            }
            told[name] = json!(running.seen.lock().clone());
        }
        told
    }
}

impl Running {
    async fn start(case: case::Upstream, setting: &Setting) -> io::Result<Self> {
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let (open, _) = watch::channel(0);
        let seen = Arc::new(Seen {
            connections: Mutex::default(),
            open,
        });
        let mut server = JoinSet::new();
        let socket = TcpSocket::new_v4()?;
        socket.bind(at)?;
        let (address, watch_end) = (socket.local_addr()?, case.watch_end);
        let (mut reserved, mut queue) = (None, None);
        if case.absent {
            reserved = Some(socket);
        } else if case.deaf {
            queue = Some(full(socket).await?);
        } else {
            let tls = case.tls.as_ref().map(|tls| acceptor(tls, setting));
            let script = Arc::new(Script {
                case,
                count: Mutex::default(),
            });
            server.spawn(accept(socket.listen(128)?, tls, script, Arc::clone(&seen)));
        }
        Ok(Self {
            address,
            watch_end,
            seen,
            _reserved: reserved,
            _queue: queue,
            _server: server,
        })
    }
}

/// A listener whose queue holds all it can, so that the kernel answers no more.
async fn full(socket: TcpSocket) -> io::Result<(TcpListener, Vec<TcpStream>)> {
    /// Longer than any handshake on loopback.
    const ANSWER: Duration = Duration::from_millis(100);
    let listener = socket.listen(1)?;
    let (at, mut waiting) = (listener.local_addr()?, Vec::new());
    while let Ok(stream) = timeout(ANSWER, TcpStream::connect(at)).await {
        waiting.push(stream?);
    }
    Ok((listener, waiting))
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells more of a connection.
    pub(crate) fn tell(&self, connection: usize, what: impl FnOnce(&mut Value)) {
        what(&mut self.lock()[connection]);
    }

    fn opened(&self, peer: SocketAddr) -> usize {
        let mut connections = self.lock();
        connections.push(json!({"peer": peer.to_string(), "requests": []}));
        self.open.send_modify(|open| *open += 1);
        connections.len() - 1
    }

    fn closed(&self) {
        self.open.send_modify(|open| *open -= 1);
    }
}

impl Script {
    /// What answers the next request.
    pub(crate) fn next(&self) -> Option<Reply> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let replies = &self.case.replies;
        let reply = replies.get(*count).or(replies.last()).cloned();
        *count += 1;
        reply
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<Script>, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let index = seen.opened(peer);
        connections.spawn(serve(
            stream,
            tls.clone(),
            Arc::clone(&script),
            Arc::clone(&seen),
            index,
        ));
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, script: Arc<Script>, seen: Arc<Seen>, index: usize) {
    // A connection that ends with an error has ended; what it was told before stands.
    let _ = talk(stream, tls, &script, &seen, index).await;
    seen.closed();
}

async fn talk(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    script: &Script,
    seen: &Seen,
    index: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = match tls {
        None => Wire::plain(stream)?,
        Some(acceptor) => match handshake(stream, &acceptor).await {
            Ok((wire, told)) => {
                seen.tell(index, |connection| connection["tls"] = told);
                wire
            }
            Err(error) => {
                seen.tell(index, |connection| {
                    connection["tls"] = json!({"failed": error.to_string()})
                });
                return Err(error);
            }
        },
    };
    match script.case.protocol {
        Protocol::H1 => http1(&mut wire, script, seen, index).await,
        Protocol::H2 => h2_server::serve(wire.into_stream(), script, seen, index).await,
        Protocol::Raw => {
            let events = match script.next() {
                Some(Reply::Steps { steps, .. }) => steps::run(wire, &steps).await,
                _ => steps::echo(wire).await,
            };
            seen.tell(index, |connection| connection["events"] = json!(events));
            Ok(())
        }
    }
}

async fn http1(wire: &mut Wire, script: &Script, seen: &Seen, index: usize) -> io::Result<()> {
    loop {
        let head = match wire.request().await {
            Ok(head) => head,
            Err(end) => {
                if script.case.watch_end {
                    seen.tell(index, |connection| connection["end"] = end.told());
                }
                return Ok(());
            }
        };
        let reply = script.next();
        if let Some(Reply::Steps { steps, early: true }) = &reply {
            let told = json!({"method": head.method(), "answered early": true});
            seen.tell(index, |connection| request(connection, told));
            return steps::within(wire, steps).await?.carry_out(wire);
        }
        let told = wire.request_body(&head).await;
        seen.tell(index, |connection| request(connection, told));
        match reply {
            None => wire.send(&message(HELLO)).await?,
            Some(Reply::Text(text)) => wire.send(&message(&text)).await?,
            Some(Reply::Steps { steps, .. }) => match steps::within(wire, &steps).await? {
                steps::Then::Go => {}
                ended => return ended.carry_out(wire),
            },
            Some(Reply::Message(_)) => return Err(io::Error::other("a message is for protocol: h2")),
        }
    }
}

/// Adds a request to what a connection is told to have had.
pub(crate) fn request(connection: &mut Value, told: Value) {
    if let Value::Array(requests) = &mut connection["requests"] {
        requests.push(told);
    }
}

async fn handshake(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<(Wire, Value)> {
    let socket = SockRef::from(&stream).try_clone()?;
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let client = session.peer_certificates().and_then(|chain| chain.first());
    let client =
        client.map(|der| certs::Certificate::parse(der).map_or("unreadable".to_owned(), |leaf| leaf.fingerprint()));
    let told = json!({
        "sni": session.server_name(),
        "alpn": session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        "version": session.protocol_version().map(|version| format!("{version:?}")),
        "client certificate": client,
    });
    Ok((Wire::over(Box::new(stream), socket), told))
}

fn acceptor(tls: &case::UpstreamTls, setting: &Setting) -> TlsAcceptor {
    let site = tls.site.as_deref().unwrap_or("site");
    let site = setting.shown(site);
    let versions: &[_] = match (tls.min_version.as_deref(), tls.max_version.as_deref()) {
        (_, Some("1.2")) => ONLY_1_2,
        (Some("1.3"), _) => ONLY_1_3,
        _ => rustls::ALL_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(versions)
        .expect("versions of the library");
    let builder = match tls.asks {
        Asks::No => builder.with_no_client_auth(),
        asks => {
            let roots = Arc::new(mesh_roots(setting));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, certs::provider());
            let verifier = if asks == Asks::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            builder.with_client_cert_verifier(verifier.build().expect("roots"))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::<certs::Live<certs::Identity>>::clone(site));
    config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn mesh_roots(setting: &Setting) -> rustls::RootCertStore {
    let file = setting.path().join("gateway/root-cert.pem");
    let roots = certs::Roots::load(&file).expect("the mesh's roots");
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots.certificates().iter().cloned());
    store
}
