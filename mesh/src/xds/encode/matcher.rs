//! `type.matcher.v3` and the matchers of routes that authorization shares.

use ipnet::IpNet;

use crate::{
    authz::{MetadataMatcher, MetadataValueMatch},
    matcher::{HeaderMatcher, HeaderValueMatch, QueryMatcher, Regex, StringMatcher, StringPattern, Substitution},
    xds::{
        encode::common,
        pb::{
            core,
            matcher::{
                self, list_matcher,
                metadata_matcher::{PathSegment, path_segment::Segment},
                path_matcher,
                string_matcher::MatchPattern,
                value_matcher,
            },
            route::{
                self, header_matcher::HeaderMatchSpecifier, query_parameter_matcher::QueryParameterMatchSpecifier,
            },
        },
    },
};

/// A string matcher.
pub(super) fn string(value: &StringMatcher) -> matcher::StringMatcher {
    let pattern = match &value.pattern {
        StringPattern::Exact(text) => MatchPattern::Exact(text.clone()),
        StringPattern::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringPattern::Suffix(text) => MatchPattern::Suffix(text.clone()),
        StringPattern::Contains(text) => MatchPattern::Contains(text.clone()),
        StringPattern::Regex(expression) => MatchPattern::SafeRegex(regex(expression)),
    };
    matcher::StringMatcher {
        // Envoy refuses the switch where it has no effect.
        ignore_case: value.ignore_case && !matches!(value.pattern, StringPattern::Regex(_)),
        match_pattern: Some(pattern),
    }
}

/// A regular expression.
pub(super) fn regex(value: &Regex) -> matcher::RegexMatcher {
    matcher::RegexMatcher {
        regex: value.source().to_owned(),
        engine_type: None,
    }
}

/// A condition on a header.
pub(super) fn substitution(value: &Substitution) -> matcher::RegexMatchAndSubstitute {
    matcher::RegexMatchAndSubstitute {
        pattern: Some(matcher::RegexMatcher {
            regex: value.pattern().to_owned(),
            ..Default::default()
        }),
        substitution: value.replacement().to_owned(),
    }
}

pub(super) fn header(value: &HeaderMatcher) -> route::HeaderMatcher {
    let specifier = match &value.value {
        HeaderValueMatch::Present(present) => HeaderMatchSpecifier::PresentMatch(*present),
        HeaderValueMatch::Value(matcher) => HeaderMatchSpecifier::StringMatch(string(matcher)),
    };
    route::HeaderMatcher {
        name: value.name.clone(),
        invert_match: value.invert,
        treat_missing_header_as_empty: value.missing_as_empty,
        header_match_specifier: Some(specifier),
    }
}

/// A condition on a query parameter.
pub(super) fn query(value: &QueryMatcher) -> route::QueryParameterMatcher {
    let specifier = match &value.value {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(string(matcher)),
    };
    route::QueryParameterMatcher {
        name: value.name.clone(),
        query_parameter_match_specifier: Some(specifier),
    }
}

/// A condition on the path.
pub(super) fn path(value: &StringMatcher) -> matcher::PathMatcher {
    matcher::PathMatcher {
        rule: Some(path_matcher::Rule::Path(string(value))),
    }
}

/// A range of addresses.
pub(super) fn cidr(value: &IpNet) -> core::CidrRange {
    core::CidrRange {
        address_prefix: value.addr().to_string(),
        prefix_len: common::uint32(Some(value.prefix_len().into())),
    }
}

/// A condition on dynamic metadata.
pub(super) fn metadata(value: &MetadataMatcher) -> matcher::MetadataMatcher {
    let segment = |key: &String| PathSegment {
        segment: Some(Segment::Key(key.clone())),
    };
    matcher::MetadataMatcher {
        filter: value.filter.clone(),
        path: value.path.iter().map(segment).collect(),
        value: Some(metadata_value(&value.value)),
        invert: value.invert,
    }
}

fn metadata_value(value: &MetadataValueMatch) -> matcher::ValueMatcher {
    let text = |matcher| matcher::ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(string(matcher))),
    };
    match value {
        MetadataValueMatch::Text(matcher) => text(matcher),
        MetadataValueMatch::ListWithText(matcher) => matcher::ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(matcher::ListMatcher {
                match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(text(matcher)))),
            }))),
        },
    }
}
