//! Begins TLS to an upstream: our certificate if it is asked for, its certificate always checked as configured.
//!
//! Invariant: nothing is sent before the peer is verified, also when the session is resumed.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use certs::{Names, ServerVerifier, Versions};
use mesh::{
    cluster::Cluster,
    host::Host,
    tls::{UpstreamTls, Validation},
};
use rustls::{
    ClientConfig,
    pki_types::{DnsName, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{failure, protocol_names, secrets::Secrets, wire::Wire};
use crate::{error::ConnectError, limits};

/// Begins TLS for one cluster. Sessions are resumed within it.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    name: Name,
}

/// Which server name is asked for.
enum Name {
    /// This one.
    Fixed(DnsName<'static>),
    /// The request's host. What is no request gets the configured name, if there is one.
    OfRequest { otherwise: Option<DnsName<'static>> },
    /// None.
    None,
}

impl Connector {
    /// Prepares TLS for a cluster.
    ///
    /// # Errors
    /// In words for an operator.
    pub(crate) fn build(cluster: &Cluster, tls: &UpstreamTls, secrets: &Secrets) -> Result<Self, String> {
        let verifier = Arc::new(verifier(cluster, tls.validation.as_ref(), secrets)?);
        let identity = tls
            .certificate
            .as_ref()
            .map(|source| secrets.certificate(source))
            .transpose()?;
        let versions = Versions {
            min: tls.min_version,
            max: tls.max_version,
        };
        let config = certs::client_config(identity, verifier.clone(), versions);
        let mut config = config.map_err(|error| format!("tls: {error}"))?;
        config.alpn_protocols = protocol_names(&tls.alpn);
        Ok(Self {
            config: Arc::new(config),
            verifier,
            name: Name::of(cluster, tls)?,
        })
    }

    /// Does the handshake. `host` is the request's, `at` the address the stream is connected to, `alpn` is offered instead
    /// of the configured protocols.
    ///
    /// # Errors
    /// [`ConnectError::Tls`], with the reason in Envoy's form.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        at: IpAddr,
        host: Option<&Host>,
        alpn: Option<&[String]>,
    ) -> Result<TlsStream<Wire<S>>, ConnectError> {
        let name = self.server_name(at, host)?;
        let stream = Wire::new(stream);
        let connector = TlsConnector::from(self.config.clone());
        let handshake = match alpn {
            Some(alpn) => connector.with_alpn(protocol_names(alpn)).connect(name.clone(), stream),
            None => connector.connect(name.clone(), stream),
        };
        let mut stream = handshake
            .await
            .map_err(|error| ConnectError::Tls(failure::reason(&error)))?;
        stream.get_mut().1.set_buffer_limit(Some(limits::TLS_BUFFER));
        let peer = self.verifier.peer(stream.get_ref().1, &name, SystemTime::now());
        peer.map_err(|error| ConnectError::Tls(failure::of_tls(&error)))?;
        Ok(stream)
    }

    /// An address is a name that is not sent.
    fn server_name(&self, at: IpAddr, host: Option<&Host>) -> Result<ServerName<'static>, ConnectError> {
        match (&self.name, host) {
            (Name::Fixed(name), _) => Ok(ServerName::DnsName(name.clone())),
            (Name::OfRequest { .. }, Some(host)) => ServerName::try_from(host.as_str().to_owned())
                .map_err(|_| ConnectError::Tls(format!("the request's host {host} cannot be a server name"))),
            (Name::OfRequest { otherwise: Some(name) }, None) => Ok(ServerName::DnsName(name.clone())),
            (Name::OfRequest { otherwise: None }, None) | (Name::None, _) => Ok(ServerName::IpAddress(at.into())),
        }
    }
}

impl Name {
    fn of(cluster: &Cluster, tls: &UpstreamTls) -> Result<Self, String> {
        let parse = |sni: &String| {
            DnsName::try_from(sni.clone()).map_err(|_| format!("tls.sni {sni:?} is not a host name that can be sent"))
        };
        Ok(match tls.sni.as_ref().map(parse).transpose()? {
            otherwise if cluster.auto_sni => Self::OfRequest { otherwise },
            Some(name) => Self::Fixed(name),
            None => Self::None,
        })
    }
}

fn verifier(cluster: &Cluster, validation: Option<&Validation>, secrets: &Secrets) -> Result<ServerVerifier, String> {
    let Some(Validation { trust, sans }) = validation else {
        return match cluster.auto_san_validation {
            true => Err("auto_san_validation needs a validation context with roots".to_owned()),
            false => Ok(ServerVerifier::insecure()),
        };
    };
    let names = match (cluster.auto_san_validation, sans.is_empty()) {
        (false, _) => Names::Listed(sans.clone()),
        (true, true) => Names::Requested,
        (true, false) => {
            return Err("auto_san_validation together with listed names is not supported, use one of them".to_owned());
        }
    };
    Ok(ServerVerifier::new(secrets.trust(trust)?, names))
}
