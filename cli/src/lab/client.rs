//! An application: resolves, connects, speaks TLS if the URL says so, makes one HTTP/1.1 request and goes away, as curl does.
//!
//! One [`Call`] is one connection. What it may reach is not decided here but by the [`Process`] it dials through.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use gateway::network::Network;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Body, Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::{network::Process, resolve::resolve};

mod call;
mod failure;

pub use call::Call;
pub use failure::Failure;

/// How long a whole call may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// The largest response body, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("sallyport-lab/", env!("CARGO_PKG_VERSION")));

/// An application in a pod.
#[derive(Clone)]
pub struct App {
    process: Process,
    name_server: SocketAddr,
    trust: Arc<ClientConfig>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// A byte stream to somewhere, whatever it is made of.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

impl App {
    /// An application that dials through `process`, asks `name_server`, and trusts whom `trust` says in its own TLS.
    pub fn new(process: Process, name_server: SocketAddr, trust: Arc<ClientConfig>) -> Self {
        Self {
            process,
            name_server,
            trust,
        }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// See [`Failure`]; any status is a reply.
    pub async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        timeout(DEADLINE, self.exchange(call))
            .await
            .map_err(|_| Failure::Deadline(DEADLINE))?
    }

    async fn exchange(&self, call: &Call) -> Result<Reply, Failure> {
        let stream = self.open(call).await?;
        let mut connection = Connection::start(stream).await?;
        let response = connection.send(request(call)?).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(Failure::Body)?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// The stream that the request itself is written to.
    async fn open(&self, call: &Call) -> Result<Box<dyn Stream>, Failure> {
        let host = call.host()?;
        if let Some((config, name)) = &call.own_tls {
            let stream = self.connect(call, host).await?;
            return secure(stream, config.clone(), name).await;
        }
        if !call.is_https() {
            return self.connect(call, host).await;
        }
        let stream = match call.proxy {
            Some(proxy) => tunnel(self.dial(proxy).await?, &format!("{host}:{}", call.port())).await?,
            None => self.connect(call, host).await?,
        };
        secure(stream, self.trust.clone(), host).await
    }

    /// Connects to the proxy, to the address the call insists on, or to where the host's name leads.
    async fn connect(&self, call: &Call, host: &str) -> Result<Box<dyn Stream>, Failure> {
        if let Some(address) = call.proxy.or(call.connect_to) {
            return self.dial(address).await;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.dial(SocketAddr::new(address, call.port())).await;
        }
        let addresses = resolve(self.name_server, host).await.map_err(Failure::Resolve)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match self.process.dial(SocketAddr::new(address.into(), call.port())).await {
                Ok(dialled) => return Ok(Box::new(dialled.stream)),
                Err(error) => last = error,
            }
        }
        Err(Failure::Connect(last))
    }

    async fn dial(&self, to: SocketAddr) -> Result<Box<dyn Stream>, Failure> {
        let dialled = self.process.dial(to).await.map_err(Failure::Connect)?;
        Ok(Box::new(dialled.stream))
    }
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An HTTP/1.1 connection and the task that drives it.
struct Connection<B> {
    sender: SendRequest<B>,
    driver: JoinSet<hyper::Result<()>>,
}

impl<B: Body<Data = Bytes, Error = Infallible> + Send + 'static> Connection<B> {
    async fn start(stream: Box<dyn Stream>) -> Result<Self, Failure> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Http)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection.with_upgrades());
        Ok(Self { sender, driver })
    }

    async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, Failure> {
        match self.sender.send_request(request).await {
            Ok(response) => Ok(response),
            // The request only knows that the connection is gone. The connection knows why.
            Err(error) if error.is_canceled() => Err(Failure::Http(self.end().await.unwrap_or(error))),
            Err(error) => Err(Failure::Http(error)),
        }
    }

    /// Waits for the end of the connection; returns what was wrong.
    async fn end(&mut self) -> Option<hyper::Error> {
        self.driver.join_next().await?.ok()?.err()
    }
}

async fn secure(stream: Box<dyn Stream>, config: Arc<ClientConfig>, name: &str) -> Result<Box<dyn Stream>, Failure> {
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| Failure::Url(format!("{name:?} is not a server name")))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(Failure::Tls)?;
    Ok(Box::new(stream))
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
async fn tunnel(stream: Box<dyn Stream>, authority: &str) -> Result<Box<dyn Stream>, Failure> {
    let mut connection = Connection::start(stream).await?;
    let request = Request::connect(authority)
        .header(HOST, authority)
        .header(USER_AGENT, AGENT)
        .body(Empty::new())
        .map_err(|error| Failure::Url(error.to_string()))?;
    let response = connection.send(request).await?;
    if !response.status().is_success() {
        return Err(Failure::Tunnel(response.status()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(Failure::Http)?;
    // Handing the stream over was the driver's last act.
    connection.end().await;
    Ok(Box::new(TokioIo::new(upgraded)))
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, Failure> {
    let absolute = call.proxy.is_some() && !call.is_https();
    let target = if absolute {
        call.url.clone()
    } else {
        origin_form(&call.url)?
    };
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = target;
    let host = HeaderValue::try_from(call.authority()?).map_err(|error| Failure::Url(error.to_string()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, AGENT);
    for (name, value) in &call.headers {
        request.headers_mut().append(name.clone(), value.clone());
    }
    Ok(request)
}

fn origin_form(url: &Uri) -> Result<Uri, Failure> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    path.parse().map_err(|error| Failure::Url(format!("{path:?}: {error}")))
}

#[cfg(test)]
mod tests;
