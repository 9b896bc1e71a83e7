//! An upstream that speaks HTTP/2.

use std::{io, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    case::{Message, Reply},
    upstream::{self, Script, Seen},
    wire::{self, Bytes as Stream, PATIENCE},
};

/// Serves one connection.
pub(crate) async fn serve(stream: Box<dyn Stream>, script: &Script, seen: &Seen, index: usize) -> io::Result<()> {
    let mut connection = server::handshake(stream).await.map_err(other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted.map_err(other)?;
        let reply = script.next();
        let message = match reply {
            Some(Reply::Message(message)) => *message,
            None => hello(),
            Some(_) => return Err(io::Error::other("text and steps are for protocol: h1")),
        };
        let work = async {
            let told = read(request).await;
            seen.tell(index, |connection| upstream::request(connection, told));
            if message.close {
                return true;
            }
            if let (Some(code), None) = (&message.reset, message.status) {
                respond.send_reset(reason(code));
                return false;
            }
            let response = Response::builder().status(message.status.unwrap_or(200));
            let mut response = response.body(()).expect("a status");
            *response.headers_mut() = header_map(&message.headers);
            let ends = message.ends_with_head();
            if let Ok(mut body) = respond.send_response(response, ends) {
                send_rest(&mut body, &message).await;
            }
            false
        };
        // The connection must be driven while the exchange goes on.
        let close = tokio::select! {
            close = work => close,
            end = std::future::poll_fn(|context| connection.poll_closed(context)) => {
                end.map_err(other)?;
                return Ok(());
            }
        };
        if close {
            return Ok(());
        }
    }
    Ok(())
}

fn hello() -> Message {
    Message {
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: Some("hello".to_owned()),
        ..Message::default()
    }
}

async fn read(request: Request<RecvStream>) -> Value {
    let (head, mut body) = request.into_parts();
    let mut told = json!({
        "method": head.method.as_str(),
        "scheme": head.uri.scheme_str(),
        "authority": head.uri.authority().map(http::uri::Authority::as_str),
        "path": head.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        "version": "HTTP/2",
        "headers": headers(&head.headers),
    });
    read_body(&mut body, &mut told).await;
    told
}

/// Reads a body and its trailers, and how they end if not well.
pub(crate) async fn read_body(body: &mut RecvStream, told: &mut Value) {
    let mut bytes = Vec::new();
    loop {
        match timeout(PATIENCE, body.data()).await {
            Err(_) => told["cut"] = json!("open"),
            Ok(Some(Ok(chunk))) => {
                // The window is as wide as what has been read; that it cannot be given back means that the stream is over.
                let _ = body.flow_control().release_capacity(chunk.len());
                bytes.extend_from_slice(&chunk);
                continue;
            }
            Ok(Some(Err(error))) => told["cut"] = json!(cause(&error)),
            Ok(None) => match timeout(PATIENCE, body.trailers()).await {
                Ok(Ok(Some(trailers))) => told["trailers"] = headers(&trailers),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => told["cut"] = json!(cause(&error)),
                Err(_) => told["cut"] = json!("open"),
            },
        }
        told["body"] = wire::body(&bytes);
        return;
    }
}

/// Sends what comes after the head.
pub(crate) async fn send_rest(stream: &mut SendStream<Bytes>, message: &Message) {
    if message.ends_with_head() {
        return;
    }
    if let Some(pause) = message.pause {
        sleep(Duration::from_millis(pause)).await;
    }
    let body = message.body_bytes();
    let ends = message.trailers.is_empty() && !message.unfinished && message.reset.is_none();
    if !send_data(stream, body, ends).await {
        return;
    }
    if let Some(code) = &message.reset {
        stream.send_reset(reason(code));
    } else if !message.trailers.is_empty() {
        // The peer may have had enough, which it tells otherwise.
        let _ = stream.send_trailers(header_map(&message.trailers));
    } else if message.unfinished {
        std::future::pending::<()>().await;
    }
}

/// Sends data as the peer's window opens. False: the peer wants no more.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, ends: bool) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context));
        let Ok(Some(Ok(capacity))) = timeout(PATIENCE, capacity).await else {
            return false;
        };
        let piece = data.split_to(capacity.min(data.len()));
        if stream.send_data(piece, ends && data.is_empty()).is_err() {
            return false;
        }
        if data.is_empty() {
            return true;
        }
    }
    !ends || stream.send_data(Bytes::new(), true).is_ok()
}

impl Message {
    fn body_bytes(&self) -> Bytes {
        match self.bytes {
            Some(count) => (0..count).map(|index| b"abcdefghijklmnop"[index % 16]).collect(),
            None => self.body.clone().unwrap_or_default().into(),
        }
    }

    pub(crate) fn ends_with_head(&self) -> bool {
        self.body.is_none()
            && self.bytes.is_none()
            && self.trailers.is_empty()
            && !self.unfinished
            && self.reset.is_none()
    }
}

pub(crate) fn headers(map: &HeaderMap) -> Value {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    wire::fields(&fields)
}

pub(crate) fn header_map(fields: &[(String, String)]) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|_| panic!("{name:?} is no name"));
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| panic!("{value:?} is no value"));
        (name, value)
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

/// A code by its name in RFC 9113.
pub(crate) fn reason(code: &str) -> Reason {
    match code {
        "NO_ERROR" => Reason::NO_ERROR,
        "PROTOCOL_ERROR" => Reason::PROTOCOL_ERROR,
        "INTERNAL_ERROR" => Reason::INTERNAL_ERROR,
        "REFUSED_STREAM" => Reason::REFUSED_STREAM,
        "CANCEL" => Reason::CANCEL,
        "ENHANCE_YOUR_CALM" => Reason::ENHANCE_YOUR_CALM,
        other => panic!("{other:?} is no code that cases use"),
    }
}

/// Why a stream or connection ended.
pub(crate) fn cause(error: &h2::Error) -> String {
    let what = if error.is_go_away() { "goaway" } else { "reset" };
    match error.reason() {
        Some(reason) => format!("{what} {reason:?}"),
        None => "closed".to_owned(),
    }
}

fn other(error: h2::Error) -> io::Error {
    io::Error::other(error)
}
