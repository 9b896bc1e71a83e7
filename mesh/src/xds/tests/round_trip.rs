//! `decode(encode(x)) == x`, and equal values give equal bytes.

use proptest::prelude::*;

use super::strategies;
use crate::xds::Resource;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decoding_undoes_encoding(resource in strategies::resource()) {
        let any = resource.encode();
        let decoded = Resource::decode(resource.resource_type().type_url(), &any);
        prop_assert_eq!(decoded, Ok(resource));
    }

    #[test]
    fn equal_resources_give_equal_bytes(resource in strategies::resource()) {
        prop_assert_eq!(resource.encode(), resource.encode());
    }
}
