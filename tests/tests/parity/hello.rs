//! Hellos that no TLS library would write, and hellos in pieces.
//!
//! A hello made here is the same in every run, so that what is relayed of it can be compared to the byte.

use crate::case::CraftedHello;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PADDING: u16 = 21;
const SUPPORTED_VERSIONS: u16 = 43;

/// A `ClientHello` in as many records as were asked for.
pub(crate) fn craft(hello: &CraftedHello) -> Vec<u8> {
    let mut extensions = extension(SUPPORTED_VERSIONS, &[2, 3, 4]);
    if let Some(name) = &hello.sni {
        extensions.extend(extension(
            SERVER_NAME,
            &list(&[&[0], &list(name.as_bytes())[..]].concat()),
        ));
    }
    if !hello.alpn.is_empty() {
        let names: Vec<u8> = hello.alpn.iter().flat_map(|name| short(name.as_bytes())).collect();
        extensions.extend(extension(ALPN, &list(&names)));
    }
    if let Some(bytes) = hello.padding {
        extensions.extend(extension(PADDING, &vec![0; bytes]));
    }
    let body = [
        &[3, 3][..],
        &[7; 32],
        &short(&[]),
        &list(&[0x13, 0x01]),
        &short(&[0]),
        &list(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("a hello").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    records(&[22, 3, 1], &message, hello.records.unwrap_or(1 << 14))
}

/// Cuts what is in one record into several of so many bytes.
pub(crate) fn recut(record: &[u8], size: usize) -> Vec<u8> {
    records(&record[..3], &record[5..], size)
}

fn records(kind_and_version: &[u8], message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [kind_and_version, &list(part)].concat();
    message.chunks(size).flat_map(record).collect()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list(data)].concat()
}

/// Bytes after their length in two bytes.
fn list(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// Bytes after their length in one byte.
fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("at most 255 bytes");
    [&[length][..], bytes].concat()
}
