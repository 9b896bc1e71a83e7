//! Reads the server name and protocols of a TLS `ClientHello` without taking part in the handshake.
//!
//! Source: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3 (server name), RFC 7301 section 3.1 (ALPN). Pure: bytes in,
//! verdict out. Invariants: the verdict on a complete message does not depend on how it was cut into records or packets;
//! what OpenSSL and rustls refuse as malformed in the parts read here is refused here too, so that two readers of one
//! message cannot disagree about the name in it.

use std::borrow::Cow;

use mesh::host::Sni;

use crate::limits::INSPECT_BYTES;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed to tell.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// It begins as TLS and breaks the rules.
    Malformed,
    /// A `ClientHello` longer than we look at.
    TooLong,
    /// A complete `ClientHello`.
    Tls(ClientHello),
}

/// What a client says of itself before anything is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientHello {
    /// The name of the server it wants.
    pub(crate) server_name: Option<Sni>,
    /// The protocols it offers, best first. Those that are not text cannot be configured and are left out.
    pub(crate) protocols: Vec<String>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MAX_FRAGMENT: usize = 1 << 14;
const RANDOM: usize = 32;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// Looks at everything received so far.
pub(crate) fn read(input: &[u8]) -> Hello {
    match message(input) {
        Ok(body) => parse(&body).map_or(Hello::Malformed, Hello::Tls),
        Err(verdict) => verdict,
    }
}

/// Joins the records up to the end of the first handshake message and returns its body.
fn message(input: &[u8]) -> Result<Cow<'_, [u8]>, Hello> {
    let (mut joined, mut rest) = (Cow::Borrowed(&[][..]), input);
    loop {
        let (fragment, after) = record(rest)?;
        joined = match joined.is_empty() {
            true => Cow::Borrowed(fragment),
            false => Cow::Owned([&joined, fragment].concat()),
        };
        rest = after;
        if let Some(end) = message_end(&joined)? {
            return Ok(match joined {
                Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(4..end).unwrap_or_default()),
                Cow::Owned(bytes) => Cow::Owned(bytes.get(4..end).unwrap_or_default().to_vec()),
            });
        }
    }
}

/// The first record's fragment and what follows it. Judges each byte of the header as soon as it is there.
fn record(input: &[u8]) -> Result<(&[u8], &[u8]), Hello> {
    let mut reader = Reader(input);
    if reader.u8().ok_or(Hello::Incomplete)? != HANDSHAKE || reader.u8().ok_or(Hello::Incomplete)? != 3 {
        return Err(Hello::NotTls);
    }
    let _minor = reader.u8().ok_or(Hello::Incomplete)?;
    let length = usize::from(reader.u16().ok_or(Hello::Incomplete)?);
    if length == 0 || length > MAX_FRAGMENT {
        return Err(Hello::Malformed);
    }
    let fragment = reader.take(length).ok_or(Hello::Incomplete)?;
    Ok((fragment, reader.0))
}

/// Where the first handshake message ends, if it is complete.
fn message_end(joined: &[u8]) -> Result<Option<usize>, Hello> {
    let (Some(&kind), length) = (joined.first(), joined.get(1..4)) else {
        return Ok(None);
    };
    if kind != CLIENT_HELLO {
        return Err(Hello::NotTls);
    }
    let Some(&[high, middle, low]) = length else {
        return Ok(None);
    };
    let end = 4 + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
    match end {
        end if end > INSPECT_BYTES => Err(Hello::TooLong),
        end if end > joined.len() => Ok(None),
        end => Ok(Some(end)),
    }
}

/// Reads the body of a `ClientHello`. `None`: malformed.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    let _version = reader.u16()?;
    let _random = reader.take(RANDOM)?;
    let _session = reader.short_list()?;
    let _suites = reader.list()?;
    let _compression = reader.short_list()?;
    let mut hello = ClientHello::default();
    if reader.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.list()?);
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.list()?);
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(data)?),
            ALPN => hello.protocols = protocols(data)?,
            _ => {}
        }
    }
    reader.is_empty().then_some(hello)
}

/// The one host name of the extension. Other kinds of name do not exist.
fn server_name(data: &[u8]) -> Option<Sni> {
    let mut reader = Reader(data);
    let mut names = Reader(reader.list()?);
    let (kind, name) = (names.u8()?, names.list()?);
    if kind != HOST_NAME || !names.is_empty() || !reader.is_empty() {
        return None;
    }
    Sni::parse(std::str::from_utf8(name).ok()?).ok()
}

fn protocols(data: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(data);
    let mut names = Reader(reader.list()?);
    if names.is_empty() || !reader.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !names.is_empty() {
        let name = names.short_list()?;
        if name.is_empty() {
            return None;
        }
        protocols.extend(std::str::from_utf8(name).ok().map(str::to_owned));
    }
    Some(protocols)
}

