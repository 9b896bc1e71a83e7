//! Paths in the form that routes, policies and upstreams agree on: RFC 3986 section 6.2.2, as Envoy applies it.
//!
//! Invariant: what is matched is what is forwarded. Normalising twice changes nothing.

use std::fmt::Write as _;

use mesh::listener::EscapedSlashes;

/// What is done to a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathRules {
    /// Dot segments are resolved, `\` becomes `/`, needless percent-encoding is undone, what is missing is made.
    pub(crate) normalize: bool,
    /// `//` becomes `/`.
    pub(crate) merge_slashes: bool,
    /// What becomes of `%2F` and `%5C`.
    pub(crate) escaped_slashes: EscapedSlashes,
}

/// A path that is fit to be matched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// As it was sent.
    Unchanged,
    /// This one, query included.
    Changed(String),
    /// The client has to ask again, for this one.
    Redirect(String),
}

/// The path cannot be given one meaning: it has an escaped NUL, or an escaped slash where none is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathError;

impl PathRules {
    /// Normalises a path; the query stays as it is.
    pub(crate) fn apply(self, target: &str) -> Result<Normalized, PathError> {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        if is_plain(path) {
            return Ok(Normalized::Unchanged);
        }
        let unescaped = self.unescape_slashes(path)?;
        let redirect = unescaped.is_some() && self.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
        let path = unescaped.as_deref().unwrap_or(path);
        if self.normalize && has_nul(path) {
            return Err(PathError);
        }
        let changed = match self.resolve(path) {
            Some(resolved) => Some(resolved),
            None => unescaped,
        };
        Ok(match changed {
            None => Normalized::Unchanged,
            Some(path) if redirect => Normalized::Redirect(path + query),
            Some(path) => Normalized::Changed(path + query),
        })
    }

    fn unescape_slashes(self, path: &str) -> Result<Option<String>, PathError> {
        if self.escaped_slashes == EscapedSlashes::Keep || !escapes(path).any(|(_, byte)| is_slash(byte)) {
            return Ok(None);
        }
        if self.escaped_slashes == EscapedSlashes::Reject {
            return Err(PathError);
        }
        Ok(Some(decode(path, is_slash)))
    }

    /// `None`: nothing to do.
    fn resolve(self, path: &str) -> Option<String> {
        let decoded = self.decode_needless(path);
        let path = decoded.as_deref().unwrap_or(path);
        let wants_dots = self.normalize && path.contains("/.");
        let wants_merge = self.merge_slashes && path.contains("//");
        let rebuilt = (wants_dots || wants_merge)
            .then(|| self.rebuild(path))
            .filter(|rebuilt| rebuilt != path);
        rebuilt.or(decoded)
    }

    fn decode_needless(self, path: &str) -> Option<String> {
        let is_odd = |character: char| character == '\\' || is_foreign(character);
        let needed = self.normalize && (path.contains(is_odd) || escapes(path).any(|(_, byte)| is_unreserved(byte)));
        needed.then(|| encode(&decode(path, is_unreserved).replace('\\', "/")))
    }

    fn rebuild(self, path: &str) -> String {
        let mut out = String::with_capacity(path.len());
        out.push('/');
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            match without_parameters(segment) {
                "." if self.normalize => {}
                ".." if self.normalize => pop_segment(&mut out),
                _ => {
                    out.push_str(segment);
                    out.push_str(if last { "" } else { "/" });
                }
            }
        }
        if self.merge_slashes { merge(&out) } else { out }
    }
}

/// Whether no rule could have anything to do: no escapes, no dots or slashes behind a slash, nothing odd. Most paths are such,
/// and one look at each byte tells.
fn is_plain(path: &str) -> bool {
    let mut behind_slash = false;
    path.bytes().all(|byte| {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (matches!(byte, b'.' | b'/') && !behind_slash);
        behind_slash = byte == b'/';
        is_plain
    })
}

/// Servers that know path parameters (RFC 3986 section 3.3) take `..;a` for `..`, and so do we.
fn without_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

/// `/a/b/` becomes `/a/`.
fn pop_segment(out: &mut String) {
    let parent = out[..out.len() - 1].rfind('/').unwrap_or(0);
    out.truncate(parent + 1);
}

/// After the dots, as Envoy does: `/a//../b` is `/a/b`, since the empty segment is one that `..` takes back.
fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

