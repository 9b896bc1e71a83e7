//! HTTP/2 frame by frame, for what no library would send: frames are written as a case says, and what comes back is told by
//! stream.

use std::{collections::BTreeMap, io};

use loona_hpack::Decoder;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::{End, Wire, body, fields};

/// A frame to send (RFC 9113 section 6).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Frame {
    /// A head, or trailers: fields in order, never compressed.
    Headers {
        stream: u32,
        fields: Vec<(String, String)>,
        #[serde(default)]
        end: bool,
        /// Cut into so many frames, the rest of them CONTINUATION.
        #[serde(default = "one")]
        pieces: usize,
        /// How often the last field is there.
        #[serde(default = "one")]
        times: usize,
    },
    Data {
        stream: u32,
        text: String,
        #[serde(default)]
        end: bool,
    },
    /// Identifiers and values.
    Settings(Vec<(u16, u32)>),
    Reset {
        stream: u32,
        code: u32,
    },
    Goaway {
        last: u32,
        code: u32,
    },
    WindowUpdate {
        stream: u32,
        by: u32,
    },
    /// Anything: type, flags, stream, payload in hexadecimal.
    Other(u8, u8, u32, String),
}

/// What came on one stream.
#[derive(Debug, Default)]
struct Stream {
    heads: Vec<Vec<(String, String)>>,
    data: Vec<u8>,
    end: Option<Value>,
}

/// Frame types.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RESET: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// `SETTINGS_HEADER_TABLE_SIZE`, which is zero so that every head can be read by itself.
const NO_TABLE: (u16, u32) = (1, 0);

fn one() -> usize {
    1
}

/// Begins a connection as a client, or as a server, which has no preface.
pub(crate) async fn begin(wire: &mut Wire, client: bool, settings: &[(u16, u32)]) -> io::Result<()> {
    if client {
        wire.send(PREFACE).await?;
    }
    let settings = [&[NO_TABLE], settings].concat();
    send(wire, &Frame::Settings(settings)).await?;
    if client {
        agree(wire).await?;
    }
    Ok(())
}

