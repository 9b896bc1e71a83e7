//! What is outside: one site, over HTTP and HTTPS, and the name server that knows it.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use certs::{CaRequest, CertificateAuthority, LeafRequest, Live, Trust, Versions};
use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Header, HeaderCounts, Metadata, ResponseCode},
        rr::{Name, RData, Record, RecordType},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use mesh::host::Host;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

/// The site's name.
pub(crate) const SITE: &str = "site.test";

/// The site and its name server, until dropped.
pub(crate) struct Outside {
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
    pub(crate) dns_port: u16,
    /// What the site's certificate leads to.
    pub(crate) trust: Trust,
    _names: Server<Names>,
}

impl Outside {
    pub(crate) async fn start() -> Self {
        let ca = CertificateAuthority::root(&CaRequest::named("outside"), SystemTime::now()).unwrap();
        let leaf = LeafRequest::server(&Host::parse(SITE).unwrap());
        let identity = Arc::new(Live::new(ca.issue(&leaf, SystemTime::now()).unwrap()));
        let tls = certs::server_config(identity, None, Versions::ALL).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns_port = udp.local_addr().unwrap().port();
        let mut names = Server::new(Names);
        names.register_socket(udp);
        Self {
            http_port: serve(None).await,
            tls_port: serve(Some(Arc::new(tls).into())).await,
            dns_port,
            trust: Trust::Roots(ca.roots().clone()),
            _names: names,
        }
    }
}

/// Answers each connection's first request, over TLS if there is an acceptor.
async fn serve(tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(stream).await,
                    Some(tls) => answer(tls.accept(stream).await?).await,
                }
            });
        }
    });
    port
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\noutside";
    stream.write_all(answer).await?;
    stream.shutdown().await
}

/// Knows the site and nothing else.
struct Names;

#[async_trait::async_trait]
impl RequestHandler for Names {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let asked = request.request_info().unwrap();
        let (name, kind) = (asked.query.name(), asked.query.query_type());
        let known = name.to_string().trim_end_matches('.') == SITE;
        let address = Record::from_rdata(Name::from(name), 60, RData::A(Ipv4Addr::LOCALHOST.into()));
        let records = [address].into_iter().filter(|_| known && kind == RecordType::A);
        let records: Vec<_> = records.collect();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = match known {
            true => ResponseCode::NoError,
            false => ResponseCode::NXDomain,
        };
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = reply.send_response(builder.build(metadata, &records, [], [], [])).await;
        sent.unwrap_or_else(|_| {
            let counts = HeaderCounts::default();
            ResponseInfo::from(Header { metadata, counts })
        })
    }
}
