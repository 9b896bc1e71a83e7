//! The operators of Envoy's format language: what `%NAME(parameter)%` means and what a record gives for it.

use std::{
    borrow::Cow,
    env, fmt,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{
    AccessRecord, HttpKind, Kept, Kind, Plan,
    request::{PathPart, ServerName},
    time::TimeFormat,
};
use crate::{connection::Peer, flags::Flags};

/// One operator, its parameter parsed and its header names resolved to places in the record.
#[derive(Debug)]
pub(super) enum Operator {
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    Request {
        first: usize,
        other: Option<usize>,
    },
    Response {
        first: usize,
        other: Option<usize>,
    },
    Trailer {
        first: usize,
        other: Option<usize>,
    },
    Path(PathPart),
    ServerName(ServerName),
    Protocol,
    ResponseCode,
    ResponseCodeDetails {
        keep_blanks: bool,
    },
    ConnectionTerminationDetails,
    ResponseFlags,
    ResponseFlagsLong,
    GrpcStatus {
        camel: bool,
    },
    GrpcStatusNumber,
    BytesReceived,
    BytesSent,
    UpstreamHost,
    UpstreamHostName {
        port: bool,
    },
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamAddress(Side, Part),
    UpstreamProtocol,
    UpstreamAttempts,
    UpstreamFailure,
    DownstreamAddress(Side, Part),
    /// `DOWNSTREAM_DIRECT_REMOTE_…`: the peer, whoever it speaks for.
    DownstreamPeer(Part),
    RouteName,
    FilterChainName,
    ListenerName,
    ConnectionId,
    Tls(TlsFact),
    Peer(PeerFact),
    LocalSan(SanList),
    Metadata {
        key: Option<String>,
    },
    LogType,
    /// Known when the format is compiled.
    Fixed(String),
    /// Known never to have a value here.
    Absent,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Local,
    Remote,
}

/// Which part of an address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Whole,
    Ip,
    /// The network of that prefix length around the address.
    Network(u8),
    Port,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TlsFact {
    Version,
    Cipher,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum PeerFact {
    San(SanList),
    Subject,
    Issuer,
    Serial,
    Sha256,
    ValidFrom,
    ValidUntil,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum SanList {
    Uri,
    Dns,
    Ip,
}

/// What an operator gives.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Nothing: `-` in text, `null` in JSON.
    Missing,
    Number(u64),
    Text(Cow<'a, str>),
    /// A header's bytes as they came.
    Bytes(&'a [u8]),
    Address(SocketAddr),
    Ip(IpAddr),
    Time(&'a TimeFormat, SystemTime),
    Flags(&'a Flags, bool),
    /// Text in which white space is printed as `_`.
    Joined(&'a str),
}

const DEFAULT_TIME: TimeFormat = TimeFormat::Default;

impl Operator {
    /// Resolves an operator's name and parameter. The error says what is wrong, without naming the operator.
    pub(super) fn parse(name: &str, parameter: Option<&str>, plan: &mut Plan) -> Result<Self, String> {
        if let Some(operator) = Self::with_parameter(name, parameter.unwrap_or_default(), plan) {
            return operator;
        }
        let operator = Self::without_parameter(name).ok_or("is not an operator we know")?;
        match parameter {
            None => Ok(operator),
            Some(_) => Err("takes no parameter".to_owned()),
        }
    }

    fn with_parameter(name: &str, parameter: &str, plan: &mut Plan) -> Option<Result<Self, String>> {
        Some(match name {
            "START_TIME" => TimeFormat::parse(parameter).map(Self::StartTime),
            "EMIT_TIME" => TimeFormat::parse(parameter).map(Self::EmitTime),
            "REQ" | "REQUEST_HEADER" => {
                headers(parameter, |name| plan.request_field(name)).map(|(first, other)| Self::Request { first, other })
            }
            "RESP" | "RESPONSE_HEADER" => headers(parameter, |name| plan.response_header(name))
                .map(|(first, other)| Self::Response { first, other }),
            "TRAILER" | "RESPONSE_TRAILER" => {
                headers(parameter, |name| plan.trailer(name)).map(|(first, other)| Self::Trailer { first, other })
            }
            "PATH" | "QUERY_PARAM" | "QUERY_PARAMS" => PathPart::parse(name, parameter, plan).map(Self::Path),
            "REQUESTED_SERVER_NAME" => ServerName::parse(parameter, plan).map(Self::ServerName),
            "RESPONSE_CODE_DETAILS" => match parameter {
                "" => Ok(Self::ResponseCodeDetails { keep_blanks: false }),
                "ALLOW_WHITESPACES" => Ok(Self::ResponseCodeDetails { keep_blanks: true }),
                _ => Err("takes ALLOW_WHITESPACES or nothing".to_owned()),
            },
            "GRPC_STATUS" => match parameter {
                "" | "CAMEL_STRING" => Ok(Self::GrpcStatus { camel: true }),
                "SNAKE_STRING" => Ok(Self::GrpcStatus { camel: false }),
                "NUMBER" => Ok(Self::GrpcStatusNumber),
                _ => Err("takes CAMEL_STRING, SNAKE_STRING or NUMBER".to_owned()),
            },
            "ENVIRONMENT" => fixed_environment(parameter),
            "DYNAMIC_METADATA" => Ok(metadata(parameter)),
            "METADATA" | "UPSTREAM_METADATA" | "CLUSTER_METADATA" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => {
                Ok(Self::Absent)
            }
            _ => return address(name, parameter),
        })
    }

    fn without_parameter(name: &str) -> Option<Self> {
        Some(match name {
            "DURATION" => Self::Duration,
            "REQUEST_DURATION" => Self::RequestDuration,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "RESPONSE_TX_DURATION" => Self::ResponseTxDuration,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTerminationDetails,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_FLAGS_LONG" => Self::ResponseFlagsLong,
            "GRPC_STATUS_NUMBER" => Self::GrpcStatusNumber,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "UPSTREAM_HOST" => Self::UpstreamHost,
            "UPSTREAM_HOST_NAME" => Self::UpstreamHostName { port: true },
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Self::UpstreamHostName { port: false },
            "UPSTREAM_CLUSTER" => Self::UpstreamCluster,
            "UPSTREAM_CLUSTER_RAW" => Self::UpstreamClusterRaw,
            "UPSTREAM_PROTOCOL" => Self::UpstreamProtocol,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::UpstreamAttempts,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamFailure,
            "ROUTE_NAME" => Self::RouteName,
            "FILTER_CHAIN_NAME" => Self::FilterChainName,
            "LISTENER_NAME" => Self::ListenerName,
            "CONNECTION_ID" => Self::ConnectionId,
            "DOWNSTREAM_TLS_VERSION" => Self::Tls(TlsFact::Version),
            "DOWNSTREAM_TLS_CIPHER" => Self::Tls(TlsFact::Cipher),
            "DOWNSTREAM_PEER_URI_SAN" => Self::Peer(PeerFact::San(SanList::Uri)),
            "DOWNSTREAM_PEER_DNS_SAN" => Self::Peer(PeerFact::San(SanList::Dns)),
            "DOWNSTREAM_PEER_IP_SAN" => Self::Peer(PeerFact::San(SanList::Ip)),
            "DOWNSTREAM_PEER_SUBJECT" => Self::Peer(PeerFact::Subject),
            "DOWNSTREAM_PEER_ISSUER" => Self::Peer(PeerFact::Issuer),
            "DOWNSTREAM_PEER_SERIAL" => Self::Peer(PeerFact::Serial),
            "DOWNSTREAM_PEER_FINGERPRINT_256" => Self::Peer(PeerFact::Sha256),
            "DOWNSTREAM_PEER_CERT_V_START" => Self::Peer(PeerFact::ValidFrom),
            "DOWNSTREAM_PEER_CERT_V_END" => Self::Peer(PeerFact::ValidUntil),
            "DOWNSTREAM_LOCAL_URI_SAN" => Self::LocalSan(SanList::Uri),
            "DOWNSTREAM_LOCAL_DNS_SAN" => Self::LocalSan(SanList::Dns),
            "DOWNSTREAM_LOCAL_IP_SAN" => Self::LocalSan(SanList::Ip),
            "HOSTNAME" => Self::Fixed(env::var("HOSTNAME").unwrap_or_default()),
            // Set by filters or tracers that we do not have; Envoy without them has no value either.
            "VIRTUAL_CLUSTER_NAME" | "TRACE_ID" | "SPAN_ID" => Self::Absent,
            "CUSTOM_FLAGS" => Self::Fixed(String::new()),
            "ACCESS_LOG_TYPE" => Self::LogType,
            _ => return None,
        })
    }

    /// What the record gives.
    pub(super) fn value<'a>(&'a self, record: &'a AccessRecord) -> Value<'a> {
        let upstream = &record.upstream;
        let connection = &record.connection;
        match self {
            Self::StartTime(format) => Value::Time(format, record.started.wall),
            Self::EmitTime(format) => Value::Time(format, SystemTime::now()),
            Self::Duration => millis(Some(record.started.instant), record.response_end),
            Self::RequestDuration => millis(Some(record.started.instant), record.request_end),
            Self::ResponseDuration => millis(Some(record.started.instant), record.response_begin),
            Self::ResponseTxDuration => millis(record.response_begin, record.response_end),
            Self::Request { first, other } => record.header(|http| &http.request, *first, *other),
            Self::Response { first, other } => record.header(|http| &http.response, *first, *other),
            Self::Trailer { first, other } => record.header(|http| &http.trailers, *first, *other),
            Self::Path(part) => part.value(|place| record.kept(place)),
            Self::Protocol => match &record.kind {
                Kind::Http(http) => Value::Text(http.protocol.into()),
                Kind::Tcp | Kind::Unmatched => Value::Missing,
            },
            Self::ResponseCode => Value::Number(record.status.into()),
            Self::ResponseCodeDetails { keep_blanks } => match record.details.as_deref() {
                None => Value::Missing,
                Some(details) if *keep_blanks => Value::Text(details.into()),
                Some(details) => Value::Joined(details),
            },
            Self::ConnectionTerminationDetails => record.termination.as_deref().map_or(Value::Missing, Value::Joined),
            Self::ResponseFlags => Value::Flags(&record.flags, false),
            Self::ResponseFlagsLong => Value::Flags(&record.flags, true),
            Self::GrpcStatus { camel } => match record.grpc_status {
                None => Value::Missing,
                Some(status) => Value::Text(grpc_status_name(status, *camel)),
            },
            Self::GrpcStatusNumber => record
                .grpc_status
                .map_or(Value::Missing, |status| Value::Number(status.into())),
            Self::BytesReceived => Value::Number(record.bytes_received),
            Self::BytesSent => Value::Number(record.bytes_sent),
            Self::UpstreamHost => upstream.host.map_or(Value::Missing, Value::Address),
            Self::UpstreamHostName { port } => record.upstream_host_name(*port),
            Self::UpstreamCluster => match (&upstream.alt_stat_name, &upstream.cluster) {
                (Some(name), Some(_)) => Value::Text((&**name).into()),
                (_, cluster) => text(cluster.as_ref().map(mesh::ClusterName::as_str)),
            },
            Self::UpstreamClusterRaw => text(upstream.cluster.as_ref().map(mesh::ClusterName::as_str)),
            Self::UpstreamAddress(Side::Local, part) => address_value(upstream.local, *part),
            Self::UpstreamAddress(Side::Remote, part) => {
                address_value(upstream.host.filter(|_| upstream.is_connected()), *part)
            }
            Self::UpstreamProtocol => text(upstream.protocol.filter(|_| upstream.is_connected())),
            Self::UpstreamAttempts => Value::Number(upstream.attempts.into()),
            Self::UpstreamFailure => upstream.failure.as_deref().map_or(Value::Missing, Value::Joined),
            Self::DownstreamAddress(Side::Local, part) => address_value(Some(connection.local), *part),
            Self::DownstreamAddress(Side::Remote, part) => address_value(Some(record.remote), *part),
            Self::DownstreamPeer(part) => address_value(Some(connection.remote), *part),
            Self::ServerName(name) => {
                let sni = connection.sni.as_ref().map(|sni| server_name(sni.as_str()));
                name.value(sni, |place| record.kept(place))
            }
            Self::RouteName => text(record.route.as_deref()),
            Self::FilterChainName => text(connection.chain_name.as_deref()),
            Self::ListenerName => text(Some(connection.listener.as_str())),
            Self::ConnectionId => Value::Number(connection.id),
            Self::Tls(fact) => text(connection.tls.as_ref().map(|tls| match fact {
                TlsFact::Version => tls.version,
                TlsFact::Cipher => tls.cipher,
            })),
            Self::Peer(fact) => connection.peer().map_or(Value::Missing, |peer| peer_value(peer, *fact)),
            Self::LocalSan(list) => connection
                .tls
                .as_ref()
                .and_then(|tls| tls.local.as_ref())
                .map_or(Value::Missing, |certificate| sans(certificate, *list)),
            Self::Metadata { key } => text(key.as_ref().and_then(|key| {
                record
                    .metadata
                    .iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, value)| value.as_str())
            })),
            Self::LogType => Value::Text(record.log_type().into()),
            Self::Fixed(value) => Value::Text(value.as_str().into()),
            Self::Absent => Value::Missing,
        }
    }
}

impl AccessRecord {
    fn header<'a>(
        &'a self,
        kept: impl Fn(&'a HttpKind) -> &'a [Kept],
        first: usize,
        other: Option<usize>,
    ) -> Value<'a> {
        let Kind::Http(http) = &self.kind else {
            return Value::Missing;
        };
        let at = |place: usize| kept(http).get(place)?.as_ref();
        at(first)
            .or_else(|| at(other?))
            .map_or(Value::Missing, |value| Value::Bytes(value.as_bytes()))
    }

    fn log_type(&self) -> &'static str {
        match &self.kind {
            Kind::Http(_) => "DownstreamEnd",
            Kind::Tcp => "TcpConnectionEnd",
            Kind::Unmatched => "NotSet",
        }
    }

    /// A kept header of the request, as text.
    fn kept(&self, place: usize) -> Option<&str> {
        let Kind::Http(http) = &self.kind else { return None };
        std::str::from_utf8(http.request.get(place)?.as_ref()?.as_bytes()).ok()
    }

    fn upstream_host_name(&self, port: bool) -> Value<'_> {
        // A host that is configured by address is named by it.
        let name = self
            .upstream
            .host_name
            .as_ref()
            .filter(|name| name.parse::<SocketAddr>().is_err());
        match (name, self.upstream.host) {
            (Some(name), _) => Value::Text((&**name).into()),
            (None, Some(host)) if port => Value::Address(host),
            (None, host) => host.map_or(Value::Missing, |host| Value::Ip(host.ip())),
        }
    }
}

fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text(value: Option<&str>) -> Value<'_> {
    value.map_or(Value::Missing, |text| Value::Text(text.into()))
}

/// A name as it is, or made harmless if it has characters that no host name has: it is what a client said.
fn server_name(name: &str) -> Cow<'_, str> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.bytes().all(harmless) {
        return name.into();
    }
    let replaced = name
        .bytes()
        .map(|byte| if harmless(byte) { char::from(byte) } else { '_' });
    format!("invalid:{}", replaced.collect::<String>()).into()
}

