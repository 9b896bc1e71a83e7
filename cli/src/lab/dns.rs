//! The name server of the lab: authoritative for whatever its zone says, over UDP and TCP on loopback.
//!
//! The zone may change at any time; answers live [`TTL`] seconds, short enough for a test to see a change and long enough to be
//! cached. A name the zone does not have does not exist.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_server::{
    Server,
    net::{NetError, runtime::Time},
    proto::{
        op::{Header, HeaderCounts, Metadata, ResponseCode},
        rr::{LowerName, Name, RData, Record, RecordType},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

/// How long an answer may be cached, in seconds.
pub const TTL: u32 = 30;
/// A DNS client that goes silent on a TCP connection is dropped after this time.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Answers queued per TCP connection.
const TCP_QUEUE: usize = 64;
/// Attempts to find a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 16;

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, in this order.
    Addresses(Vec<Ipv4Addr>),
    /// The name exists and has no address.
    Empty,
    /// The name does not exist.
    NxDomain,
    /// The server cannot say.
    ServerFailure,
}

/// The names the server knows. Clones are the same zone.
#[derive(Debug, Clone, Default)]
pub struct Zone(Arc<Mutex<HashMap<Box<str>, Answer>>>);

/// A running server; ends when dropped.
pub struct NameServer {
    address: SocketAddr,
    zone: Zone,
    _server: Server<Zone>,
}

impl Zone {
    /// Sets what a name (lower-case, no trailing dot) resolves to from now on.
    pub fn set(&self, name: &str, answer: Answer) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.into(), answer);
    }

    fn answer(&self, name: &LowerName) -> Answer {
        let text = name.to_string();
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = names.get(text.trim_end_matches('.'));
        answer.cloned().unwrap_or(Answer::NxDomain)
    }
}

impl NameServer {
    /// Starts a server with an empty zone on an ephemeral loopback port.
    ///
    /// # Errors
    /// No port is free for both UDP and TCP.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).await
    }

    /// Starts a server with an empty zone on an address; port 0 is an ephemeral port.
    ///
    /// # Errors
    /// The address cannot be had for UDP and TCP.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        let (udp, tcp) = bind(address).await?;
        let address = udp.local_addr()?;
        let zone = Zone::default();
        let mut server = Server::new(zone.clone());
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_QUEUE);
        Ok(Self {
            address,
            zone,
            _server: server,
        })
    }

    /// Where the server listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }
}

/// The kernel hands out UDP and TCP ports separately, so the TCP twin of a fresh UDP port may be taken.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
}

#[async_trait::async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, reply: R) -> ResponseInfo {
        match respond(self, request, reply).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "dns answer not sent");
                failed(request)
            }
        }
    }
}

async fn respond<R: ResponseHandler>(zone: &Zone, request: &Request, mut reply: R) -> Result<ResponseInfo, NetError> {
    let builder = MessageResponseBuilder::from_message_request(request);
    let Ok(asked) = request.request_info() else {
        return reply
            .send_response(builder.error_msg(&request.metadata, ResponseCode::FormErr))
            .await;
    };
    let (code, addresses) = match zone.answer(asked.query.name()) {
        Answer::Addresses(addresses) => (ResponseCode::NoError, addresses),
        Answer::Empty => (ResponseCode::NoError, Vec::new()),
        Answer::NxDomain => (ResponseCode::NXDomain, Vec::new()),
        Answer::ServerFailure => (ResponseCode::ServFail, Vec::new()),
    };
    let records = match asked.query.query_type() {
        RecordType::A => records(&asked.query.name().into(), addresses),
        _ => Vec::new(),
    };
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = code;
    metadata.authoritative = true;
    reply.send_response(builder.build(metadata, &records, [], [], [])).await
}

fn records(name: &Name, addresses: Vec<Ipv4Addr>) -> Vec<Record> {
    let record = |address: Ipv4Addr| Record::from_rdata(name.clone(), TTL, RData::A(address.into()));
    addresses.into_iter().map(record).collect()
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}