/// Waits until both sides know each other's settings: what is sent later could meet a peer that has closed.
async fn agree(wire: &mut Wire) -> io::Result<()> {
    let (mut theirs, mut ours) = (false, false);
    while !(theirs && ours) {
        match frame(wire).await {
            Ok((kind::SETTINGS, flags, ..)) if flags & ACK != 0 => ours = true,
            Ok((kind::SETTINGS, ..)) => {
                theirs = true;
                write(wire, kind::SETTINGS, ACK, 0, &[]).await?;
            }
            Ok(_) => {}
            // It shows in what is read next.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Writes a frame.
pub(crate) async fn send(wire: &mut Wire, frame: &Frame) -> io::Result<()> {
    let end = |end: bool| if end { END_STREAM } else { 0 };
    match frame {
        Frame::Headers {
            stream,
            fields,
            end: ends,
            pieces,
            times,
        } => {
            let block = block(fields, *times);
            for (kind, flags, piece) in cut(&block, *pieces) {
                let flags = if kind == kind::HEADERS {
                    flags | end(*ends)
                } else {
                    flags
                };
                write(wire, kind, flags, *stream, piece).await?;
            }
            Ok(())
        }
        Frame::Data {
            stream,
            text,
            end: ends,
        } => write(wire, kind::DATA, end(*ends), *stream, text.as_bytes()).await,
        Frame::Settings(settings) => {
            let value = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
            let payload: Vec<u8> = settings.iter().flat_map(value).collect();
            write(wire, kind::SETTINGS, 0, 0, &payload).await
        }
        Frame::Reset { stream, code } => write(wire, kind::RESET, 0, *stream, &code.to_be_bytes()).await,
        Frame::Goaway { last, code } => {
            let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
            write(wire, kind::GOAWAY, 0, 0, &payload).await
        }
        Frame::WindowUpdate { stream, by } => write(wire, kind::WINDOW_UPDATE, 0, *stream, &by.to_be_bytes()).await,
        Frame::Other(kind, flags, stream, payload) => {
            write(wire, *kind, *flags, *stream, &crate::steps::hex(payload)).await
        }
    }
}

async fn write(wire: &mut Wire, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).expect("a frame of a test is short");
    let [_, high, middle, low] = length.to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    wire.send(&frame).await
}

/// Literal fields without indexing (RFC 7541 section 6.2.2).
fn block(fields: &[(String, String)], times: usize) -> Vec<u8> {
    let last = fields.last().into_iter().cycle().take(times.saturating_sub(1));
    let mut block = Vec::new();
    for (name, value) in fields.iter().chain(last) {
        block.push(0);
        for text in [name, value] {
            block.extend_from_slice(&loona_hpack::encoder::encode_integer(text.len(), 7));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// One HEADERS frame and CONTINUATION for the rest: type, flags, payload.
fn cut(block: &[u8], pieces: usize) -> Vec<(u8, u8, &[u8])> {
    let size = block.len().div_ceil(pieces).clamp(1, 16_384);
    let count = block.chunks(size).count();
    let frame = |(index, piece)| {
        let kind = if index == 0 { kind::HEADERS } else { kind::CONTINUATION };
        (kind, if index + 1 == count { END_HEADERS } else { 0 }, piece)
    };
    block.chunks(size).enumerate().map(frame).collect()
}

/// Reads until these streams or the connection have ended, and tells what came.
pub(crate) async fn read(wire: &mut Wire, wanted: &[u32]) -> Value {
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    let (mut decoder, mut pending, mut told) = (Decoder::new(), Vec::new(), json!({}));
    while !wanted
        .iter()
        .all(|id| streams.get(id).is_some_and(|stream| stream.end.is_some()))
    {
        let (kind, flags, id, payload) = match frame(wire).await {
            Ok(frame) => frame,
            Err(end) => {
                told["end"] = end.told();
                break;
            }
        };
        match kind {
            kind::HEADERS | kind::CONTINUATION => {
                pending.extend_from_slice(unpadded(kind, flags, &payload));
                if flags & END_HEADERS != 0 {
                    streams
                        .entry(id)
                        .or_default()
                        .heads
                        .push(decoded(&mut decoder, &pending));
                    pending.clear();
                }
            }
            kind::DATA => streams.entry(id).or_default().data.extend_from_slice(&payload),
            kind::RESET => streams.entry(id).or_default().end = Some(json!(format!("reset {}", number(&payload)))),
            kind::GOAWAY => told["goaway"] = json!(number(payload.get(4..).unwrap_or_default())),
            // Neither may be answered once the peer has closed.
            kind::SETTINGS if flags & ACK == 0 => drop(write(wire, kind::SETTINGS, ACK, 0, &[]).await),
            kind::PING if flags & ACK == 0 => drop(write(wire, kind::PING, ACK, 0, &payload).await),
            _ => {}
        }
        if matches!(kind, kind::HEADERS | kind::DATA) && flags & END_STREAM != 0 {
            streams.entry(id).or_default().end.get_or_insert(json!("whole"));
        }
    }
    for (id, stream) in streams {
        told["streams"][id.to_string()] = stream.told();
    }
    told
}

async fn frame(wire: &mut Wire) -> Result<(u8, u8, u32, Vec<u8>), End> {
    let head = wire.exactly(9).await?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let payload = wire.exactly(length).await?;
    Ok((head[3], head[4], number(&head[5..]) & 0x7fff_ffff, payload))
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A HEADERS frame may begin with a priority.
fn unpadded(kind: u8, flags: u8, payload: &[u8]) -> &[u8] {
    const PRIORITY: u8 = 0x20;
    let skip = if kind == kind::HEADERS && flags & PRIORITY != 0 {
        5
    } else {
        0
    };
    payload.get(skip..).unwrap_or_default()
}

fn decoded(decoder: &mut Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Ok(decoded) = decoder.decode(block) else {
        return vec![("undecodable".to_owned(), String::new())];
    };
    decoded.iter().map(|(name, value)| (text(name), text(value))).collect()
}

impl Stream {
    fn told(self) -> Value {
        let status = |head: &[(String, String)]| head.iter().find(|(name, _)| name == ":status").cloned();
        let (mut told, mut has_head) = (json!({"body": body(&self.data), "end": self.end}), false);
        for head in self.heads {
            match status(&head).and_then(|(_, status)| status.parse::<u16>().ok()) {
                Some(interim @ 100..=199) => told["interim"] = json!(interim),
                status if !has_head => {
                    has_head = true;
                    told["status"] = json!(status);
                    told["headers"] = fields(&head);
                }
                _ => told["trailers"] = fields(&head),
            }
        }
        told
    }
}
