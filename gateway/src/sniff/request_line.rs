//! Tells HTTP in plaintext from other protocols by its first line. Pure: bytes in, verdict out.
//!
//! Source: RFC 9112 section 3 (request line), RFC 9113 section 3.4 (preface).

/// What the first bytes of a plaintext connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// More bytes are needed to tell.
    Incomplete,
    /// Not HTTP.
    Other,
    /// HTTP, in the version as filter chains name it: `http/1.0`, `http/1.1`, `h2c`.
    Http(&'static str),
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method that is believed to be one. The longest registered has 17 letters.
const MAX_METHOD: usize = 24;

/// Looks at everything received so far.
pub(crate) fn read(seen: &[u8]) -> Spoken {
    if seen.starts_with(PREFACE) {
        return Spoken::Http("h2c");
    }
    if PREFACE.starts_with(seen) {
        return Spoken::Incomplete;
    }
    match method_end(seen) {
        Err(verdict) => verdict,
        Ok(end) => version(seen.get(end..).unwrap_or_default()),
    }
}

/// Where the method ends: capital letters and hyphens, then a blank.
fn method_end(seen: &[u8]) -> Result<usize, Spoken> {
    let length = seen
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    match seen.get(length) {
        Some(b' ') if (1..=MAX_METHOD).contains(&length) => Ok(length + 1),
        None if length <= MAX_METHOD => Err(Spoken::Incomplete),
        _ => Err(Spoken::Other),
    }
}

/// The version at the end of the line that `rest` is the rest of.
fn version(rest: &[u8]) -> Spoken {
    let is_text = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\r';
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return if rest.iter().all(is_text) {
            Spoken::Incomplete
        } else {
            Spoken::Other
        };
    };
    let line = rest.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.rsplit(|byte| *byte == b' ').next() {
        Some(b"HTTP/1.1") => Spoken::Http("http/1.1"),
        Some(b"HTTP/1.0") => Spoken::Http("http/1.0"),
        _ => Spoken::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expect: Spoken) {
        assert_eq!(read(bytes), expect, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn versions_are_found_in_the_first_line() {
        check(b"GET / HTTP/1.1\r\nhost: a\r\n", Spoken::Http("http/1.1"));
        check(b"GET http://a/?b HTTP/1.0\n", Spoken::Http("http/1.0"));
        check(b"M-SEARCH * HTTP/1.1\r\n", Spoken::Http("http/1.1"));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Spoken::Http("h2c"));
        check(b"PRI * HTTP/2.0\r\n\r\nXX", Spoken::Other);
        check(b"GET / HTTP/3.0\r\n", Spoken::Other);
        check(b"HELO example.com\r\n", Spoken::Other);
        check(b"SSH-2.0-x\r\n", Spoken::Other);
        check(b"get / HTTP/1.1\r\n", Spoken::Other);
        check(b"\0", Spoken::Other);
        check(b" GET / HTTP/1.1", Spoken::Other);
        check(b"GET \x01", Spoken::Other);
        check(&[b'A'; MAX_METHOD + 1], Spoken::Other);
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for text in [&b"GET /path HTTP/1.1\r\n"[..], PREFACE, b"POST / HTTP/1.0\n"] {
            for end in 0..text.len() {
                check(&text[..end], Spoken::Incomplete);
            }
            assert_ne!(read(text), Spoken::Incomplete);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            read(&bytes);
        }
    }
}
