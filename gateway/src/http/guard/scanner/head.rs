//! The head of one request: its line, its fields, and what they say about where its body ends.

use http::Uri;

use crate::error::BadRequest;

/// What is known of a head that is not complete.
#[derive(Debug, Default, Clone)]
pub(super) struct Head {
    /// Bytes in which no line end is left to find.
    scanned: usize,
    line: usize,
    lines: usize,
    has_request_line: bool,
    is_http_10: bool,
    is_connect: bool,
    has_upgrade: bool,
    has_fragment: bool,
    length: Length,
    coding: Coding,
}

/// How much of a head is taken, and which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes.
    pub(super) bytes: usize,
    /// Header lines.
    pub(super) lines: usize,
    /// HTTP/1.0 too.
    pub(super) http_10: bool,
}

/// What a scan of a head has come to.
pub(super) enum Step {
    /// More is needed.
    Incomplete,
    /// It has so many bytes.
    Complete(usize),
}

/// What `content-length` says.
#[derive(Debug, Default, Clone, Copy)]
enum Length {
    #[default]
    None,
    Bytes(u64),
    Malformed,
}

/// What `transfer-encoding` says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Other,
}

/// The methods that Envoy takes over HTTP/1.
const METHODS: [&[u8]; 35] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];

/// hyper keeps two values at the top for itself.
const MAX_LENGTH: u64 = u64::MAX - 2;

impl Head {
    /// Scans a head from its beginning; what was scanned of it before is not looked at again.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn scan(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Step, BadRequest> {
        loop {
            let Some(found) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                return self.wait(bytes, bounds);
            };
            let end = self.scanned + found;
            let line = &bytes[self.line..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.scanned = end + 1;
            self.line = self.scanned;
            if self.scanned > bounds.bytes {
                return Err(BadRequest::HeadersTooLarge);
            }
            if !self.has_request_line {
                self.request_line(line, bounds.http_10)?;
            } else if line.is_empty() {
                return self.finish().map(|()| Step::Complete(self.scanned));
            } else {
                self.lines += 1;
                if self.lines > bounds.lines {
                    return Err(BadRequest::TooManyHeaders);
                }
                self.field(line)?;
            }
        }
    }

    /// Whether the request is one that may leave HTTP.
    pub(super) fn may_leave_http(&self) -> bool {
        self.is_connect || self.has_upgrade
    }

    pub(super) fn has_fragment(&self) -> bool {
        self.has_fragment
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.coding == Coding::Chunked
    }

    /// Bytes of the body of a complete head, if it says so.
    pub(super) fn length(&self) -> Option<u64> {
        match self.length {
            Length::Bytes(bytes) => Some(bytes),
            Length::None | Length::Malformed => None,
        }
    }

    /// More is needed, unless it is clear already that it is of no use.
    fn wait(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Step, BadRequest> {
        if !self.has_request_line {
            check_start(&bytes[self.line..])?;
            check_text(&bytes[self.scanned..])?;
        }
        self.scanned = bytes.len();
        if self.scanned > bounds.bytes {
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
        check_start(line)?;
        check_text(line)?;
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        if !METHODS.contains(&method) {
            return Err(BadRequest::Codec);
        }
        let target = words.next().ok_or(BadRequest::Codec)?;
        let version = words.next();
        if words.next().is_some() {
            return Err(BadRequest::Codec);
        }
        check_target(method, target)?;
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
        check_controls(line)?;
        let colon = line.iter().position(|byte| *byte == b':').ok_or(BadRequest::Codec)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(BadRequest::Codec);
        }
        if value.contains(&b'\r') {
            return Err(BadRequest::Characters);
        }
        // Three lengths of names matter; most headers have another.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length = self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding = self.transfer_encoding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.has_upgrade = true,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&self, value: &[u8]) -> Length {
        let is_first = matches!(self.length, Length::None);
        let digits = Some(value).filter(|value| is_first && !value.is_empty() && value.iter().all(u8::is_ascii_digit));
        let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        match length {
            Some(length) if length <= MAX_LENGTH => Length::Bytes(length),
            _ => Length::Malformed,
        }
    }

    fn transfer_encoding(&self, value: &[u8]) -> Coding {
        if self.coding == Coding::None && value.eq_ignore_ascii_case(b"chunked") {
            Coding::Chunked
        } else {
            Coding::Other
        }
    }

    /// RFC 9112 section 6.3, without what that leaves to the recipient.
    fn finish(&self) -> Result<(), BadRequest> {
        if self.is_connect && (self.is_chunked() || self.length().is_some_and(|length| length > 0)) {
            return Err(BadRequest::Body);
        }
        match (self.coding, self.length) {
            (Coding::Chunked | Coding::Other, Length::Bytes(_) | Length::Malformed) => {
                Err(BadRequest::LengthAndChunked)
            }
            (Coding::Other, Length::None) => Err(BadRequest::TransferEncoding),
            (Coding::Chunked, Length::None) if self.is_http_10 => Err(BadRequest::TransferEncoding),
            (Coding::None, Length::Malformed) => Err(BadRequest::Codec),
            (Coding::Chunked, Length::None) | (Coding::None, Length::Bytes(_) | Length::None) => Ok(()),
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a request line begins like one. An empty line may come before it.
fn check_start(line: &[u8]) -> Result<(), BadRequest> {
    let is_first = |first: &u8| *first == b'\r' || METHODS.iter().any(|method| method.first() == Some(first));
    if line.first().is_none_or(is_first) {
        Ok(())
    } else {
        Err(BadRequest::Codec)
    }
}

/// RFC 9112 section 3.2: a path, a URL, an asterisk; and nothing that hyper would refuse without telling us.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), BadRequest> {
    let scheme = target.windows(3).position(|window| window == b"://");
    match (target.first(), scheme) {
        (Some(b'/'), _) if method == b"CONNECT" => return Err(BadRequest::Target),
        (Some(b'/'), _) => {}
        (_, Some(1..)) if is_hostless(target) => return Err(BadRequest::Target),
        (_, Some(1..)) => {}
        _ if target == b"*" || method == b"CONNECT" => {}
        _ => return Err(BadRequest::Codec),
    }
    Uri::try_from(target).map(|_| ()).map_err(|_| BadRequest::Codec)
}

fn is_hostless(url: &[u8]) -> bool {
    let lower = url.to_ascii_lowercase();
    let host = lower.strip_prefix(b"http://").or(lower.strip_prefix(b"https://"));
    host.is_some_and(|host| host.first().is_none_or(|first| matches!(first, b'/' | b'?')))
}

/// A request line is plain text.
fn check_text(line: &[u8]) -> Result<(), BadRequest> {
    match line.iter().find(|byte| !matches!(byte, b' '..=b'~' | b'\r')) {
        None => Ok(()),
        Some(byte) if byte.is_ascii_control() && *byte != b'\t' => Err(BadRequest::Characters),
        Some(_) => Err(BadRequest::Codec),
    }
}

/// Control characters have no place in a head (RFC 9110 section 5.5), tabs aside; where a carriage return stands is asked
/// later.
fn check_controls(line: &[u8]) -> Result<(), BadRequest> {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r');
    if line.iter().any(is_control) {
        Err(BadRequest::Characters)
    } else {
        Ok(())
    }
}
