//! URI templates of authorization policies: `/users/{*}/files/{**}`.
//!
//! Source: Envoy's `UriTemplateMatchConfig`, in the subset that Istio generates: `{*}` is exactly one non-empty path segment,
//! `{**}` is any remainder after a slash, be it empty, and must be the last operator.

use std::fmt;

/// A parsed template. Equality is equality of the source.
#[derive(Clone, PartialEq, Eq)]
pub struct PathTemplate {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Segment,
    Rest,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{**}` is followed by another operator.
    #[error("in path template {0:?}, {{**}} is not the last operator")]
    RestNotLast(String),
    /// Braces other than `{*}` and `{**}`.
    #[error("path template {0:?} contains '{{' or '}}' beyond the operators {{*}} and {{**}}")]
    Braces(String),
    /// Something else than a path.
    #[error("path template {0:?} must start with '/' and may contain no '*' outside an operator")]
    Shape(String),
}

impl PathTemplate {
    /// Whether a policy's path value is meant as a template.
    pub fn is_template(text: &str) -> bool {
        text.contains("{*}") || text.contains("{**}")
    }

    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if !source.starts_with('/') {
            return Err(TemplateError::Shape(source.to_owned()));
        }
        let mut parts = Vec::new();
        for segment in source[1..].split('/') {
            let part = match segment {
                "{*}" => Part::Segment,
                "{**}" => Part::Rest,
                text if text.contains(['{', '}']) => return Err(TemplateError::Braces(source.to_owned())),
                text if text.contains('*') => return Err(TemplateError::Shape(source.to_owned())),
                text => Part::Literal(text.to_owned()),
            };
            let after_rest = parts.contains(&Part::Rest);
            if after_rest && !matches!(part, Part::Literal(_)) {
                return Err(TemplateError::RestNotLast(source.to_owned()));
            }
            parts.push(part);
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }

    /// The template as it was configured.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a path (no query, no fragment) matches as a whole.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        match self.parts.iter().position(|part| *part == Part::Rest) {
            None => self.parts.len() == path.split('/').count() && all_match(self.parts.iter(), path.split('/')),
            Some(rest) => {
                let (head, tail) = (&self.parts[..rest], &self.parts[rest + 1..]);
                path.split('/').count() > head.len() + tail.len()
                    && all_match(head.iter(), path.split('/'))
                    && all_match(tail.iter().rev(), path.rsplit('/'))
            }
        }
    }
}

/// Compares as many segments as there are parts.
fn all_match<'a>(parts: impl Iterator<Item = &'a Part>, segments: impl Iterator<Item = &'a str>) -> bool {
    parts.zip(segments).all(|(part, segment)| match part {
        Part::Literal(text) => text == segment,
        Part::Segment => !segment.is_empty(),
        Part::Rest => true,
    })
}

impl fmt::Debug for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_match_whole_segments() {
        let check = |template: &str, path: &str, expect: bool| {
            assert_eq!(
                PathTemplate::parse(template).unwrap().matches(path),
                expect,
                "{template} {path}"
            );
        };
        check("/a/{*}", "/a/b", true);
        check("/a/{*}", "/a/", false);
        check("/a/{*}", "/a/b/c", false);
        check("/a/{*}/c", "/a/b/c", true);
        check("/a/{**}", "/a/", true);
        check("/a/{**}", "/a/b/c", true);
        check("/a/{**}", "/ab", false);
        check("/{**}/z", "/a/b/z", true);
        check("/{**}/z", "/a/b/y", false);
        check("/{**}/z", "/z", false);
        check("/a/{**}", "/a", false);
        check("/{*}/b/{**}", "/a/b/c/d", true);
        check("/{**}", "/", true);
        check("/{*}", "x", false);
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for template in ["{*}", "/{**}/{*}", "/a{*}", "/{x}", "/{*}/*", "/{**}/{**}"] {
            assert!(PathTemplate::parse(template).is_err(), "{template}");
        }
    }
}
