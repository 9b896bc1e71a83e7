//! Facts that a policy cannot match without: namespaces of the caller, hosts of the request.
//!
//! Everything here is a *necessary* condition. When in doubt the answer is "no condition known", which costs time but never
//! changes a decision. The same functions give the keys of a policy's literals and of a request, so the two cannot disagree.

use std::{borrow::Cow, collections::BTreeSet};

use mesh::{
    authz::{Permission, Principal},
    matcher::{HeaderMatcher, HeaderValueMatch, StringMatcher, StringPattern},
};
use regex_syntax::hir::{Hir, HirKind};

/// What an expression needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keys<K> {
    /// Nothing we know of.
    Unknown,
    /// At least one of these. None at all: it never matches.
    OneOf(BTreeSet<K>),
}

/// A condition on the request's host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostKey {
    /// [`host`] of the authority is this.
    Exact(String),
    /// The authority, in lower case, ends with this, which begins with a dot.
    Suffix(String),
}

/// Longest suffix that is indexed; host names are no longer.
pub(super) const MAX_SUFFIX: usize = 255;

/// The part of an authority before its port, in lower case: up to the bracket that closes one at the very beginning, else up
/// to the first colon. Total, so that an authority that is not one has a host too.
pub(super) fn host(authority: &str) -> Cow<'_, str> {
    let end = match authority.find(']') {
        Some(bracket) if authority.starts_with('[') => bracket + 1,
        _ => authority.find(':').unwrap_or(authority.len()),
    };
    let host = &authority[..end];
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}

/// What a SPIFFE-like URI says after `/ns/`. One for every identity Istio makes; odd URIs may give several.
pub(super) fn namespaces(text: &str) -> impl Iterator<Item = &str> {
    const NS: &[u8] = b"/ns/";
    let found = text.as_bytes().windows(NS.len()).enumerate();
    let starts = found.filter_map(|(at, window)| (window == NS).then_some(at + NS.len()));
    starts.map(|start| text[start..].split('/').next().unwrap_or_default())
}

/// The namespaces in a literal part of a URI: only what stands between slashes is a whole segment.
fn bounded_namespace(literal: &str) -> Option<String> {
    let start = literal.find("/ns/")? + "/ns/".len();
    let (namespace, _) = literal[start..].split_once('/')?;
    Some(namespace.to_owned())
}

/// Which namespaces the caller must be in.
pub(super) fn of_principals(any: &[Principal]) -> Keys<String> {
    union(any.iter().map(of_principal))
}

fn of_principal(principal: &Principal) -> Keys<String> {
    match principal {
        Principal::And(all) => best(all.iter().map(of_principal)),
        Principal::Or(any) => of_principals(any),
        Principal::Authenticated(Some(matcher)) => {
            uri_namespace(matcher).map_or(Keys::Unknown, |namespace| Keys::OneOf([namespace].into()))
        }
        Principal::Any
        | Principal::Not(_)
        | Principal::Authenticated(None)
        | Principal::DirectRemoteIp(_)
        | Principal::RemoteIp(_)
        | Principal::Header(_)
        | Principal::Path(_)
        | Principal::Metadata(_) => Keys::Unknown,
    }
}

fn uri_namespace(matcher: &StringMatcher) -> Option<String> {
    if matcher.ignore_case {
        return None;
    }
    match &matcher.pattern {
        StringPattern::Exact(text)
        | StringPattern::Prefix(text)
        | StringPattern::Suffix(text)
        | StringPattern::Contains(text) => bounded_namespace(text),
        StringPattern::Regex(regex) if let Some(literal) = regex.literal() => bounded_namespace(literal),
        StringPattern::Regex(regex) => {
            let parsed = regex_syntax::parse(regex.source()).ok()?;
            mandatory_literals(&parsed).find_map(bounded_namespace)
        }
    }
}

/// Literals that every match contains: the expression itself, or what it is a sequence of.
fn mandatory_literals(hir: &Hir) -> impl Iterator<Item = &str> {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    parts.iter().filter_map(|part| match part.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    })
}

/// Which hosts the request must be for.
pub(super) fn of_permissions(any: &[Permission]) -> Keys<HostKey> {
    union(any.iter().map(of_permission))
}

fn of_permission(permission: &Permission) -> Keys<HostKey> {
    match permission {
        Permission::And(all) => best(all.iter().map(of_permission)),
        Permission::Or(any) => of_permissions(any),
        Permission::Header(matcher) => of_header(matcher),
        Permission::Any
        | Permission::Not(_)
        | Permission::Path(_)
        | Permission::PathTemplate(_)
        | Permission::DestinationIp(_)
        | Permission::DestinationPort(_)
        | Permission::RequestedServerName(_)
        | Permission::Metadata(_) => Keys::Unknown,
    }
}

