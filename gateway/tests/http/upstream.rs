//! Upstreams: one that says what it got, and ones that do as they are told.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::proxy::PATIENCE;

/// An upstream, and how many connections were made to it.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// How many of the requests that wait may be answered.
    released: Arc<Semaphore>,
    /// Requests that were held.
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections were made.
    pub(crate) async fn wait_for_connections(&self, count: usize) {
        let wait = async {
            while self.connections() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let made = timeout(PATIENCE, wait).await;
        assert!(made.is_ok(), "{} connections are made, not {count}", self.connections());
    }

    /// Lets so many requests be answered.
    pub(crate) fn let_go(&self, count: usize) {
        self.released.add_permits(count);
    }

    /// Speaks HTTP/2 with so many streams at a time; each request waits for [`Self::let_go`].
    pub(crate) async fn held_http2(streams: u32) -> Self {
        let released = Arc::new(Semaphore::new(0));
        let held = released.clone();
        let upstream = Self::start(move |stream, _| {
            let held = held.clone();
            async move {
                let service = service_fn(move |request| {
                    let held = held.clone();
                    async move {
                        held.acquire().await.unwrap().forget();
                        echo(request).await
                    }
                });
                let mut builder = http2::Builder::new(TokioExecutor::new());
                let _ = builder
                    .max_concurrent_streams(streams)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await;
        Self { released, ..upstream }
    }

    /// Speaks HTTP/2 and announces how long its answer is, but does not end its streams.
    pub(crate) async fn unending_http2() -> Self {
        Self::start(|stream, _| async move {
            let service = service_fn(|_| async {
                let answer = futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("whole")))]);
                let mut response = Response::new(StreamBody::new(answer.chain(futures_util::stream::pending())));
                response
                    .headers_mut()
                    .insert("content-length", HeaderValue::from_static("5"));
                Ok::<_, Infallible>(response)
            });
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
        .await
    }

    /// Speaks HTTP/1; each request waits for [`Self::let_go`].
    pub(crate) async fn held() -> Self {
        let (released, requests) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (held, seen) = (released.clone(), requests.clone());
        let upstream = Self::start(move |stream, _| {
            let (held, seen) = (held.clone(), seen.clone());
            async move {
                let service = service_fn(move |request| {
                    seen.fetch_add(1, Ordering::SeqCst);
                    let held = held.clone();
                    async move {
                        held.acquire().await.unwrap().forget();
                        echo(request).await
                    }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await;
        Self {
            released,
            requests,
            ..upstream
        }
    }

    /// Waits until so many requests have come.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let wait = async {
            while self.requests.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the requests come");
    }

    /// Takes connections and repeats what comes over them.
    pub(crate) async fn repeater() -> Self {
        Self::start(|mut stream, _| async move {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        })
        .await
    }

    /// Serves each connection with `serve`, which learns how many came before.
    async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number));
            }
        });
        Self {
            address,
            connections,
            released: Arc::new(Semaphore::new(0)),
            requests: Arc::default(),
        }
    }

    /// Says what it got: the request line and headers, one a line, then the body.
    pub(crate) async fn echo() -> Self {
        Self::start(|stream, _| async move {
            // A client that leaves is no error here.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .await;
        })
        .await
    }

    /// The same over HTTP/2; the answer ends with trailers.
    pub(crate) async fn echo_http2() -> Self {
        Self::start(|stream, _| async move {
            let executor = TokioExecutor::new();
            let _ = http2::Builder::new(executor)
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .await;
        })
        .await
    }

    /// Reads one request head per script and writes the script's bytes; after the last it closes.
    pub(crate) async fn scripted(scripts: &'static [&'static [u8]]) -> Self {
        Self::start(move |mut stream, _| async move {
            for script in scripts {
                if !read_head(&mut stream).await || stream.write_all(script).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Reads a head and never answers.
    pub(crate) async fn silent() -> Self {
        Self::start(|mut stream, _| async move {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        })
        .await
    }

    /// An address where nobody listens.
    pub(crate) async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// Takes one websocket and repeats what comes over it until the client is done.
    pub(crate) async fn websocket() -> Self {
        Self::start(|mut stream, _| async move {
            read_head(&mut stream).await;
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello ";
            stream.write_all(switch).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        })
        .await
    }
}

async fn read_head(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return false,
        }
    }
    true
}

async fn echo(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(Full::default().boxed()));
    };
    if let Some(trailers) = body.trailers() {
        text.push_str(&format!("trailers: {trailers:?}\n"));
    }
    text.push('\n');
    let body = [text.as_bytes(), &body.to_bytes()].concat();
    let mut response = if parts.version == http::Version::HTTP_2 {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let frames = [Ok(Frame::data(Bytes::from(body))), Ok(Frame::trailers(trailers))];
        Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
    } else {
        Response::new(Full::new(Bytes::from(body)).boxed())
    };
    response
        .headers_mut()
        .insert("server", HeaderValue::from_static("echo"));
    Ok(response)
}
