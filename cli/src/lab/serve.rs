//! Serves HTTP on a listening socket of the lab: over TLS or not, HTTP/1.1 or HTTP/2 by ALPN.
//!
//! Invariant: every task is owned by the future of [`serve`]; dropping that ends listener and connections.

use std::{
    convert::Infallible,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gateway::network::{Accepted, Network};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, UPGRADE},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::outside::Page;

/// Connections served at the same time; the next waits in the backlog.
const MAX_CONNECTIONS: usize = 1024;
/// The largest request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// A client that has not finished its TLS handshake, or a request's head, by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
const H2: &[u8] = b"h2";
/// What is said on a connection that has left HTTP, before it is closed.
const GREETING: &[u8] = b"hello\n";

/// What to serve, and how.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) network: Arc<dyn Network>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) page: Page,
}

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(log_failure(connection(stream, service.clone())));
                }
                Err(error) => tracing::warn!(%error, "lab server cannot accept"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn log_failure(connection: impl Future<Output = io::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "lab connection ended");
    }
}

async fn connection(stream: TcpStream, service: Service) -> io::Result<()> {
    let peer = service.network.accepted(&stream)?;
    let Some(tls) = service.tls else {
        return http1(stream, peer, service.page).await;
    };
    let stream = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await??;
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        http2(stream, peer, service.page).await
    } else {
        http1(stream, peer, service.page).await
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Accepted,
    page: Page,
) -> io::Result<()> {
    let upgraded = Mutex::new(None);
    let serve = service_fn(|mut request| {
        let upgrade = request.headers().contains_key(UPGRADE);
        if upgrade {
            let mut upgraded = upgraded.lock().unwrap_or_else(PoisonError::into_inner);
            *upgraded = Some(hyper::upgrade::on(&mut request));
        }
        let page = &page;
        async move {
            if upgrade {
                return Ok(switching(request.headers()));
            }
            answer(peer, page, request).await
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .serve_connection(TokioIo::new(stream), serve)
        .with_upgrades()
        .await
        .map_err(io::Error::other)?;
    match upgraded.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(upgraded) => greet(TokioIo::new(upgraded.await.map_err(io::Error::other)?)).await,
        None => Ok(()),
    }
}

/// Whatever protocol a client wants to go on with: it gets a greeting in it.
fn switching(request: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in [CONNECTION, UPGRADE] {
        if let Some(value) = request.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

async fn greet(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(GREETING).await?;
    stream.shutdown().await
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Accepted, page: Page) -> io::Result<()> {
    let serve = service_fn(move |request| {
        let page = page.clone();
        async move { answer(peer, &page, request).await }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), serve)
        .await
        .map_err(io::Error::other)
}

async fn answer(peer: Accepted, page: &Page, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let response = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => page(&peer, &Request::from_parts(head, body.to_bytes())),
        Err(error) => {
            let mut response = Response::new(Full::from(format!("request body: {error}\n")));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    Ok(response)
}
