//! HTTP/1.1 as it is on the wire, read without opinion: whatever a peer sends is told as it came.

use std::{io, time::Duration};

use rustls::AlertDescription;
use serde_json::{Map, Value, json};
use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long a peer may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
/// Longest head that is read, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// Bytes read at a time.
const READ: usize = 16 << 10;

/// A byte stream, encrypted or not.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// A connection, with what has been read ahead.
pub(crate) struct Wire {
    stream: Box<dyn Bytes>,
    socket: Socket,
    ahead: Vec<u8>,
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Closed,
    Reset,
    /// TLS ended it, with this alert.
    Alert(AlertDescription),
}

/// A head: its first line, and its fields in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Wire {
    pub(crate) fn plain(stream: TcpStream) -> io::Result<Self> {
        let socket = SockRef::from(&stream).try_clone()?;
        Ok(Self::over(Box::new(stream), socket))
    }

    /// A stream over a socket, of which `socket` is another handle.
    pub(crate) fn over(stream: Box<dyn Bytes>, socket: Socket) -> Self {
        Self {
            stream,
            socket,
            ahead: Vec::new(),
        }
    }

    pub(crate) fn into_stream(self) -> Box<dyn Bytes> {
        self.stream
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends our direction.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Makes the connection end with a reset when it is dropped.
    pub(crate) fn linger_no_more(&self) -> io::Result<()> {
        self.socket.set_linger(Some(Duration::ZERO))
    }

    /// Reads whatever comes next.
    pub(crate) async fn some(&mut self) -> Result<Vec<u8>, End> {
        if self.ahead.is_empty() {
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Reads one response to a request with this method, interim ones included.
    pub(crate) async fn response(&mut self, method: &str) -> Value {
        let mut interim = Vec::new();
        loop {
            let head = match self.head().await {
                Ok(head) => head,
                Err(end) => return end.told(),
            };
            let status = head.line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
            let status = status.unwrap_or_default();
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let bodiless =
                method == "HEAD" || method == "CONNECT" && status == 200 || matches!(status, 101 | 204 | 304);
            let framing = if bodiless {
                Framing::None
            } else {
                head.framing(Framing::UntilClose)
            };
            let mut told = json!({
                "status": status,
                "version": head.line.split(' ').next().unwrap_or_default(),
                "headers": head.told(),
            });
            self.body(framing, &mut told).await;
            if !interim.is_empty() {
                told["interim"] = json!(interim);
            }
            return told;
        }
    }

    /// Reads one request's head.
    pub(crate) async fn request(&mut self) -> Result<Head, End> {
        self.head().await
    }

    /// Reads a request's body and tells the whole of it.
    pub(crate) async fn request_body(&mut self, head: &Head) -> Value {
        let mut words = head.line.split(' ');
        let mut told = json!({
            "method": words.next(),
            "path": words.next(),
            "version": words.next(),
            "headers": head.told(),
        });
        self.body(head.framing(Framing::None), &mut told).await;
        told
    }

    /// Reads exactly this many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.ahead.len() < count {
            self.more().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Reads until the peer ends its direction.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.more().await {
                return (std::mem::take(&mut self.ahead), end);
            }
        }
    }

    /// How the connection stands after `grace`; what arrives is thrown away.
    pub(crate) async fn end(&mut self, grace: Duration) -> End {
        timeout(grace, async { self.rest().await.1 }).await.unwrap_or(End::Open)
    }

    async fn head(&mut self) -> Result<Head, End> {
        let length = loop {
            if let Some(length) = find(&self.ahead, b"\r\n\r\n") {
                break length;
            }
            if self.ahead.len() > MAX_HEAD {
                return Err(End::Open);
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.ahead.drain(..length + 4).collect();
        Ok(Head::parse(&String::from_utf8_lossy(&head)))
    }

    async fn body(&mut self, framing: Framing, told: &mut Value) {
        let mut end = None;
        let bytes = match framing {
            Framing::None => Vec::new(),
            Framing::Length(length) => match self.exactly(length).await {
                Ok(bytes) => bytes,
                Err(cut) => {
                    end = Some(cut);
                    std::mem::take(&mut self.ahead)
                }
            },
            Framing::UntilClose => {
                let (bytes, how) = self.rest().await;
                end = (how != End::Closed).then_some(how);
                bytes
            }
            Framing::Chunked => {
                let (bytes, trailers, cut) = self.chunks().await;
                if !trailers.is_empty() {
                    told["trailers"] = fields(&trailers);
                }
                end = cut;
                bytes
            }
        };
        told["framing"] = json!(framing.told());
        told["body"] = body(&bytes);
        if let Some(end) = end {
            told["cut"] = end.told();
        }
    }

    async fn chunks(&mut self) -> (Vec<u8>, Vec<(String, String)>, Option<End>) {
        let mut bytes = Vec::new();
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(end) => return (bytes, Vec::new(), Some(end)),
            };
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return (bytes, vec![("malformed chunk".to_owned(), line)], None);
            };
            if size == 0 {
                return match self.trailers().await {
                    Ok(trailers) => (bytes, trailers, None),
                    Err(end) => (bytes, Vec::new(), Some(end)),
                };
            }
            match self.exactly(size + 2).await {
                Ok(chunk) => bytes.extend_from_slice(&chunk[..size]),
                Err(end) => {
                    bytes.append(&mut self.ahead);
                    return (bytes, Vec::new(), Some(end));
                }
            }
        }
    }

    async fn trailers(&mut self) -> Result<Vec<(String, String)>, End> {
        let mut trailers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.push(field(&line));
        }
    }

    async fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(length) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..length + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..length]).into_owned());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), End> {
        self.ahead.reserve(READ);
        match timeout(PATIENCE, self.stream.read_buf(&mut self.ahead)).await {
            Err(_) => Err(End::Open),
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::of(&error)),
        }
    }
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        Self {
            line: lines.next().unwrap_or_default().to_owned(),
            fields: lines.map(field).collect(),
        }
    }

    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    fn told(&self) -> Value {
        fields(&self.fields)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    fn framing(&self, otherwise: Framing) -> Framing {
        let coding = self.field("transfer-encoding").unwrap_or_default();
        if coding.to_ascii_lowercase().ends_with("chunked") {
            return Framing::Chunked;
        }
        match self.field("content-length").map(str::parse) {
            Some(Ok(length)) => Framing::Length(length),
            _ => otherwise,
        }
    }
}