fn has_nul(path: &str) -> bool {
    escapes(path).any(|(_, byte)| byte == 0)
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// What no path has (RFC 3986 section 3.3) and the codecs let through all the same.
fn is_foreign(character: char) -> bool {
    matches!(character, '"' | '^' | '{' | '|' | '}')
}

/// Escapes what no path has.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if is_foreign(character) {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{:02X}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Where the valid percent-escapes are and what they stand for.
fn escapes(text: &str) -> impl Iterator<Item = (usize, u8)> + '_ {
    let bytes = text.as_bytes();
    text.match_indices('%').filter_map(move |(at, _)| {
        let (high, low) = (bytes.get(at + 1)?, bytes.get(at + 2)?);
        Some((at, hex(*high)? * 16 + hex(*low)?))
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Replaces the escapes of those bytes, all of them ASCII, that `wanted` says.
fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, byte) in escapes(text).filter(|(_, byte)| wanted(*byte)) {
        out.push_str(&text[done..at]);
        out.push(char::from(byte));
        done = at + 3;
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ISTIO: PathRules = PathRules {
        normalize: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
    };
    const STRICT: PathRules = PathRules {
        normalize: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
    };

    #[track_caller]
    fn check(rules: PathRules, target: &str, expect: &str) {
        let found = match rules.apply(target).unwrap() {
            Normalized::Unchanged => target.to_owned(),
            Normalized::Changed(path) | Normalized::Redirect(path) => path,
        };
        assert_eq!(found, expect, "{target}");
    }

    #[test]
    fn paths_are_normalised_as_envoy_does() {
        check(ISTIO, "/", "/");
        check(ISTIO, "/plain/path?q=1", "/plain/path?q=1");
        check(ISTIO, "/a/../b//c/./d/%2e%2e/e%2Fz\\y?q=/../x", "/b//c/e%2Fz/y?q=/../x");
        check(ISTIO, "/../../etc", "/etc");
        check(ISTIO, "/a/..", "/");
        check(ISTIO, "/a/.", "/a/");
        check(ISTIO, "/a/.hidden", "/a/.hidden");
        check(ISTIO, "/a//../b", "/a/b");
        check(ISTIO, "/a/..;x/b/.;/c;d/%2e%2e;/e/...;", "/b/e/...;");
        check(ISTIO, "/%61dmin/%7Euser/%41%2D%5f", "/admin/~user/A-_");
        check(ISTIO, "/%20%3B%zz%", "/%20%3B%zz%");
        check(ISTIO, "/a\"{b}|c^?\"{q}", "/a%22%7Bb%7D%7Cc%5E?\"{q}");
        check(ISTIO, "/%252e%252e/x", "/%252e%252e/x");
        check(STRICT, "/admin//%2e%2e/b", "/admin/b");
        check(STRICT, "/a%2Fb//c%5cd/%2e%2e/e", "/a/b/c/e");
        check(STRICT, "/a/b//", "/a/b/");
        check(STRICT, "//..//a", "/a");
    }

    #[test]
    fn a_path_without_one_meaning_is_refused() {
        let reject = PathRules {
            escaped_slashes: EscapedSlashes::Reject,
            ..ISTIO
        };
        assert_eq!(ISTIO.apply("/a%00b"), Err(PathError));
        assert_eq!(reject.apply("/a%2fb"), Err(PathError));
        assert_eq!(reject.apply("/ab?x=%2f"), Ok(Normalized::Unchanged));
    }

    #[test]
    fn the_client_is_sent_to_the_unescaped_path() {
        let redirect = PathRules {
            escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
            ..ISTIO
        };
        assert_eq!(redirect.apply("/a%2Fb?c"), Ok(Normalized::Redirect("/a/b?c".into())));
        assert_eq!(redirect.apply("/a/../b"), Ok(Normalized::Changed("/b".into())));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "(/|\\.|%2e|%2F|%5c|a|%25|\\\\|%){0,12}") {
            for rules in [ISTIO, STRICT] {
                let target = format!("/{path}");
                if let Ok(Normalized::Changed(once)) = rules.apply(&target) {
                    prop_assert!(!once.contains("/../") && !once.ends_with("/.."), "{once}");
                    prop_assert!(once.starts_with('/'));
                    // A percent sign of the client's may form a new escape with what was decoded behind it; escapes are decoded
                    // once, so only paths without such a pair are a fixed point.
                    if !target.contains("%%") && !target.contains("%25") {
                        prop_assert_eq!(rules.apply(&once), Ok(Normalized::Unchanged));
                    }
                }
            }
        }
    }
}
