//! What is shared from version to version changes no outcome.

use proptest::prelude::*;
use prost::Message as _;

use super::strategies;
use crate::{
    bundle::Bundle,
    xds::{
        ads::{Encoding, ResourceSet},
        decode::{self, KnownHosts, route_config_after},
        encode, pb,
    },
};

/// Reads a route configuration in both ways. Returns what is known then.
#[track_caller]
fn read(bytes: &[u8], known: &KnownHosts) -> KnownHosts {
    let plain = pb::route::RouteConfiguration::decode(bytes)
        .map_err(|error| error.to_string())
        .and_then(|message| decode::route_config(&message).map_err(|error| error.to_string()));
    match (route_config_after(bytes, known), plain) {
        (Ok((config, known)), Ok(plain)) => {
            assert_eq!(config, plain);
            known
        }
        (Err(_), Err(_)) => KnownHosts::default(),
        (found, plain) => panic!("{:?} {plain:?}", found.map(|(config, _)| config)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_encoding_does_not_depend_on_what_was_before(
        versions in prop::collection::vec(prop::collection::vec(strategies::resource(), 0..6), 1..4),
    ) {
        let (mut encoding, mut before) = (Encoding::default(), Bundle::default());
        for resources in versions {
            let mut bundle = Bundle::default();
            // Some of it stays, so that there is something to share.
            bundle.routes.clone_from(&before.routes);
            bundle.clusters.clone_from(&before.clusters);
            resources.into_iter().for_each(|resource| bundle.insert(resource));
            encoding = encoding.followed_by(bundle.clone());
            prop_assert_eq!(&**encoding.set(), &ResourceSet::encode(bundle.clone()));
            before = bundle;
        }
    }

    #[test]
    fn a_route_configuration_does_not_depend_on_what_is_known(
        configs in prop::collection::vec(strategies::route_config(), 1..4),
        noise in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut known = KnownHosts::default();
        for config in &configs {
            let mut bytes = encode::route_config(config).encode_to_vec();
            known = read(&bytes, &known);
            read(&bytes, &known);
            bytes.extend_from_slice(&noise);
            read(&bytes, &known);
        }
    }
}