fn millis<'a>(from: Option<Instant>, to: Option<Instant>) -> Value<'a> {
    let elapsed = |(from, to): (Instant, Instant)| to.saturating_duration_since(from);
    match from
        .zip(to)
        .map(elapsed)
        .map(|elapsed: Duration| u64::try_from(elapsed.as_millis()))
    {
        Some(Ok(millis)) => Value::Number(millis),
        _ => Value::Missing,
    }
}

fn address_value<'a>(address: Option<SocketAddr>, part: Part) -> Value<'a> {
    let Some(address) = address else { return Value::Missing };
    match part {
        Part::Whole => Value::Address(address),
        Part::Ip => Value::Ip(address.ip()),
        Part::Port => Value::Number(address.port().into()),
        Part::Network(prefix) => match IpNet::new(address.ip(), prefix) {
            Ok(net) => Value::Text(net.trunc().to_string().into()),
            Err(_) => Value::Ip(address.ip()),
        },
    }
}

fn peer_value(peer: &Peer, fact: PeerFact) -> Value<'_> {
    let certificate = &peer.certificate;
    match fact {
        PeerFact::San(list) => sans(certificate, list),
        PeerFact::Subject => text(filled(&certificate.subject)),
        PeerFact::Issuer => text(filled(&certificate.issuer)),
        PeerFact::Serial => text(Some(&certificate.serial)),
        PeerFact::Sha256 => Value::Text(certificate.fingerprint().into()),
        PeerFact::ValidFrom => Value::Time(&DEFAULT_TIME, certificate.not_before),
        PeerFact::ValidUntil => Value::Time(&DEFAULT_TIME, certificate.not_after),
    }
}

