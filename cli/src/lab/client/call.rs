//! A call before it is made: what curl's command line is to curl.

use std::{fmt, net::SocketAddr, sync::Arc};

use hyper::{
    Method, Uri,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use rustls::ClientConfig;

use super::Failure;

/// One request and the way it is to go.
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    pub(super) proxy: Option<SocketAddr>,
    pub(super) connect_to: Option<SocketAddr>,
    pub(super) own_tls: Option<(Arc<ClientConfig>, String)>,
}

impl Call {
    /// A request with any method.
    pub fn new(method: Method, url: Uri) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            proxy: None,
            connect_to: None,
            own_tls: None,
        }
    }

    /// `curl URL`.
    pub fn get(url: &'static str) -> Self {
        Self::new(Method::GET, Uri::from_static(url))
    }

    /// `curl -I URL`.
    pub fn head(url: &'static str) -> Self {
        Self::new(Method::HEAD, Uri::from_static(url))
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        let header = (HeaderName::from_static(name), HeaderValue::from_static(value));
        self.headers.push(header);
        self
    }

    /// Sends a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Goes through an HTTP proxy: absolute form for `http`, `CONNECT` for `https`.
    pub fn through(mut self, proxy: SocketAddr) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Connects to an address instead of where the host's name leads.
    pub fn connect_to(mut self, address: SocketAddr) -> Self {
        self.connect_to = Some(address);
        self
    }

    /// Speaks TLS with this configuration to a server called `name`, whatever the URL says: what only a sidecar should do.
    pub fn over_tls(mut self, config: Arc<ClientConfig>, name: impl Into<String>) -> Self {
        self.own_tls = Some((config, name.into()));
        self
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// The host of the URL.
    ///
    /// # Errors
    /// It has none.
    pub fn host(&self) -> Result<&str, Failure> {
        self.url
            .host()
            .ok_or_else(|| Failure::Url(format!("{} has no host", self.url)))
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// For the Host header: the port only if the URL has one.
    pub(super) fn authority(&self) -> Result<String, Failure> {
        let host = self.host()?;
        Ok(match self.url.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
    }

    /// The call as arguments for curl.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-s".to_owned()];
        let mut option = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        match self.method {
            Method::GET | Method::HEAD => {}
            _ => option("-X", self.method.to_string()),
        }
        for (name, value) in &self.headers {
            option("-H", format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
        if let Some(proxy) = self.proxy {
            option("-x", format!("http://{proxy}"));
        }
        if let Some(address) = self.connect_to {
            option("--connect-to", format!("::{address}"));
        }
        if self.method == Method::HEAD {
            arguments.push("-I".to_owned());
        }
        arguments.push(self.typed_url());
        arguments
    }

    /// The URL as people type it: a bare domain without the slash.
    fn typed_url(&self) -> String {
        let url = self.url.to_string();
        match self.url.path_and_query().map(|path| path.as_str()) {
            None | Some("/") => url.trim_end_matches('/').to_owned(),
            Some(_) => url,
        }
    }
}

/// The call as a curl command.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("curl")?;
        for argument in self.arguments() {
            if argument.contains(' ') {
                write!(f, " '{argument}'")?;
            } else {
                write!(f, " {argument}")?;
            }
        }
        Ok(())
    }
}
