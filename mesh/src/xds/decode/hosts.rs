//! A route configuration read virtual host by virtual host: one that was read before, from the same bytes, is not read again.
//!
//! A route configuration is sent whole, with tens of thousands of virtual hosts of which one has changed. Invariant: the outcome is
//! that of [`route_config`](super::route_config()), whatever was known.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use prost::{
    Message as _,
    bytes::Buf as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::route;
use crate::{
    route::{RouteConfig, VirtualHost},
    xds::{
        DecodeError, ResourceType,
        encode::VIRTUAL_HOSTS,
        pb,
        scope::{Decoded, Scope, decode_root},
    },
};

/// Virtual hosts by what they were read from. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts(Arc<HashMap<Digest, Arc<VirtualHost>>>);

/// 128 bits of the bytes, under keys that nobody else knows.
type Digest = [u64; 2];

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// Decodes a route configuration from its bytes. Returns what is known then, for the next time.
///
/// # Errors
/// As for [`cluster`](super::cluster()).
pub fn route_config_after(bytes: &[u8], known: &KnownHosts) -> Result<(RouteConfig, KnownHosts), DecodeError> {
    let kind = Some(ResourceType::RouteConfig);
    let cut = cut(bytes).and_then(|(hosts, rest)| Some((hosts, pb::route::RouteConfiguration::decode(&*rest).ok()?)));
    let Some((hosts, rest)) = cut else {
        // What is malformed is found again, and named.
        let message = decode_root(kind, "", |scope| scope.bytes(bytes))?;
        return Ok((super::route_config(&message)?, KnownHosts::default()));
    };
    let digests: Vec<Digest> = hosts.iter().map(|host| digest(host)).collect();
    let hosts: Vec<_> = hosts.into_iter().zip(&digests).collect();
    let config = decode_root(kind, &rest.name, |scope| {
        let read = |scope: &Scope<'_>, (bytes, digest): &(&[u8], &Digest)| read(scope, bytes, known.0.get(*digest));
        route::with_hosts(scope, &rest, &rest.name, |scope| {
            scope.list("virtual_hosts", &hosts, read)
        })
    })?;
    let known = digests.into_iter().zip(config.virtual_hosts.iter().cloned()).collect();
    Ok((config, KnownHosts(Arc::new(known))))
}

fn read(scope: &Scope<'_>, bytes: &[u8], known: Option<&Arc<VirtualHost>>) -> Decoded<Arc<VirtualHost>> {
    match known {
        Some(known) => Ok(Arc::clone(known)),
        None => route::virtual_host(scope, &scope.bytes(bytes)?),
    }
}

/// The bytes of each virtual host, and those of everything else. `None`: this is no message.
fn cut(bytes: &[u8]) -> Option<(Vec<&[u8]>, Vec<u8>)> {
    let (mut hosts, mut rest, mut left) = (Vec::new(), Vec::new(), bytes);
    while left.has_remaining() {
        let field = left;
        let (tag, wire_type) = decode_key(&mut left).ok()?;
        if tag == VIRTUAL_HOSTS && wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut left).ok()?).ok()?;
            let (host, after) = left.split_at_checked(length)?;
            hosts.push(host);
            left = after;
        } else {
            skip_field(wire_type, tag, &mut left, DecodeContext::default()).ok()?;
            rest.extend_from_slice(&field[..field.len() - left.len()]);
        }
    }
    Some((hosts, rest))
}

fn digest(bytes: &[u8]) -> Digest {
    KEYS.each_ref().map(|keys| keys.hash_one(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shared() {
        let config = one_host();
        let (first, known) = route_config_after(&config, &KnownHosts::default()).unwrap();
        let (second, _) = route_config_after(&config, &known).unwrap();
        assert!(Arc::ptr_eq(&first.virtual_hosts[0], &second.virtual_hosts[0]));
    }

    fn one_host() -> Vec<u8> {
        let host = pb::route::VirtualHost {
            name: "a".to_owned(),
            domains: vec!["a.test".to_owned()],
            ..Default::default()
        };
        let message = pb::route::RouteConfiguration {
            name: "r".to_owned(),
            virtual_hosts: vec![host],
            ..Default::default()
        };
        message.encode_to_vec()
    }
}
