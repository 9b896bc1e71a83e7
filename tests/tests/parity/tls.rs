//! Clients that speak TLS the way a case asks for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, NamedGroup, SupportedProtocolVersion,
    client::danger,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::TlsConnector;

use crate::{case::ClientTls, hello, setting::Setting, steps::SEGMENT, wire::Bytes};

/// Makes TLS connections; keeps the last one's configuration, with its sessions, for those that may resume.
pub(crate) struct Client<'a> {
    setting: &'a Setting,
    last: Mutex<Option<ClientConfig>>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(setting: &'a Setting) -> Self {
        Self {
            setting,
            last: Mutex::default(),
        }
    }

    /// Shakes hands; tells what was agreed. What the connection carries is counted.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        tls: &ClientTls,
        carried: &Arc<Carried>,
    ) -> io::Result<(Box<dyn Bytes>, Value)> {
        let sni = tls.sni.as_deref().unwrap_or("site.test");
        let mut config = self.config(tls);
        config.enable_sni = !sni.is_empty();
        let name = if sni.is_empty() { "site.test" } else { sni };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(name, Hello::new(stream, tls, Arc::clone(carried)))
            .await?;
        let session = stream.get_ref().1;
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let told = json!({
            "version": session.protocol_version().map(|version| format!("{version:?}")),
            "cipher": session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            "group": session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            "alpn": session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            "kind": session.handshake_kind().map(|kind| format!("{kind:?}")),
            "certificate": shown.map(|der| certs::Certificate::parse(der).map_or("unreadable".to_owned(), |leaf| leaf.fingerprint())),
        });
        Ok((Box::new(stream), told))
    }

    /// To resume is to go on with the configuration that holds the session: the library resumes none under another verifier or
    /// identity.
    fn config(&self, tls: &ClientTls) -> ClientConfig {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = last.take().filter(|_| tls.resume).unwrap_or_else(|| self.fresh(tls));
        config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        *last = Some(config.clone());
        config
    }

    fn fresh(&self, tls: &ClientTls) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider(tls)))
            .with_protocol_versions(versions(tls))
            .unwrap_or_else(|error| panic!("version, ciphers and groups of the case do not fit: {error}"))
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider(tls))));
        match tls.identity.as_deref().unwrap_or("team-x") {
            "nobody" => builder.with_no_client_auth(),
            name => {
                let identity = self.setting.identities.get(name);
                let identity = identity.unwrap_or_else(|| panic!("there is no identity {name:?}"));
                builder.with_client_cert_resolver(Arc::clone(identity) as _)
            }
        }
    }
}

static ONLY_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn versions(tls: &ClientTls) -> &'static [&'static SupportedProtocolVersion] {
    match tls.version.as_deref() {
        None => rustls::ALL_VERSIONS,
        Some("1.2") => ONLY_1_2,
        Some("1.3") => ONLY_1_3,
        Some(other) => panic!("{other:?} is no version that a client can be given"),
    }
}

fn provider(tls: &ClientTls) -> CryptoProvider {
    let mut provider = (*certs::provider()).clone();
    if !tls.ciphers.is_empty() {
        provider
            .cipher_suites
            .retain(|suite| tls.ciphers.contains(&format!("{:?}", suite.suite())));
    }
    if !tls.groups.is_empty() {
        let wanted = |group: NamedGroup| tls.groups.contains(&format!("{group:?}"));
        provider.kx_groups.retain(|group| wanted(group.name()));
    }
    provider
}

/// Believes every server: whom a client believes is not what is asked here, but its signatures must be right.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<danger::ServerCertVerified, rustls::Error> {
        Ok(danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Bytes that a client's connection has carried, handshake and all.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) sent: AtomicUsize,
    pub(crate) received: AtomicUsize,
}

/// A socket whose first write, the hello, goes out in pieces.
struct Hello {
    stream: TcpStream,
    /// What is still to be written of the hello, as it shall be on the wire, the next piece last.
    pieces: Vec<Vec<u8>>,
    segments: Option<usize>,
    records: Option<usize>,
    pause: Duration,
    /// The pause that is being made.
    resting: Option<Pin<Box<Sleep>>>,
    written: bool,
    carried: Arc<Carried>,
}

impl Hello {
    fn new(stream: TcpStream, tls: &ClientTls, carried: Arc<Carried>) -> Self {
        Self {
            stream,
            pieces: Vec::new(),
            segments: tls.segments,
            records: tls.records,
            pause: tls.pause.map_or(SEGMENT, Duration::from_millis),
            resting: None,
            written: false,
            carried,
        }
    }

    /// Cuts the hello into records and segments.
    fn cut(&self, hello: &[u8]) -> Vec<Vec<u8>> {
        let bytes = self
            .records
            .map_or_else(|| hello.to_vec(), |size| hello::recut(hello, size));
        let size = self.segments.unwrap_or(bytes.len());
        let mut pieces: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        pieces.reverse();
        pieces
    }

    fn write(&mut self, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(context, buffers))?;
        self.carried.sent.fetch_add(written, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    /// Writes the next piece, or what is left of it.
    fn write_piece(&mut self, context: &mut Context<'_>, mut piece: Vec<u8>) -> Poll<io::Result<()>> {
        match self.write(context, &[IoSlice::new(&piece)]) {
            Poll::Ready(Ok(written)) => {
                piece.drain(..written);
                if !piece.is_empty() {
                    self.pieces.push(piece);
                } else if !self.pieces.is_empty() {
                    self.resting = Some(Box::pin(sleep(self.pause)));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.pieces.push(piece);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Hello {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.written {
            self.written = true;
            self.pieces = self.cut(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// In one segment if possible: a server that refuses what it has seen of a flight resets on the rest of it.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.written {
            let first = buffers.iter().find(|buffer| !buffer.is_empty());
            return self.poll_write(context, first.map_or(&[], |first| first));
        }
        std::task::ready!(self.as_mut().poll_flush(context))?;
        self.write(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(resting) = &mut self.resting {
                std::task::ready!(resting.as_mut().poll(context));
                self.resting = None;
            }
            let Some(piece) = self.pieces.pop() else {
                return Pin::new(&mut self.stream).poll_flush(context);
            };
            std::task::ready!(self.write_piece(context, piece))?;
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Hello {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let count = into.filled().len() - before;
        self.carried.received.fetch_add(count, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}