impl Framing {
    fn told(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Length(_) => "content-length",
            Self::Chunked => "chunked",
            Self::UntilClose => "until close",
        }
    }
}

impl End {
    pub(crate) fn of(error: &io::Error) -> Self {
        if let Some(rustls::Error::AlertReceived(alert)) = certs::tls_error(error) {
            return Self::Alert(*alert);
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Closed,
        }
    }

    pub(crate) fn told(self) -> Value {
        json!(match self {
            Self::Open => "open".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Alert(alert) => format!("alert {alert:?}"),
        })
    }
}

/// Fields by name: the order of different names means nothing, the order of equal ones does.
pub(crate) fn fields(fields: &[(String, String)]) -> Value {
    let mut named: Map<String, Value> = Map::new();
    for (name, value) in fields {
        let values = named.entry(name.as_str()).or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(json!(value));
        }
    }
    Value::Object(named)
}

/// A body: its text, or the length and a sum of a long or binary one.
pub(crate) fn body(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) if text.len() <= 512 => json!(text),
        _ => {
            let sum = bytes
                .iter()
                .fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
            json!(format!("{} bytes, sum {sum:08x}", bytes.len()))
        }
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, "(no colon)"));
    (name.to_owned(), value.trim().to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The text of a head as it is written in a case: lines end in LF there and in CRLF here; what follows the first empty line
/// is the body, verbatim.
pub(crate) fn message(text: &str) -> Vec<u8> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body.as_bytes());
    bytes
}
