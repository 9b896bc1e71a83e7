//! The string forms of policies: `*` is anything that is not empty, `*x` an end, `x*` a beginning, the rest the whole text.
//! A leading star is looked at first, so that `*x*` is an end with a star in it.

use mesh::matcher::{HeaderMatcher, HeaderValueMatch, Regex, StringMatcher};

use super::expression::Unusable;

/// A text.
pub(super) fn form(value: &str) -> Result<StringMatcher, Unusable> {
    prefixed("", value)
}

/// A text that begins with `prefix`, which the value does not repeat.
pub(super) fn prefixed(prefix: &str, value: &str) -> Result<StringMatcher, Unusable> {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => regex(".+"),
        (Some(end), _) if prefix.is_empty() => Ok(StringMatcher::suffix(end)),
        (Some(end), _) => regex(&format!("{}.*{}", regex::escape(prefix), regex::escape(end))),
        (None, Some(start)) => Ok(StringMatcher::prefix(format!("{prefix}{start}"))),
        (None, None) => Ok(StringMatcher::exact(format!("{prefix}{value}"))),
    }
}

/// A header; `*` asks only that it is there.
pub(super) fn header(name: &str, value: &str) -> Result<HeaderMatcher, Unusable> {
    let value = match value {
        "*" => HeaderValueMatch::Present(true),
        value => HeaderValueMatch::Value(form(value)?),
    };
    Ok(HeaderMatcher {
        name: name.to_ascii_lowercase(),
        value,
        invert: false,
        missing_as_empty: false,
    })
}

/// The authority, whose case does not matter.
pub(super) fn authority(value: &str) -> Result<HeaderMatcher, Unusable> {
    let mut matcher = header(":authority", value)?;
    if let HeaderValueMatch::Value(text) = matcher.value {
        matcher.value = HeaderValueMatch::Value(text.ignoring_case());
    }
    Ok(matcher)
}

/// An identity of this namespace; stars stand for anything, wherever they are.
pub(super) fn namespace(value: &str) -> Result<StringMatcher, Unusable> {
    let parts: Vec<_> = value.split('*').map(regex::escape).collect();
    regex(&format!(".*/ns/{}/.*", parts.join(".*")))
}

/// An identity of this service account: `name`, of the policy's namespace, or `namespace/name`.
pub(super) fn service_account(value: &str, own_namespace: &str) -> Result<StringMatcher, Unusable> {
    let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
    let (namespace, account) = (regex::escape(namespace), regex::escape(account));
    regex(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))
}

/// An identity of this trust domain; a star stands for anything without a slash.
pub(super) fn trust_domain(value: &str) -> Result<StringMatcher, Unusable> {
    match value {
        "*" => Ok(StringMatcher::prefix("spiffe://")),
        exact if !exact.contains('*') => Ok(StringMatcher::prefix(format!("spiffe://{exact}/"))),
        wild => {
            let parts: Vec<_> = wild.split('*').map(regex::escape).collect();
            regex(&format!("spiffe://{}/.*", parts.join("[^/]*")))
        }
    }
}

fn regex(source: &str) -> Result<StringMatcher, Unusable> {
    let regex = Regex::parse(source).map_err(|error| Unusable::Malformed(error.to_string()))?;
    Ok(StringMatcher::regex(regex))
}
