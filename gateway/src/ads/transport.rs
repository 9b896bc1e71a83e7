//! The connection to a control plane. Not through [`Network`](crate::network::Network): that is for the traffic of others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use certs::Workload;
use hyper_util::rt::TokioIo;
use mesh::{cluster::Cluster, tls::SanMatcher};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
};
use tonic::{
    codegen::{Service, http::Uri},
    transport::Endpoint,
};

use crate::tls::{self, control::ControlTls, secrets::Secrets};

/// The one protocol that ADS is spoken over, in ALPN.
const HTTP2: &str = "h2";

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
    /// As a cluster's TLS settings say, with secrets of this data plane.
    AsCluster(Box<Cluster>),
    /// Not at all. Only to a loopback address or a Unix socket.
    PlaintextOnLoopback,
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address has another form.
    #[error("{0:?} is not the address of a control plane, expected host:port or unix:<path>")]
    Address(String),
    /// Everybody with a certificate of the mesh could pose as control plane.
    #[error("no name is given for the control plane's certificate, list at least one")]
    NoServerName,
    /// The identity cannot be used for TLS.
    #[error("cannot use TLS to the control plane: {0}")]
    Tls(String),
    /// Everybody between us could pose as control plane.
    #[error("{0} is not on loopback, and plaintext is spoken on loopback only: use TLS to the control plane")]
    Plaintext(String),
}

/// Makes connections to one control plane.
#[derive(Clone)]
pub(super) struct Connector(Arc<Target>);

struct Target {
    server: String,
    address: Address,
    tls: Tls,
}

enum Address {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Pipe(PathBuf),
}

/// How the address of a Unix socket begins.
pub const UNIX: &str = "unix:";

enum Tls {
    Mutual(ControlTls),
    AsCluster(tls::connect::Connector),
    None,
}

/// An open connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    pub(super) fn new(server: &str, security: Security, secrets: &Secrets) -> Result<Self, SettingsError> {
        let (address, host) = match server.strip_prefix(UNIX) {
            Some(path) => (Address::Pipe(path.into()), None),
            None => (Address::Tcp(server.to_owned()), Some(host(server)?)),
        };
        let tls = match security {
            Security::PlaintextOnLoopback if !host.is_none_or(is_loopback) => {
                return Err(SettingsError::Plaintext(server.to_owned()));
            }
            Security::PlaintextOnLoopback => Tls::None,
            Security::AsCluster(cluster) => Tls::AsCluster(as_cluster(&cluster, secrets)?),
            Security::MutualTls { server, .. } if server.is_empty() => return Err(SettingsError::NoServerName),
            Security::MutualTls { workload, server } => {
                let tls = ControlTls::new(workload, server, host.unwrap_or("localhost"));
                Tls::Mutual(tls.map_err(SettingsError::Tls)?)
            }
        };
        Ok(Self(Arc::new(Target {
            server: server.to_owned(),
            address,
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
        let Target { address, tls, .. } = &*self.0;
        let server = match address {
            Address::Tcp(server) => server,
            Address::Pipe(path) => return tls.begin(UnixStream::connect(path).await?, NO_ADDRESS).await,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{server} has no address"));
        for address in lookup_host(server).await? {
            if matches!(tls, Tls::None) && !address.ip().is_loopback() {
                last = io::Error::other(format!("plaintext is spoken on loopback only, not to {address}"));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return tls.begin(stream, address.ip()).await;
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Of a Unix socket, for a certificate that is verified by address; none has it.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The host of `host:port`.
fn host(server: &str) -> Result<&str, SettingsError> {
    let malformed = || SettingsError::Address(server.to_owned());
    let (host, port) = server.rsplit_once(':').ok_or_else(malformed)?;
    port.parse::<u16>().map_err(|_| malformed())?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

impl Tls {
    async fn begin(&self, stream: impl Io + 'static, at: IpAddr) -> io::Result<Box<dyn Io>> {
        match self {
            Self::Mutual(tls) => Ok(Box::new(tls.connect(stream).await?)),
            Self::AsCluster(tls) => {
                let connected = tls.connect(stream, at, None, Some(&[HTTP2.to_owned()])).await;
                Ok(Box::new(
                    connected.map_err(|error| io::Error::other(error.to_string()))?,
                ))
            }
            Self::None => Ok(Box::new(stream)),
        }
    }
}

/// TLS as a cluster has it, if that leaves no doubt who the control plane is.
fn as_cluster(cluster: &Cluster, secrets: &Secrets) -> Result<tls::connect::Connector, SettingsError> {
    let tls = cluster.tls.as_ref().ok_or(SettingsError::NoServerName)?;
    let sans = tls.validation.as_ref().map(|validation| &validation.sans);
    if sans.is_none_or(Vec::is_empty) && !cluster.auto_san_validation {
        return Err(SettingsError::NoServerName);
    }
    tls::connect::Connector::build(cluster, tls, secrets).map_err(SettingsError::Tls)
}

/// Whether plaintext may be spoken to a host.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
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
    use std::collections::BTreeMap;

    use certs::FileWatcher;

    use super::*;

    fn plaintext(server: &str) -> Result<Connector, SettingsError> {
        let secrets = Secrets::new(None, BTreeMap::new(), None, Arc::new(FileWatcher::new()));
        Connector::new(server, Security::PlaintextOnLoopback, &secrets)
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:15010", "127.0.0.1:15010", "[::1]:15010"] {
            assert!(plaintext(good).is_ok(), "{good}");
        }
        for bad in ["localhost", "localhost:", "localhost:99999", ""] {
            let error = plaintext(bad).err();
            assert_eq!(error, Some(SettingsError::Address(bad.to_owned())));
        }
    }

    #[test]
    fn plaintext_never_leaves_loopback() {
        for server in [
            "192.0.2.1:15010",
            "istiod.istio-system:15010",
            "localhost.example:1",
            "[2001:db8::1]:1",
        ] {
            assert_eq!(
                plaintext(server).err(),
                Some(SettingsError::Plaintext(server.to_owned()))
            );
        }
    }
}
