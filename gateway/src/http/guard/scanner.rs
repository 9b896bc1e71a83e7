//! Follows the framing of an HTTP/1 request stream (RFC 9112) and says what Envoy would refuse. Bytes in, decisions out; no
//! byte of a head is looked at more than twice, none is copied.

mod head;

use mesh::listener::Http;

use crate::{error::BadRequest, limits};
use head::{Bounds, Head, Step};

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// Heads that were passed.
    requests: u64,
    bounds: Bounds,
}

/// Why not everything was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The request of this number wants to leave HTTP, and all of it was passed.
    Switch(u64),
    /// The request of this number is refused. Its head was passed only for [`BadRequest::Path`].
    Refused(u64, BadRequest),
}

#[derive(Debug)]
enum State {
    Head(Box<Head>),
    Length {
        left: u64,
        switch: bool,
    },
    Chunked {
        chunk: Chunk,
        switch: bool,
    },
    /// The body broke its framing; hyper notices at the same byte.
    Broken,
}

/// RFC 9112 section 7.1, in the states of hyper's own decoder.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    at: ChunkAt,
    size: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkAt {
    Start,
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    EndCr,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

struct BrokenFraming;

impl Scanner {
    /// At the beginning of a stream.
    pub(crate) fn new(settings: &Http) -> Self {
        Self {
            state: State::Head(Box::default()),
            requests: 0,
            bounds: Bounds {
                bytes: limits::header_bytes(settings),
                lines: limits::header_count(settings),
                http_10: settings.accept_http_10,
            },
        }
    }

    /// Whether a head is being read, or nothing yet.
    pub(crate) fn in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// The number of the request that is not complete.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests + 1
    }

    /// Scans what follows on what was passed before; a head that is not complete is given again, with more behind it. Returns
    /// how much may be passed on.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match &mut self.state {
                State::Head(head) => match head.scan(rest, self.bounds) {
                    Ok(Step::Incomplete) => break,
                    Ok(Step::Complete(length)) => {
                        passed += length;
                        if let Some(stop) = self.begin_body() {
                            return (passed, Some(stop));
                        }
                    }
                    Err(bad) => return (passed, Some(Stop::Refused(self.next_request(), bad))),
                },
                State::Length { left, switch } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= u64::try_from(count).unwrap_or(*left);
                    passed += count;
                    let (ended, switch) = (*left == 0, *switch);
                    if ended && let Some(stop) = self.end_message(switch) {
                        return (passed, Some(stop));
                    }
                }
                State::Chunked { chunk, switch } => match chunk.scan(rest) {
                    Ok(count) => {
                        passed += count;
                        let (ended, switch) = (chunk.at == ChunkAt::End, *switch);
                        if ended && let Some(stop) = self.end_message(switch) {
                            return (passed, Some(stop));
                        }
                    }
                    Err(BrokenFraming) => self.state = State::Broken,
                },
                State::Broken => return (bytes.len(), None),
            }
        }
        (passed, None)
    }

    /// A head was passed.
    fn begin_body(&mut self) -> Option<Stop> {
        self.requests += 1;
        let State::Head(head) = &self.state else { return None };
        if head.has_fragment() {
            return Some(Stop::Refused(self.requests, BadRequest::Path));
        }
        let switch = head.may_leave_http();
        match head.length() {
            _ if head.is_chunked() => {
                self.state = State::Chunked {
                    chunk: Chunk::START,
                    switch,
                }
            }
            Some(left @ 1..) => self.state = State::Length { left, switch },
            Some(0) | None => return self.end_message(switch),
        }
        None
    }

    fn end_message(&mut self, switch: bool) -> Option<Stop> {
        self.state = State::Head(Box::default());
        switch.then_some(Stop::Switch(self.requests))
    }
}

impl Chunk {
    const START: Self = Self {
        at: ChunkAt::Start,
        size: 0,
        extension_bytes: 0,
        trailer_bytes: 0,
    };

    /// Scans up to the end of the body. Returns how much belongs to it.
    fn scan(&mut self, bytes: &[u8]) -> Result<usize, BrokenFraming> {
        let mut at = 0;
        while at < bytes.len() && self.at != ChunkAt::End {
            if self.at == ChunkAt::Data {
                let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= u64::try_from(count).unwrap_or(self.size);
                at += count;
                if self.size == 0 {
                    self.at = ChunkAt::DataCr;
                }
            } else {
                self.at = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<ChunkAt, BrokenFraming> {
        use ChunkAt::{
            Data, DataCr, DataLf, End, EndCr, EndLf, Extension, Size, SizeLf, SizeSpace, Start, Trailer, TrailerLf,
        };
        match (self.at, byte) {
            (Start | Size, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (Size | SizeSpace, b'\t' | b' ') => Ok(SizeSpace),
            (Size | SizeSpace, b';') => Ok(Extension),
            (Size | SizeSpace | Extension, b'\r') => Ok(SizeLf),
            (Extension, b'\n') => Err(BrokenFraming),
            (Extension, _) => self.count(limits::CHUNK_EXTENSIONS, |chunk| &mut chunk.extension_bytes, Extension),
            (SizeLf, b'\n') if self.size == 0 => Ok(EndCr),
            (SizeLf, b'\n') => Ok(Data),
            (DataCr, b'\r') => Ok(DataLf),
            (DataLf, b'\n') => Ok(Start),
            (EndCr, b'\r') => Ok(EndLf),
            (Trailer, b'\r') => Ok(TrailerLf),
            (EndCr | Trailer, _) => self.count(limits::TRAILERS, |chunk| &mut chunk.trailer_bytes, Trailer),
            (TrailerLf, b'\n') => Ok(EndCr),
            (EndLf, b'\n') => Ok(End),
            (Start | Size | SizeSpace | SizeLf | Data | DataCr | DataLf | TrailerLf | EndLf | End, _) => {
                Err(BrokenFraming)
            }
        }
    }

    fn digit(&mut self, byte: u8) -> Result<ChunkAt, BrokenFraming> {
        let digit = char::from(byte).to_digit(16).ok_or(BrokenFraming)?;
        let size = self
            .size
            .checked_mul(16)
            .and_then(|size| size.checked_add(u64::from(digit)));
        self.size = size.ok_or(BrokenFraming)?;
        Ok(ChunkAt::Size)
    }

    fn count(
        &mut self,
        limit: usize,
        counter: impl Fn(&mut Self) -> &mut usize,
        next: ChunkAt,
    ) -> Result<ChunkAt, BrokenFraming> {
        let counter = counter(self);
        *counter += 1;
        if *counter < limit { Ok(next) } else { Err(BrokenFraming) }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::stream;