fn of_header(matcher: &HeaderMatcher) -> Keys<HostKey> {
    let is_authority = matches!(matcher.name.as_str(), ":authority" | "host");
    let HeaderValueMatch::Value(value) = &matcher.value else {
        return Keys::Unknown;
    };
    if !is_authority || matcher.invert || matcher.missing_as_empty {
        return Keys::Unknown;
    }
    authority_key(&value.pattern).map_or(Keys::Unknown, |key| Keys::OneOf([key].into()))
}

fn authority_key(pattern: &StringPattern) -> Option<HostKey> {
    match pattern {
        StringPattern::Exact(text) => Some(HostKey::Exact(host(text).into_owned())),
        // `example.com:*`: the host ends at that colon, whatever follows.
        StringPattern::Prefix(text) => {
            (text.contains(':') && !text.starts_with('[')).then(|| HostKey::Exact(host(text).into_owned()))
        }
        StringPattern::Suffix(text) => {
            (text.starts_with('.') && text.len() <= MAX_SUFFIX).then(|| HostKey::Suffix(text.to_ascii_lowercase()))
        }
        StringPattern::Contains(_) | StringPattern::Regex(_) => None,
    }
}

/// Of an alternative: what any branch needs, if all need something.
fn union<K: Ord>(branches: impl Iterator<Item = Keys<K>>) -> Keys<K> {
    let mut all = BTreeSet::new();
    for keys in branches {
        match keys {
            Keys::Unknown => return Keys::Unknown,
            Keys::OneOf(keys) => all.extend(keys),
        }
    }
    Keys::OneOf(all)
}

/// Of a conjunction: the shortest of what its parts need.
fn best<K: Ord>(parts: impl Iterator<Item = Keys<K>>) -> Keys<K> {
    let size = |keys: &Keys<K>| match keys {
        Keys::Unknown => usize::MAX,
        Keys::OneOf(keys) => keys.len(),
    };
    parts.min_by_key(size).unwrap_or(Keys::Unknown)
}

#[cfg(test)]
mod tests {
    use mesh::matcher::Regex;

    use super::*;

    #[test]
    fn a_host_is_an_authority_without_port() {
        for (authority, expect) in [
            ("Example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
            (":80", ""),
            ("a:b:c", "a"),
            ("a]:80", "a]"),
            ("[a", "[a"),
        ] {
            assert_eq!(host(authority), expect);
        }
    }

    #[test]
    fn namespaces_stand_between_ns_and_a_slash() {
        let found = |uri| namespaces(uri).collect::<Vec<_>>();
        assert_eq!(found("spiffe://td/ns/team-x/sa/test"), ["team-x"]);
        assert_eq!(found("spiffe://td/ns/ns/sa/test"), ["ns", "sa"]);
        assert_eq!(found("spiffe://td/ns"), Vec::<&str>::new());
        assert_eq!(found("ns/x/y"), Vec::<&str>::new());
    }

    #[test]
    fn keys_are_found_in_the_forms_istio_generates() {
        let authenticated = |matcher| of_principal(&Principal::Authenticated(Some(matcher)));
        let regex = |source| StringMatcher::regex(Regex::parse(source).unwrap());
        let team_x = Keys::OneOf(["team-x".to_owned()].into());
        assert_eq!(authenticated(regex(".*/ns/team-x/.*")), team_x);
        assert_eq!(
            authenticated(regex(r"spiffe://.+/ns/team-x/(.+/|)sa/test(/.+)?")),
            team_x
        );
        assert_eq!(
            authenticated(StringMatcher::exact("spiffe://td/ns/team-x/sa/test")),
            team_x
        );
        assert_eq!(authenticated(StringMatcher::prefix("spiffe://td/ns/team-x/")), team_x);
        assert_eq!(
            authenticated(StringMatcher::prefix("spiffe://td/ns/team-x")),
            Keys::Unknown
        );
        assert_eq!(authenticated(regex(".*/ns/team-.*/.*")), Keys::Unknown);
        assert_eq!(authenticated(regex("(a|.*/ns/team-x/.*)")), Keys::Unknown);

        let key = |pattern| authority_key(&pattern);
        assert_eq!(
            key(StringPattern::Exact("A.test:80".into())),
            Some(HostKey::Exact("a.test".into()))
        );
        assert_eq!(
            key(StringPattern::Prefix("a.test:".into())),
            Some(HostKey::Exact("a.test".into()))
        );
        assert_eq!(key(StringPattern::Prefix("a.test".into())), None);
        assert_eq!(
            key(StringPattern::Suffix(".test".into())),
            Some(HostKey::Suffix(".test".into()))
        );
        assert_eq!(
            key(StringPattern::Suffix(".Test:80".into())),
            Some(HostKey::Suffix(".test:80".into()))
        );
        assert_eq!(key(StringPattern::Prefix("[::1]:".into())), None);
        assert_eq!(key(StringPattern::Suffix("test".into())), None);
    }
}
