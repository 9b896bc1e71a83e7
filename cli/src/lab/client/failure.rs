//! Why a call got no reply.

use std::{error::Error, fmt, io, time::Duration};

use hyper::StatusCode;

use crate::lab::network::firewall::Blocked;

/// Why a call got no reply, by how far it came.
#[derive(Debug)]
pub enum Failure {
    /// The URL is not one that can be called.
    Url(String),
    /// The host's name leads nowhere.
    Resolve(io::Error),
    /// No connection.
    Connect(io::Error),
    /// The proxy refused to open a tunnel.
    Tunnel(StatusCode),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// The connection ended without a response, or with something that is none.
    Http(hyper::Error),
    /// The response's body did not arrive whole.
    Body(Box<dyn Error + Send + Sync>),
    /// Nothing happened for too long.
    Deadline(Duration),
}

impl Failure {
    /// The firewall's verdict, if it was the firewall that stopped the call.
    pub fn blocked(&self) -> Option<&Blocked> {
        match self {
            Self::Connect(error) => Blocked::find(error),
            Self::Url(_)
            | Self::Resolve(_)
            | Self::Tunnel(_)
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Body(_)
            | Self::Deadline(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "bad URL: {why}"),
            Self::Resolve(error) => write!(f, "could not resolve {error}"),
            Self::Connect(error) => write!(f, "could not connect: {error}"),
            Self::Tunnel(status) => write!(f, "the proxy answered {} to CONNECT", status.as_u16()),
            Self::Tls(error) => write!(f, "TLS handshake failed: {error}"),
            Self::Http(error) => write!(f, "no response: {}", Chain(error)),
            Self::Body(error) => write!(f, "response cut short: {}", Chain(&**error)),
            Self::Deadline(limit) => write!(f, "no reply within {} s", limit.as_secs()),
        }
    }
}

impl Error for Failure {}

/// An error and what caused it: the outermost says "connection error", the innermost says why.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
