//! `type.matcher.v3` and the matchers of routes that authorization shares.

use ipnet::IpNet;

use crate::{
    authz::{MetadataMatcher, MetadataValueMatch},
    matcher::{HeaderMatcher, HeaderValueMatch, QueryMatcher, Regex, StringMatcher, StringPattern, Substitution},
    xds::{
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
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of matchers.
    MESSAGES:
    matcher::StringMatcher {
        supported { ignore_case = "not with safe_regex", match_pattern = "exact, prefix, suffix, safe_regex, contains" }
    }
    matcher::RegexMatcher {
        supported { regex = "RE2 syntax, at most 4096 bytes; matches the whole text" }
        ignored { engine_type = "RE2 is the only engine" }
    }
    matcher::RegexMatchAndSubstitute {
        supported { pattern = "every match is replaced", substitution = "\\1 stands for the first group" }
    }
    matcher::PathMatcher {
        supported { rule = "path" }
    }
    matcher::MetadataMatcher {
        supported { filter, path, value = "string_match; list_match one_of string_match", invert }
    }
    PathSegment {
        supported { segment = "key" }
    }
    matcher::ValueMatcher {
        supported { match_pattern = "string_match, list_match" }
    }
    matcher::ListMatcher {
        supported { match_pattern = "one_of" }
    }
    route::HeaderMatcher {
        supported {
            name,
            invert_match,
            treat_missing_header_as_empty,
            header_match_specifier = "string_match, present_match; deprecated: exact_match, prefix_match, suffix_match, \
                contains_match, safe_regex_match",
        }
    }
    route::QueryParameterMatcher {
        supported { name, query_parameter_match_specifier = "string_match; present_match true" }
    }
    core::CidrRange {
        supported { address_prefix, prefix_len }
    }
}

/// A string matcher.
pub(super) fn string(scope: &Scope<'_>, message: &matcher::StringMatcher) -> Decoded<StringMatcher> {
    scope.check(message);
    let pattern = match scope.required("match_pattern", &message.match_pattern)? {
        MatchPattern::Exact(text) => StringPattern::Exact(text.clone()),
        MatchPattern::Prefix(text) => StringPattern::Prefix(filled(&scope.field("prefix"), text)?),
        MatchPattern::Suffix(text) => StringPattern::Suffix(filled(&scope.field("suffix"), text)?),
        MatchPattern::Contains(text) => StringPattern::Contains(filled(&scope.field("contains"), text)?),
        MatchPattern::SafeRegex(expression) => StringPattern::Regex(regex(&scope.field("safe_regex"), expression)?),
        MatchPattern::Custom(custom) => {
            return Err(scope
                .field("custom")
                .refuse(&custom.name, "exact, prefix, suffix, contains or safe_regex"));
        }
    };
    if message.ignore_case && matches!(pattern, StringPattern::Regex(_)) {
        return Err(scope
            .field("ignore_case")
            .refuse("true", "it has no effect on safe_regex, write (?i) in the expression"));
    }
    Ok(StringMatcher {
        pattern,
        ignore_case: message.ignore_case,
    })
}

/// Envoy refuses an empty prefix, suffix or substring: it is more often a mistake than a wish to match all.
fn filled(scope: &Scope<'_>, text: &str) -> Decoded<String> {
    if text.is_empty() {
        Err(scope.refuse("empty", "at least one character"))
    } else {
        Ok(text.to_owned())
    }
}

/// A regular expression.
pub(super) fn regex(scope: &Scope<'_>, message: &matcher::RegexMatcher) -> Decoded<Regex> {
    scope.check(message);
    scope
        .field("regex")
        .parse(&filled(&scope.field("regex"), &message.regex)?, Regex::parse)
}

/// What a regular expression finds, and what is put in its place.
pub(super) fn substitution(scope: &Scope<'_>, message: &matcher::RegexMatchAndSubstitute) -> Decoded<Substitution> {
    scope.check(message);
    let pattern = scope.required("pattern", &message.pattern)?;
    let at = scope.field("pattern");
    at.check(pattern);
    at.field("regex")
        .parse(&pattern.regex, |text| Substitution::parse(text, &message.substitution))
}

/// A condition on a header.
#[allow(deprecated)] // the older spellings mean the same
pub(super) fn header(scope: &Scope<'_>, message: &route::HeaderMatcher) -> Decoded<HeaderMatcher> {
    scope.check(message);
    let plain = |pattern| {
        HeaderValueMatch::Value(StringMatcher {
            pattern,
            ignore_case: false,
        })
    };
    let value = match &message.header_match_specifier {
        None => HeaderValueMatch::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => HeaderValueMatch::Present(*present),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            HeaderValueMatch::Value(string(&scope.field("string_match"), matcher)?)
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => plain(StringPattern::Exact(text.clone())),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => {
            plain(StringPattern::Prefix(filled(&scope.field("prefix_match"), text)?))
        }
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => {
            plain(StringPattern::Suffix(filled(&scope.field("suffix_match"), text)?))
        }
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
            plain(StringPattern::Contains(filled(&scope.field("contains_match"), text)?))
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(expression)) => plain(StringPattern::Regex(regex(
            &scope.field("safe_regex_match"),
            expression,
        )?)),
        Some(HeaderMatchSpecifier::RangeMatch(_)) => {
            return Err(scope
                .field("range_match")
                .refuse("set", "string_match or present_match"));
        }
    };
    Ok(HeaderMatcher {
        name: filled(&scope.field("name"), &message.name)?.to_ascii_lowercase(),
        value,
        invert: message.invert_match,
        missing_as_empty: message.treat_missing_header_as_empty,
    })
}

