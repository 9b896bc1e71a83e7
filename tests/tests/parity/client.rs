//! Clients: they connect to the proxy, do what a case says, and tell what came back.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use sallyport::lab::dns::Zone;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    case::{Connection, Message},
    h2_server::{cause, header_map, headers, read_body, send_rest},
    run, steps,
    tls::{Carried, Client},
    wire::{PATIENCE, Wire, message},
};

/// Makes a case's connections, one after the other, and tells what came of each.
pub(crate) async fn run(connections: &[Connection], proxy: SocketAddr, tls: &Client<'_>, zone: &Zone) -> Value {
    let mut told = Vec::new();
    for connection in connections {
        run::resolve(&connection.names, zone);
        for _ in 0..connection.times.unwrap_or(1) {
            told.push(one(connection, proxy, tls).await);
        }
    }
    Value::Array(told)
}

async fn one(connection: &Connection, proxy: SocketAddr, tls: &Client<'_>) -> Value {
    let (mut told, carried) = (json!({}), Arc::default());
    let outcome = async {
        let stream = connect(proxy, HOME).await?;
        talk(connection, stream, tls, &carried, &mut told).await
    };
    if let Err(error) = outcome.await {
        told["failed"] = json!(describe(&error));
    }
    if connection.tls.is_some() {
        let count = |bytes: &AtomicUsize| bytes.load(Ordering::Relaxed);
        told["carried"] = json!({"sent": count(&carried.sent), "received": count(&carried.received)});
    }
    told
}

/// The cause of an error, without what differs between runs.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".to_owned(),
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed".to_owned(),
        _ => error.to_string(),
    }
}

async fn talk(
    connection: &Connection,
    stream: TcpStream,
    tls: &Client<'_>,
    carried: &Arc<Carried>,
    told: &mut Value,
) -> io::Result<()> {
    told["local"] = json!(stream.local_addr()?.to_string());
    let mut wire = match &connection.tls {
        None => Wire::plain(stream)?,
        Some(settings) => {
            let socket = SockRef::from(&stream).try_clone()?;
            let (stream, about) = timeout(PATIENCE, tls.handshake(stream, settings, carried))
                .await
                .map_err(|_| io::Error::other("the handshake never ends"))??;
            told["tls"] = about;
            Wire::over(stream, socket)
        }
    };
    let mut responses = Vec::new();
    for text in &connection.h1 {
        wire.send(&message(text)).await?;
        let method = text.split(' ').next().unwrap_or_default();
        responses.push(wire.response(method).await);
        told["responses"] = json!(responses);
    }
    if !connection.steps.is_empty() {
        told["events"] = json!(steps::run(wire, &connection.steps).await);
        return Ok(());
    }
    if connection.h1.is_empty() {
        told["responses"] = json!(http2(wire, connection).await?);
    }
    Ok(())
}

/// Where clients are: not at `127.0.0.1`, in whose place Envoy forwards its own address.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Ports of clients, in turn: below those that the system gives to proxies and upstreams, so that an address says whose it is.
const PORTS: Range<u16> = 10_000..32_000;
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Connects from an address of this machine, at a port that no other connection of a case has.
pub(crate) async fn connect(proxy: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = bound(from)?;
    let stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn bound(from: Ipv4Addr) -> io::Result<TcpSocket> {
    let in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    for _ in PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len();
        let port = PORTS.start + u16::try_from(next).expect("less than there are ports");
        let socket = TcpSocket::new_v4()?;
        match socket.bind((from, port).into()) {
            Err(error) if in_use(&error) => {}
            bound => return bound.map(|()| socket),
        }
    }
    Err(io::Error::other("all ports of clients are in use"))
}

/// Sends a connection's requests over HTTP/2 and tells the responses.
pub(crate) async fn http2(wire: Wire, connection: &Connection) -> io::Result<Vec<Value>> {
    let (mut client, driver) = h2::client::Builder::new()
        .handshake::<_, Bytes>(wire.into_stream())
        .await
        .map_err(io::Error::other)?;
    let mut tasks = JoinSet::new();
    // How the connection ends shows in its streams.
    tasks.spawn(async move { driver.await.err() });
    let mut told = Vec::new();
    for message in &connection.h2 {
        told.push(exchange(&mut client, message).await);
    }
    let mut together = Vec::new();
    for message in &connection.together {
        let (mut client, message) = (client.clone(), message.clone());
        together.push(tokio::spawn(async move {
            sleep(Duration::from_millis(message.after.unwrap_or(0))).await;
            exchange(&mut client, &message).await
        }));
    }
    for one in together {
        told.push(one.await.map_err(io::Error::other)?);
    }
    Ok(told)
}

async fn exchange(client: &mut SendRequest<Bytes>, message: &Message) -> Value {
    let ready = timeout(PATIENCE, client.clone().ready()).await;
    let Ok(Ok(mut ready)) = ready else {
        return json!({"failed": "the connection takes no more requests"});
    };
    let (response, mut body) = match ready.send_request(request(message), message.ends_with_head()) {
        Ok(sent) => sent,
        Err(error) => return json!({"failed": cause(&error)}),
    };
    let send = send_rest(&mut body, message);
    let receive = async {
        let response = match timeout(PATIENCE, response).await {
            Err(_) => return json!({"failed": "no response"}),
            Ok(Err(error)) => return json!({"failed": cause(&error)}),
            Ok(Ok(response)) => response,
        };
        let (head, mut body) = response.into_parts();
        let mut told = json!({
            "status": head.status.as_u16(),
            "version": "HTTP/2",
            "headers": headers(&head.headers),
        });
        read_body(&mut body, &mut told).await;
        told
    };
    tokio::pin!(send, receive);
    tokio::select! {
        told = &mut receive => told,
        () = &mut send => receive.await,
    }
}

fn request(message: &Message) -> Request<()> {
    let text = |value: &Option<String>, usual: &str| value.clone().unwrap_or_else(|| usual.to_owned());
    let uri = format!(
        "{}://{}{}",
        text(&message.scheme, "http"),
        text(&message.authority, "site.test"),
        text(&message.path, "/")
    );
    let method = text(&message.method, "GET");
    let request = Request::builder()
        .method(method.as_str())
        .uri(uri)
        .version(http::Version::HTTP_2);
    let mut request = request.body(()).expect("a request that the library can send");
    *request.headers_mut() = header_map(&message.headers);
    request
}
