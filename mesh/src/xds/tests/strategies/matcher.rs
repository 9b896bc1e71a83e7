//! Matchers.

use proptest::{option, prelude::*, sample::select};

use super::word;
use crate::matcher::{HeaderMatcher, HeaderValueMatch, QueryMatcher, Regex, StringMatcher, StringPattern};

pub(super) fn regex() -> BoxedStrategy<Regex> {
    select(vec![".*/ns/[^/]+/.*", "a|b", "spiffe://.+", "[0-9]{1,3}"])
        .prop_map(|source| Regex::parse(source).unwrap())
        .boxed()
}

pub(super) fn string_matcher() -> BoxedStrategy<StringMatcher> {
    let pattern = prop_oneof![
        "[ -~]{0,8}".prop_map(StringPattern::Exact),
        word().prop_map(StringPattern::Prefix),
        word().prop_map(StringPattern::Suffix),
        word().prop_map(StringPattern::Contains),
        regex().prop_map(StringPattern::Regex),
    ];
    (pattern, any::<bool>())
        .prop_map(|(pattern, ignore_case)| StringMatcher {
            ignore_case: ignore_case && !matches!(pattern, StringPattern::Regex(_)),
            pattern,
        })
        .boxed()
}

pub(super) fn header_matcher() -> BoxedStrategy<HeaderMatcher> {
    let value = prop_oneof![
        any::<bool>().prop_map(HeaderValueMatch::Present),
        string_matcher().prop_map(HeaderValueMatch::Value),
    ];
    let name = prop_oneof![word(), Just(":authority".to_owned()), Just(":method".to_owned())];
    (name, value, any::<bool>(), any::<bool>())
        .prop_map(|(name, value, invert, missing_as_empty)| HeaderMatcher {
            name,
            value,
            invert,
            missing_as_empty,
        })
        .boxed()
}

pub(super) fn query_matcher() -> BoxedStrategy<QueryMatcher> {
    (word(), option::of(string_matcher()))
        .prop_map(|(name, value)| QueryMatcher { name, value })
        .boxed()
}