/// Takes bytes from the front; `None` when they are not there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Bytes after their length in one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes after their length in two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConnection, pki_types::ServerName};

    use super::*;

    /// What a real client sends, in one record.
    fn real_hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let verifier = Arc::new(certs::ServerVerifier::insecure());
        let mut config = certs::client_config(None, verifier, certs::Versions::ALL).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn hello(name: Option<&str>, protocols: &[&str]) -> Hello {
        Hello::Tls(ClientHello {
            server_name: name.map(|name| Sni::parse(name).unwrap()),
            protocols: protocols.iter().map(ToString::to_string).collect(),
        })
    }

    fn prefixed(width: usize, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[4 - width..], bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), prefixed(2, data)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(
            SERVER_NAME,
            &prefixed(2, &[vec![HOST_NAME], prefixed(2, name)].concat()),
        )
    }

    /// A `ClientHello` with these extensions, as a handshake message.
    fn handshake(extensions: &[u8]) -> Vec<u8> {
        let body = [
            vec![3, 3],
            vec![7; RANDOM],
            prefixed(1, &[]),
            prefixed(2, &[0x13, 0x01]),
            prefixed(1, &[0]),
            prefixed(2, extensions),
        ];
        [vec![CLIENT_HELLO], prefixed(3, &body.concat())].concat()
    }

    /// Cuts a handshake message into records of `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |fragment: &[u8]| [vec![HANDSHAKE, 3, 1], prefixed(2, fragment)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn reads_what_a_real_client_sends() {
        assert_eq!(
            read(&real_hello("Example.COM", &["h2", "http/1.1"])),
            hello(Some("example.com"), &["h2", "http/1.1"])
        );
        assert_eq!(read(&real_hello("127.0.0.1", &[])), hello(None, &[]));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let bytes = real_hello("example.com", &["h2"]);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Hello::Incomplete, "{end} of {}", bytes.len());
        }
    }

    #[test]
    fn records_may_cut_the_message_anywhere() {
        let message = handshake(&sni(b"example.com"));
        for size in 1..=message.len() {
            let bytes = records(&message, size);
            assert_eq!(read(&bytes), hello(Some("example.com"), &[]), "{size}");
            assert_eq!(read(&bytes[..bytes.len() - 1]), Hello::Incomplete, "{size}");
        }
    }

    #[test]
    fn what_follows_the_message_is_not_looked_at() {
        let mut bytes = real_hello("example.com", &[]);
        bytes.extend(b"anything");
        assert_eq!(read(&bytes), hello(Some("example.com"), &[]));
    }

    #[track_caller]
    fn check(extensions: &[u8], expect: &Hello) {
        assert_eq!(&read(&records(&handshake(extensions), MAX_FRAGMENT)), expect);
    }

    #[test]
    fn names_and_protocols_are_read_strictly() {
        check(&[], &hello(None, &[]));
        check(&sni(b"A_b.Example"), &hello(Some("a_b.example"), &[]));
        check(&sni(b""), &Hello::Malformed);
        check(&sni(b"a\0b"), &Hello::Malformed);
        check(&sni("ü.example".as_bytes()), &Hello::Malformed);
        check(&sni(&[b'a'; 256]), &Hello::Malformed);
        check(&[sni(b"a"), sni(b"b")].concat(), &Hello::Malformed);
        check(&extension(SERVER_NAME, &prefixed(2, &[])), &Hello::Malformed);
        let two = [vec![0], prefixed(2, b"a"), vec![0], prefixed(2, b"b")].concat();
        check(&extension(SERVER_NAME, &prefixed(2, &two)), &Hello::Malformed);
        let offer = |names: &[&[u8]]| {
            let list: Vec<u8> = names.iter().flat_map(|name| prefixed(1, name)).collect();
            extension(ALPN, &prefixed(2, &list))
        };
        check(&offer(&[b"istio", b"h2"]), &hello(None, &["istio", "h2"]));
        check(&offer(&[b"\xff\xfe", b"h2"]), &hello(None, &["h2"]));
        check(&offer(&[]), &Hello::Malformed);
        check(&offer(&[b""]), &Hello::Malformed);
        check(&[0, 0, 0, 9, 1], &Hello::Malformed);
    }

    #[test]
    fn other_protocols_are_told_apart_by_their_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0",
            b"\x16\x02",
            b"\x15\x03\x01",
            b"\0",
        ] {
            assert_eq!(read(bytes), Hello::NotTls, "{bytes:?}");
        }
        let server_hello = records(&[&[2][..], &prefixed(3, &[0; 40])].concat(), MAX_FRAGMENT);
        assert_eq!(read(&server_hello), Hello::NotTls);
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(read(&[22, 3, 1, 0, 0]), Hello::Malformed);
        assert_eq!(read(&[22, 3, 1, 0x40, 1]), Hello::Malformed);
        assert_eq!(read(&records(&[1, 0, 0x40, 0], 4)), Hello::TooLong);
        assert_eq!(read(&records(&[1, 0xff, 0xff, 0xff], 4)), Hello::TooLong);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn no_damage_panics(at in 0usize..10_000, value in any::<u8>(), size in 1usize..600) {
            let message = handshake(&[sni(b"example.com"), extension(ALPN, &prefixed(2, &prefixed(1, b"h2")))].concat());
            let mut bytes = records(&message, size);
            let at = at % bytes.len();
            bytes[at] = value;
            read(&bytes);
        }

        #[test]
        fn every_name_is_read_back(name in "[a-z0-9_.-]{1,250}", size in 1usize..600) {
            prop_assert_eq!(read(&records(&handshake(&sni(name.as_bytes())), size)), hello(Some(&name), &[]));
        }
    }
}
