//! Hostile bytes end in an error, never in a panic.

use proptest::prelude::*;

use super::strategies;
use crate::xds::{Any, Resource, ResourceType};

fn decode_as_everything(bytes: &[u8]) {
    for kind in ResourceType::ALL {
        let any = Any {
            type_url: kind.type_url().to_owned(),
            value: bytes.to_vec(),
        };
        let _ = Resource::decode(kind.type_url(), &any);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn mutated_resources_are_survived(
        resource in strategies::resource(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = resource.encode().value;
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        decode_as_everything(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        decode_as_everything(&bytes);
    }
}
