//! The connection to a control plane. Not through [`Network`](crate::network::Network): that is for the traffic of others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
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

use crate::tls::{
    self,
    control::ControlTls,
    secrets::{Secrets, of_cluster},
};

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
    AsCluster(ClusterTls),
    None,
}

/// TLS as a cluster has it, from the time its secrets are there.
struct ClusterTls {
    cluster: Box<Cluster>,
    secrets: Arc<Secrets>,
    built: OnceLock<tls::connect::Connector>,
}

/// An open connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    pub(super) fn new(server: &str, security: Security, secrets: &Arc<Secrets>) -> Result<Self, SettingsError> {
        let (address, host) = parse(server)?;
        let tls = match security {
            Security::PlaintextOnLoopback => return Self::plaintext(server),
            Security::AsCluster(cluster) => Tls::AsCluster(ClusterTls::new(cluster, secrets.clone())?),
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

    /// Without TLS, to a loopback address or a Unix socket.
    pub(super) fn plaintext(server: &str) -> Result<Self, SettingsError> {
        let (address, host) = parse(server)?;
        if !host.is_none_or(is_loopback) {
            return Err(SettingsError::Plaintext(server.to_owned()));
        }
        Ok(Self(Arc::new(Target {
            server: server.to_owned(),
            address,
            tls: Tls::None,
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

/// Where a server is, and its host if it has one.
fn parse(server: &str) -> Result<(Address, Option<&str>), SettingsError> {
    match server.strip_prefix(UNIX) {
        Some("") => Err(SettingsError::Address(server.to_owned())),
        Some(path) => Ok((Address::Pipe(path.into()), None)),
        None => Ok((Address::Tcp(server.to_owned()), Some(host(server)?))),
    }
}

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
                let tls = tls.connector().map_err(io::Error::other)?;
                let connected = tls.connect(stream, at, None, Some(&[HTTP2.to_owned()])).await;
                Ok(Box::new(
                    connected.map_err(|error| io::Error::other(error.to_string()))?,
                ))
            }
            Self::None => Ok(Box::new(stream)),
        }
    }
}

impl ClusterTls {
    /// Of a cluster that leaves no doubt who the control plane is.
    fn new(cluster: Box<Cluster>, secrets: Arc<Secrets>) -> Result<Self, SettingsError> {
        let validation = cluster.tls.as_ref().and_then(|tls| tls.validation.as_ref());
        if validation.is_none_or(|validation| validation.sans.is_empty()) && !cluster.auto_san_validation {
            return Err(SettingsError::NoServerName);
        }
        secrets.keep(of_cluster(&cluster));
        let awaited = of_cluster(&cluster).any(|reference| secrets.is_awaited(reference));
        let tls = Self {
            cluster,
            secrets,
            built: OnceLock::new(),
        };
        if !awaited {
            tls.connector().map_err(SettingsError::Tls)?;
        }
        Ok(tls)
    }

    fn connector(&self) -> Result<&tls::connect::Connector, String> {
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        let tls = self.cluster.tls.as_ref().ok_or("the cluster has no TLS settings")?;
        let built = tls::connect::Connector::build(&self.cluster, tls, &self.secrets)?;
        Ok(self.built.get_or_init(|| built))
    }
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
    use std::time::SystemTime;

    use certs::{CaRequest, CertificateAuthority};
    use mesh::{
        ClusterName, SecretName,
        cluster::{Discovery, Endpoints, LbPolicy, UpstreamHttp},
        matcher::StringMatcher,
        secret::{Material, Secret, SecretContent, SecretRef, SecretSource},
        tls::{SanKind, TrustSource, UpstreamTls, Validation},
    };

    use super::*;
    use crate::{
        drain::Runtime,
        tls::secrets::{Origins, Tools},
    };

    fn plaintext(server: &str) -> Result<Connector, SettingsError> {
        Connector::plaintext(server)
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

    /// A control plane whose TLS settings name secrets of the control plane: any that arrive late.
    fn cluster() -> Cluster {
        let from = |name: &str| SecretRef {
            name: SecretName::parse(name).unwrap(),
            source: SecretSource::Ads,
        };
        Cluster {
            name: ClusterName::parse("xds-grpc").unwrap(),
            alt_stat_name: None,
            discovery: Discovery::Static(Endpoints(Vec::new())),
            lb_policy: LbPolicy::RoundRobin,
            connect_timeout: None,
            tls: Some(UpstreamTls {
                sni: None,
                certificate: None,
                validation: Some(Validation {
                    trust: TrustSource::Sds(from("ROOTCA")),
                    sans: vec![SanMatcher {
                        kind: SanKind::Uri,
                        name: StringMatcher::exact("spiffe://td/ns/istio-system/sa/istiod"),
                    }],
                }),
                alpn: Vec::new(),
                min_version: None,
                max_version: None,
            }),
            http: UpstreamHttp::Http2,
            auto_sni: false,
            auto_san_validation: false,
            circuit_breakers: None,
            buffer_limit: None,
            reuse: mesh::cluster::Reuse::default(),
        }
    }

    #[tokio::test]
    async fn tls_to_a_control_plane_waits_for_its_secrets() {
        let tools = Tools {
            files: Arc::default(),
            runtime: Runtime::new(tokio::runtime::Handle::current()),
            arrivals: Arc::default(),
        };
        let secrets = Arc::new(Secrets::new(Origins::default(), tools));
        let tls = ClusterTls::new(Box::new(cluster()), secrets.clone()).unwrap();
        let error = tls.connector().err().unwrap();
        assert_eq!(error, "secret ROOTCA of the control plane has not arrived");
        assert_eq!(secrets.awaited(), ["ROOTCA of the control plane"]);
        secrets.retain(std::iter::empty());
        assert_eq!(secrets.awaited().len(), 1, "no listener needs it, but this does");

        let authority = CertificateAuthority::root(&CaRequest::named("td root"), SystemTime::now()).unwrap();
        let roots = Material::Inline(authority.root_pem().into_bytes());
        let secret = Secret {
            name: SecretName::parse("ROOTCA").unwrap(),
            content: SecretContent::Trust(roots),
        };
        secrets.control().take(&secret).unwrap();
        assert!(tls.connector().is_ok());
    }
}