fn sans(certificate: &certs::Certificate, list: SanList) -> Value<'_> {
    let joined = match list {
        SanList::Uri => certificate.uri_sans.join(","),
        SanList::Dns => certificate.dns_sans.join(","),
        SanList::Ip => certificate
            .ip_sans
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(","),
    };
    if joined.is_empty() {
        Value::Missing
    } else {
        Value::Text(joined.into())
    }
}

/// Parses `X` or `X?Y` and gives each name a place in the record.
fn headers(parameter: &str, mut place: impl FnMut(&str) -> Option<usize>) -> Result<(usize, Option<usize>), String> {
    let mut resolve = |name: &str| place(name).ok_or_else(|| format!("{name:?} is not a header name"));
    match parameter.split_once('?') {
        None => Ok((resolve(parameter)?, None)),
        Some((first, other)) => Ok((resolve(first)?, Some(resolve(other)?))),
    }
}

/// `%PATH(WQ|NQ:PATH)%`. Only the path as it is forwarded is kept; the original is `%REQ(X-ENVOY-ORIGINAL-PATH)%`.
fn fixed_environment(name: &str) -> Result<Operator, String> {
    if name.is_empty() {
        return Err("needs the name of a variable: %ENVIRONMENT(NAME)%".to_owned());
    }
    // Envoy takes its own placeholder for the value, so that JSON has it too.
    Ok(Operator::Fixed(env::var(name).unwrap_or_else(|_| "-".to_owned())))
}

