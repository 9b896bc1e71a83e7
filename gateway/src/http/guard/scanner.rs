//! Follows the framing of an HTTP/1 request stream (RFC 9112) and says what Envoy would refuse. Bytes in, decisions out; no
//! byte of a head is looked at more than twice, none is copied.

use mesh::listener::Http;

use crate::{error::BadRequest, limits};

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// Heads that were passed.
    requests: u64,
    max_head: usize,
    max_lines: usize,
    accept_http_10: bool,
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

/// What is known of a head that is not complete.
#[derive(Debug, Default, Clone)]
struct Head {
    /// Bytes in which no line end is left to find.
    scanned: usize,
    line: usize,
    lines: usize,
    has_request_line: bool,
    is_http_10: bool,
    is_connect: bool,
    has_upgrade: bool,
    has_fragment: bool,
    length: Option<u64>,
    is_chunked: bool,
}

enum Step {
    Incomplete,
    Complete(usize),
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
            max_head: limits::header_bytes(settings),
            max_lines: limits::header_count(settings),
            accept_http_10: settings.accept_http_10,
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
                State::Head(head) => match head.scan(rest, self.max_head, self.max_lines, self.accept_http_10) {
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
        if head.has_fragment {
            return Some(Stop::Refused(self.requests, BadRequest::Path));
        }
        let switch = head.is_connect || head.has_upgrade;
        match head.length {
            _ if head.is_chunked => {
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

impl Head {
    fn scan(&mut self, bytes: &[u8], max_head: usize, max_lines: usize, http_10: bool) -> Result<Step, BadRequest> {
        loop {
            let Some(found) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                return self.wait(bytes, max_head);
            };
            let end = self.scanned + found;
            let line = &bytes[self.line..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.scanned = end + 1;
            self.line = self.scanned;
            if self.scanned > max_head {
                return Err(BadRequest::HeadersTooLarge);
            }
            if !self.has_request_line {
                self.request_line(line, http_10)?;
            } else if line.is_empty() {
                return self.finish().map(|()| Step::Complete(self.scanned));
            } else {
                self.lines += 1;
                if self.lines > max_lines {
                    return Err(BadRequest::TooManyHeaders);
                }
                self.field(line)?;
            }
        }
    }

    /// More is needed, unless it is clear already that it is of no use.
    fn wait(&mut self, bytes: &[u8], max_head: usize) -> Result<Step, BadRequest> {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r');
        if !self.has_request_line && !bytes[self.scanned..].iter().all(is_text) {
            return Err(BadRequest::Codec);
        }
        self.scanned = bytes.len();
        if self.scanned > max_head {
            Err(BadRequest::HeadersTooLarge)
        } else {
            Ok(Step::Incomplete)
        }
    }

    /// RFC 9112 section 3. Empty lines before it are skipped (section 2.2).
    fn request_line(&mut self, line: &[u8], http_10: bool) -> Result<(), BadRequest> {
        if line.is_empty() {
            return Ok(());
        }
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(BadRequest::Codec);
        }
        let target = words.next().ok_or(BadRequest::Codec)?;
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(BadRequest::Codec);
        }
        let version = words.next();
        if words.next().is_some() {
            return Err(BadRequest::Codec);
        }
        self.version(version, http_10)?;
        self.has_request_line = true;
        self.is_connect = method == b"CONNECT";
        self.has_fragment = target.contains(&b'#');
        Ok(())
    }

    fn version(&mut self, version: Option<&[u8]>, http_10: bool) -> Result<(), BadRequest> {
        match version {
            Some(b"HTTP/1.1") => Ok(()),
            Some(b"HTTP/1.0") if http_10 => {
                self.is_http_10 = true;
                Ok(())
            }
            None => Err(BadRequest::LowVersion),
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Err(BadRequest::LowVersion)
            }
            Some(_) => Err(BadRequest::Codec),
        }
    }

    /// RFC 9112 section 5. A folded line starts with a blank, which no name does.
    fn field(&mut self, line: &[u8]) -> Result<(), BadRequest> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(BadRequest::Codec)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(BadRequest::Codec);
        }
        if !value.iter().copied().all(is_value) {
            return Err(BadRequest::Characters);
        }
        // Three lengths of names matter; most headers have another.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.has_upgrade = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        if self.length.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(BadRequest::Codec);
        }
        let digits = std::str::from_utf8(value).map_err(|_| BadRequest::Codec)?;
        let length: u64 = digits.parse().map_err(|_| BadRequest::Codec)?;
        self.length = Some(length).filter(|length| *length <= MAX_LENGTH);
        self.length.map(|_| ()).ok_or(BadRequest::Codec)
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(BadRequest::TransferEncoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    fn finish(&self) -> Result<(), BadRequest> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(BadRequest::LengthAndChunked),
            (true, None) if self.is_http_10 => Err(BadRequest::TransferEncoding),
            _ => Ok(()),
        }
    }
}

/// hyper keeps two values at the top for itself.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 section 5.5, obsolete text included.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
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