/// A condition on a query parameter.
pub(super) fn query(scope: &Scope<'_>, message: &route::QueryParameterMatcher) -> Decoded<QueryMatcher> {
    scope.check(message);
    let value = match &message.query_parameter_match_specifier {
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => None,
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            Some(string(&scope.field("string_match"), matcher)?)
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return Err(scope.field("present_match").refuse("false", "true, or string_match"));
        }
    };
    Ok(QueryMatcher {
        name: filled(&scope.field("name"), &message.name)?,
        value,
    })
}

/// A condition on the path.
pub(super) fn path(scope: &Scope<'_>, message: &matcher::PathMatcher) -> Decoded<StringMatcher> {
    scope.check(message);
    match scope.required("rule", &message.rule)? {
        path_matcher::Rule::Path(matcher) => string(&scope.field("path"), matcher),
    }
}

/// A range of addresses.
pub(super) fn cidr(scope: &Scope<'_>, message: &core::CidrRange) -> Decoded<IpNet> {
    scope.check(message);
    let address = scope
        .field("address_prefix")
        .parse(&message.address_prefix, str::parse::<std::net::IpAddr>)?;
    let length = message.prefix_len.map_or(0, |length| length.value);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or_else(|| {
            scope
                .field("prefix_len")
                .refuse(length, "at most 32 for IPv4, 128 for IPv6")
        })
}

/// A condition on dynamic metadata.
pub(super) fn metadata(scope: &Scope<'_>, message: &matcher::MetadataMatcher) -> Decoded<MetadataMatcher> {
    scope.check(message);
    let path = scope.list("path", &message.path, path_segment)?;
    if path.is_empty() {
        return Err(scope.field("path").missing());
    }
    let value = scope.required("value", &message.value)?;
    Ok(MetadataMatcher {
        filter: filled(&scope.field("filter"), &message.filter)?,
        path,
        value: metadata_value(&scope.field("value"), value)?,
        invert: message.invert,
    })
}

fn path_segment(scope: &Scope<'_>, message: &PathSegment) -> Decoded<String> {
    scope.check(message);
    match scope.required("key", &message.segment)? {
        Segment::Key(key) => filled(&scope.field("key"), key),
    }
}

fn metadata_value(scope: &Scope<'_>, message: &matcher::ValueMatcher) -> Decoded<MetadataValueMatch> {
    use value_matcher::MatchPattern;

    match scope.required("match_pattern", &message.match_pattern)? {
        MatchPattern::StringMatch(matcher) => {
            Ok(MetadataValueMatch::Text(string(&scope.field("string_match"), matcher)?))
        }
        MatchPattern::ListMatch(list) => list_value(&scope.field("list_match"), list),
        MatchPattern::NullMatch(_)
        | MatchPattern::DoubleMatch(_)
        | MatchPattern::BoolMatch(_)
        | MatchPattern::PresentMatch(_)
        | MatchPattern::OrMatch(_) => Err(scope.refuse("another kind of match", "string_match or list_match")),
    }
}

fn list_value(scope: &Scope<'_>, message: &matcher::ListMatcher) -> Decoded<MetadataValueMatch> {
    let list_matcher::MatchPattern::OneOf(one) = scope.required("one_of", &message.match_pattern)?;
    match &one.match_pattern {
        Some(value_matcher::MatchPattern::StringMatch(matcher)) => Ok(MetadataValueMatch::ListWithText(string(
            &scope.field("one_of.string_match"),
            matcher,
        )?)),
        _ => Err(scope.field("one_of").refuse("another kind of match", "string_match")),
    }
}