/// Only authorization writes metadata: the results of dry-run policies.
fn metadata(parameter: &str) -> Operator {
    match parameter.split_once(':') {
        Some(("envoy.filters.http.rbac", key)) => Operator::Metadata {
            key: Some(key.to_owned()),
        },
        _ => Operator::Absent,
    }
}

/// The `{UP,DOWN}STREAM_…_{LOCAL,REMOTE}_{ADDRESS,PORT}…` family.
fn address(name: &str, parameter: &str) -> Option<Result<Operator, String>> {
    let direct = name.strip_prefix("DOWNSTREAM_DIRECT_");
    let (upstream, rest) = match name.split_once('_')? {
        ("UPSTREAM", rest) => (true, rest),
        ("DOWNSTREAM", rest) => (false, direct.unwrap_or(rest)),
        _ => return None,
    };
    let (side, rest) = match rest.split_once('_')? {
        ("LOCAL", rest) => (Side::Local, rest),
        ("REMOTE", rest) => (Side::Remote, rest),
        _ => return None,
    };
    let part = match (rest, parameter) {
        ("ADDRESS", "") => Part::Whole,
        ("PORT", "") => Part::Port,
        ("ADDRESS_WITHOUT_PORT", "") => Part::Ip,
        ("ADDRESS_WITHOUT_PORT", prefix) => match prefix.parse() {
            Ok(prefix @ 0..=128) => Part::Network(prefix),
            _ => return Some(Err(format!("{prefix:?} is not a prefix length from 0 to 128"))),
        },
        _ => return None,
    };
    Some(Ok(if direct.is_some() && side == Side::Remote {
        Operator::DownstreamPeer(part)
    } else if upstream {
        Operator::UpstreamAddress(side, part)
    } else {
        Operator::DownstreamAddress(side, part)
    }))
}

