//! The connection to a control plane. Not through [`Network`](crate::network::Network): that is for the traffic of others.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use certs::Workload;
use hyper_util::rt::TokioIo;
use mesh::tls::SanMatcher;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tonic::{
    codegen::{Service, http::Uri},
    transport::Endpoint,
};

use crate::tls::control::ControlTls;

/// How control plane and proxy know each other.
#[derive(Debug, Clone)]
pub enum Security {
    /// By certificates.
    MutualTls {
        /// Ours.
        workload: Workload,
        /// Names the control plane's certificate may have; at least one.
        server: Vec<SanMatcher>,
    },
    /// Not at all. Only to a loopback address.
    PlaintextOnLoopback,
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address has another form.
    #[error("{0:?} is not the address of a control plane, expected host:port")]
    Address(String),
    /// Everybody with a certificate of the mesh could pose as control plane.
    #[error("no name is given for the control plane's certificate, list at least one")]
    NoServerName,
    /// The identity cannot be used for TLS.
    #[error("cannot use TLS to the control plane: {0}")]
    Tls(String),
}

/// Makes connections to one control plane.
#[derive(Clone)]
pub(super) struct Connector(Arc<Target>);

struct Target {
    server: String,
    tls: Option<ControlTls>,
}

/// An open connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    pub(super) fn new(server: &str, security: Security) -> Result<Self, SettingsError> {
        let malformed = || SettingsError::Address(server.to_owned());
        let (host, port) = server.rsplit_once(':').ok_or_else(malformed)?;
        port.parse::<u16>().map_err(|_| malformed())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match security {
            Security::PlaintextOnLoopback => None,
            Security::MutualTls { server, .. } if server.is_empty() => return Err(SettingsError::NoServerName),
            Security::MutualTls { workload, server } => {
                Some(ControlTls::new(workload, server, host).map_err(SettingsError::Tls)?)
            }
        };
        Ok(Self(Arc::new(Target {
            server: server.to_owned(),
            tls,
        })))
    }

    /// What requests are addressed to. The address is the connector's business.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("http://control")
    }

    pub(super) fn server(&self) -> &str {
        &self.0.server
    }

    async fn connect(self) -> io::Result<Box<dyn Io>> {
        let Target { server, tls } = &*self.0;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{server} has no address"));
        for address in lookup_host(server).await? {
            if tls.is_none() && !address.ip().is_loopback() {
                last = io::Error::other(format!("plaintext is spoken on loopback only, not to {address}"));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return match tls {
                        Some(tls) => Ok(Box::new(tls.connect(stream).await?)),
                        None => Ok(Box::new(stream)),
                    };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:15010", "127.0.0.1:15010", "[::1]:15010"] {
            assert!(Connector::new(good, Security::PlaintextOnLoopback).is_ok(), "{good}");
        }
        for bad in ["localhost", "localhost:", "localhost:99999", ""] {
            let error = Connector::new(bad, Security::PlaintextOnLoopback).err();
            assert_eq!(error, Some(SettingsError::Address(bad.to_owned())));
        }
    }

    #[tokio::test]
    async fn plaintext_never_leaves_loopback() {
        let connector = Connector::new("192.0.2.1:15010", Security::PlaintextOnLoopback).unwrap();
        let error = connector.connect().await.err().unwrap().to_string();
        assert_eq!(error, "plaintext is spoken on loopback only, not to 192.0.2.1:15010");
    }
}
