//! Many sets at once: one proxy with a filter chain for each, told apart by SNI; requests of a client in one go.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Place, Set, Verdict,
    request::{Door, Protocol},
};
use crate::{
    case::{Case, ClientTls, Connection},
    client,
    config::{self, Places},
    proxy::{Kind, Proxy},
    run,
    tls::Client,
    wire::{PATIENCE, Wire},
};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// The listener's address.
const LISTENER: [u8; 4] = [127, 0, 0, 1];

/// Runs of this process, for names of their directories.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Puts every request of every set to one proxy.
///
/// # Errors
/// The proxy does not start, and what it says.
pub(super) async fn verdicts(sets: &[Set], kind: Kind) -> Result<BTreeMap<Place, Verdict>, String> {
    let setting = run::setting();
    let scratch = setting.scratch(&format!("random-{}", RUNS.fetch_add(1, Ordering::Relaxed)));
    let log = scratch.join("access.log");
    let port = Reserved::new().map_err(|error| error.to_string())?;
    let config = bootstrap(sets, port.address, setting.path(), &log);
    let proxy = Proxy::start(kind, &config, &scratch, log.clone()).await?;
    let statuses = ask_all(sets, proxy.address).await;
    proxy.logged(statuses.len()).await;
    proxy.stop().await;
    Ok(with_details(statuses, &log))
}

/// A port that stays ours between the configuration that names it and the proxy that binds it.
struct Reserved {
    _socket: Socket,
    address: SocketAddr,
}

impl Reserved {
    fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Both proxies share their ports, so they may bind what is bound here and listens not.
        socket.set_reuse_port(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((LISTENER, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok(Self {
            address: address.ok_or_else(|| io::Error::other("no address of IPv4"))?,
            _socket: socket,
        })
    }
}

fn bootstrap(sets: &[Set], address: SocketAddr, pki: &Path, log: &Path) -> Value {
    let places = Places {
        upstreams: &BTreeMap::new(),
        names: address,
        pki,
        log,
    };
    let chains = sets.iter().enumerate().map(|(index, set)| {
        let mut chain = config::chains(&case(set), &places).swap_remove(0);
        chain["filter_chain_match"] = json!({"server_names": ["*.!.test"]});
        fill(&mut chain, &label(index), address.port());
        chain
    });
    let listener = json!({
        "name": "listener",
        "address": config::socket(address),
        "filter_chains": chains.collect::<Vec<_>>(),
        "listener_filters": [{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": config::typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
        }],
    });
    config::document(&listener, &[], &places)
}

fn case(set: &Set) -> Case {
    let case = json!({
        "about": "",
        "listener": "mtls",
        "http": set.http,
        "rbac": set.filters,
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        "tls": {"require_client_certificate": false},
        "log_format": {"text_format_source": {
            "inline_string": "%REQ(X-MARK)% %RESPONSE_CODE_DETAILS%\n",
        }},
        "client": [],
        "expect": {},
    });
    serde_json::from_value(case).expect("a case without a file")
}

/// The set's label in names.
fn label(index: usize) -> String {
    format!("p{index}")
}

/// Puts the set's label and the listener's port where policies name them.
fn fill(value: &mut Value, label: &str, port: u16) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, label, port)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, label, port)),
        Value::String(text) if text == "{port}" => *value = json!(port),
        Value::String(text) => *text = text.replace('!', label),
        _ => {}
    }
}

async fn ask_all(sets: &[Set], proxy: SocketAddr) -> BTreeMap<Place, u16> {
    let doors = sets.iter().enumerate().flat_map(|(set, asked)| {
        let doors = asked.doors.iter().enumerate();
        doors.map(move |(index, door)| ((set, index), door.clone()))
    });
    let mut queues: Vec<Vec<((usize, usize), Door)>> = vec![Vec::new(); CLIENTS];
    doors
        .enumerate()
        .for_each(|(turn, door)| queues[turn % CLIENTS].push(door));
    let tls = Arc::new(Client::new(run::setting()));
    let mut clients = JoinSet::new();
    for queue in queues {
        let tls = Arc::clone(&tls);
        clients.spawn(async move {
            let mut told = Vec::new();
            for ((set, index), door) in queue {
                let statuses = ask(&door, &label(set), &format!("{set}.{index}"), proxy, &tls).await;
                let places = statuses.into_iter().enumerate();
                told.extend(places.map(|(request, status)| ((set, index, request), status)));
            }
            told
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// The status of each of a client's requests, 0 for none.
async fn ask(door: &Door, label: &str, mark: &str, proxy: SocketAddr, tls: &Client<'_>) -> Vec<u16> {
    let mut statuses = Vec::new();
    // A proxy may end the connection after an answer; the rest is asked on another one.
    while statuses.len() < door.requests.len() {
        let before = statuses.len();
        // What goes wrong shows as a request without an answer.
        let _ = ask_rest(door, label, mark, proxy, tls, &mut statuses).await;
        if statuses.len() == before {
            statuses.push(0);
        }
    }
    statuses
}

async fn ask_rest(
    door: &Door,
    label: &str,
    mark: &str,
    proxy: SocketAddr,
    tls: &Client<'_>,
    statuses: &mut Vec<u16>,
) -> io::Result<()> {
    let alpn = match door.protocol {
        Protocol::H1 => "http/1.1",
        Protocol::H2 => "h2",
    };
    let settings = ClientTls {
        identity: Some(door.identity.to_owned()),
        sni: Some(door.sni.replace('!', label)),
        alpn: vec![alpn.to_owned()],
        ..ClientTls::default()
    };
    let stream = client::connect(proxy, door.from).await?;
    let socket = SockRef::from(&stream).try_clone()?;
    let carried = Arc::default();
    let handshake = timeout(PATIENCE, tls.handshake(stream, &settings, &carried));
    let (stream, _) = handshake.await.map_err(io::Error::other)??;
    let mut wire = Wire::over(stream, socket);
    let rest = door.requests.iter().enumerate().skip(statuses.len());
    let marked = rest.map(|(index, request)| (request, format!("{mark}.{index}")));
    if door.protocol == Protocol::H2 {
        let together = marked.map(|(request, mark)| request.message(&mark)).collect();
        let connection = Connection {
            together,
            ..Connection::default()
        };
        let told = client::http2(wire, &connection).await?;
        statuses.extend(told.iter().map(status));
        return Ok(());
    }
    // One after the other: of two that wait, Envoy would take the third for an attack.
    for (request, mark) in marked {
        wire.send(request.text(&mark).as_bytes()).await?;
        let response = wire.response(&request.method).await;
        match status(&response) {
            0 => break,
            status => statuses.push(status),
        }
        if response["headers"]["connection"] == json!(["close"]) {
            break;
        }
    }
    Ok(())
}

fn status(response: &Value) -> u16 {
    let status = response["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    status.unwrap_or_default()
}

fn with_details(statuses: BTreeMap<Place, u16>, log: &Path) -> BTreeMap<Place, Verdict> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let details: HashMap<_, _> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let verdict = |((set, door, request), status): (Place, u16)| {
        let details = details.get(format!("{set}.{door}.{request}").as_str());
        let details = details.copied().unwrap_or_default().to_owned();
        ((set, door, request), Verdict { status, details })
    };
    statuses.into_iter().map(verdict).collect()
}