/// Names of the gRPC status codes, in order of their numbers.
const GRPC_STATUSES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

fn grpc_status_name(status: u32, camel: bool) -> Cow<'static, str> {
    let names = usize::try_from(status)
        .ok()
        .and_then(|status| GRPC_STATUSES.get(status));
    names.map_or_else(
        || status.to_string().into(),
        |(in_camel, in_snake)| if camel { *in_camel } else { *in_snake }.into(),
    )
}

impl Value<'_> {
    /// Writes the value as text; nothing if it is missing.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing => {}
            Self::Number(number) => write_number(*number, out),
            Self::Text(value) => out.extend_from_slice(value.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Address(address) => write_address(*address, out),
            Self::Ip(ip) => write_ip(*ip, out),
            Self::Time(format, at) => format.write(*at, out),
            Self::Flags(flags, long) => write_flags(flags, *long, out),
            Self::Joined(value) => write_joined(value, out),
        }
    }
}

/// Byte by byte: a copy of one to three bytes costs as much as what made them.
fn write_number(number: u64, out: &mut Vec<u8>) {
    for byte in itoa::Buffer::new().format(number).bytes() {
        out.push(byte);
    }
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    if let SocketAddr::V6(address) = address {
        return write_formatted(format_args!("{address}"), out);
    }
    write_ip(address.ip(), out);
    out.push(b':');
    write_number(address.port().into(), out);
}

/// Most lines have four or five addresses, which the formatter of the standard library makes a fifth of a line's cost each.
fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(ip) = ip else {
        return write_formatted(format_args!("{ip}"), out);
    };
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        write_number(octet.into(), out);
    }
}

fn write_joined(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in &mut out[start..] {
        if byte.is_ascii_whitespace() {
            *byte = b'_';
        }
    }
}

fn write_formatted(text: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

fn write_flags(flags: &Flags, long: bool, out: &mut Vec<u8>) {
    let start = out.len();
    for flag in flags.iter() {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(if long { flag.long() } else { flag.short() }.as_bytes());
    }
    if out.len() == start {
        out.push(b'-');
    }
}
