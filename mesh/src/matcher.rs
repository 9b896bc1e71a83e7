//! Matchers of strings, headers and addresses, as Envoy's `type.matcher.v3` defines them; compiled once, when configuration
//! is read.
//!
//! Invariant: matching never allocates, except case-insensitive prefix, suffix and substring matching of non-ASCII text,
//! which compares ASCII case only, as Envoy does.

mod literal;

use std::{borrow::Cow, fmt};

use literal::Literal;

/// A regular expression in RE2 syntax that must match the whole text. Equality is equality of the source.
#[derive(Clone)]
pub struct Regex {
    source: Box<str>,
    form: Form,
}

/// How an expression is matched.
#[derive(Clone)]
enum Form {
    /// A compiled expression takes some 20 KiB, and Istio writes one for every namespace of every policy.
    Literal(Literal),
    Compiled(regex::Regex),
}

/// `type.matcher.v3.RegexMatchAndSubstitute`: every match of an expression, anywhere in a text, is replaced.
#[derive(Clone)]
pub struct Substitution {
    pattern: String,
    replacement: String,
    compiled: regex::Regex,
    /// `replacement` in the words of the library: `${1}` for `\1`.
    template: String,
}

/// A regular expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// Longer than [`MAX_REGEX`] bytes.
    #[error("the regular expression has {0} bytes, at most {MAX_REGEX} are accepted")]
    TooLong(usize),
    /// Not valid RE2 syntax, or too large once compiled.
    #[error("{0:?} is not a valid regular expression: {1}")]
    Syntax(String, String),
    /// A replacement has a backslash that is followed neither by a group's number nor by a backslash.
    #[error(
        "{0:?} is not a valid replacement: \\0 to \\9 stand for groups that the expression has, \\\\ for a backslash"
    )]
    Replacement(String),
}

/// Longest regular expression accepted. Istio accepts 1024; what it generates around a value may be a little longer.
pub const MAX_REGEX: usize = 4096;
/// Upper bound of a compiled expression's memory.
const MAX_COMPILED: usize = 1 << 20;

/// How a text is compared. An empty prefix, suffix or substring matches every text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringPattern {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Anywhere in it.
    Contains(String),
    /// The whole text matches the expression.
    Regex(Regex),
}

/// `type.matcher.v3.StringMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringMatcher {
    /// What to look for.
    pub pattern: StringPattern,
    /// Compare without regard to ASCII case. Has no effect on a regular expression.
    pub ignore_case: bool,
}

/// `config.route.v3.HeaderMatcher`, of routes and of authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// Lower-case name; pseudo headers (`:authority`, `:method`, `:path`, `:scheme`) included.
    pub name: String,
    /// What the value must be.
    pub value: HeaderValueMatch,
    /// Negates the outcome. An absent header never matches a value, inverted or not, unless `missing_as_empty`.
    pub invert: bool,
    /// Treat an absent header as an empty value.
    pub missing_as_empty: bool,
}

/// What a header matcher asks of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValueMatch {
    /// The header is there (`true`) or is not (`false`).
    Present(bool),
    /// The value matches, of several lines one.
    Value(StringMatcher),
}

/// `config.route.v3.QueryParameterMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMatcher {
    /// Name of the parameter, compared exactly.
    pub name: String,
    /// `None`: present with any value.
    pub value: Option<StringMatcher>,
}

impl Regex {
    /// Compiles an expression; it will be matched against whole texts only.
    pub fn parse(source: &str) -> Result<Self, RegexError> {
        let form = match Literal::parse(source).filter(|_| source.len() <= MAX_REGEX) {
            Some(literal) => Form::Literal(literal),
            None => {
                // The bare source first: `a)(b` must not become valid by being wrapped.
                compile(source, source)?;
                Form::Compiled(compile(source, &format!("^(?:{source})$"))?)
            }
        };
        Ok(Self {
            source: source.into(),
            form,
        })
    }

    /// The expression as it was configured.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text that every match contains, of an expression that is one with at most `.*` around it.
    pub fn literal(&self) -> Option<&str> {
        match &self.form {
            Form::Literal(literal) => Some(literal.text()),
            Form::Compiled(_) => None,
        }
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.form {
            Form::Literal(literal) => literal.matches(text),
            Form::Compiled(compiled) => compiled.is_match(text),
        }
    }
}

impl Substitution {
    /// Compiles an expression and what replaces its matches, in which `\\1` stands for the first group.
    ///
    /// # Errors
    /// The expression is refused as in [`Regex::parse`], or the replacement names a group that there is not.
    pub fn parse(pattern: &str, replacement: &str) -> Result<Self, RegexError> {
        let compiled = compile(pattern, pattern)?;
        let template = template(replacement, compiled.captures_len());
        Ok(Self {
            template: template.ok_or_else(|| RegexError::Replacement(replacement.to_owned()))?,
            pattern: pattern.to_owned(),
            replacement: replacement.to_owned(),
            compiled,
        })
    }

    /// The expression as it was configured.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The replacement as it was configured.
    pub fn replacement(&self) -> &str {
        &self.replacement
    }

    /// The text with every match replaced.
    pub fn apply(&self, text: &str) -> String {
        self.compiled.replace_all(text, &self.template).into_owned()
    }
}

/// Compiles `text`, an expression made of what was configured.
fn compile(source: &str, text: &str) -> Result<regex::Regex, RegexError> {
    if source.len() > MAX_REGEX {
        return Err(RegexError::TooLong(source.len()));
    }
    let built = regex::RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
    built.map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default();
        RegexError::Syntax(source.to_owned(), last.trim_start_matches("error: ").to_owned())
    })
}

/// RE2's way to write a replacement, in the library's. `None`: a backslash without meaning.
fn template(replacement: &str, groups: usize) -> Option<String> {
    let (mut template, mut characters) = (String::with_capacity(replacement.len()), replacement.chars());
    while let Some(character) = characters.next() {
        match character {
            '$' => template.push_str("$$"),
            '\\' => match characters.next()? {
                '\\' => template.push('\\'),
                digit => {
                    let group = usize::try_from(digit.to_digit(10)?).ok()?;
                    (group < groups).then(|| template.push_str(&format!("${{{group}}}")))?;
                }
            },
            other => template.push(other),
        }
    }
    Some(template)
}

impl StringMatcher {
    /// The text, case-sensitive.
    pub fn exact(text: impl Into<String>) -> Self {
        Self {
            pattern: StringPattern::Exact(text.into()),
            ignore_case: false,
        }
    }

    /// A beginning, case-sensitive.
    pub fn prefix(text: impl Into<String>) -> Self {
        Self {
            pattern: StringPattern::Prefix(text.into()),
            ignore_case: false,
        }
    }

    /// An end, case-sensitive.
    pub fn suffix(text: impl Into<String>) -> Self {
        Self {
            pattern: StringPattern::Suffix(text.into()),
            ignore_case: false,
        }
    }

    /// A whole-text regular expression.
    pub fn regex(regex: Regex) -> Self {
        Self {
            pattern: StringPattern::Regex(regex),
            ignore_case: false,
        }
    }

    /// The same pattern without regard to ASCII case.
    pub fn ignoring_case(self) -> Self {
        Self {
            ignore_case: true,
            ..self
        }
    }

    /// Whether the text matches.
    pub fn matches(&self, text: &str) -> bool {
        let same = |a: &str, b: &str| {
            if self.ignore_case {
                a.eq_ignore_ascii_case(b)
            } else {
                a == b
            }
        };
        match &self.pattern {
            StringPattern::Exact(want) => same(text, want),
            StringPattern::Prefix(want) => text.get(..want.len()).is_some_and(|head| same(head, want)),
            StringPattern::Suffix(want) => text
                .len()
                .checked_sub(want.len())
                .and_then(|at| text.get(at..))
                .is_some_and(|tail| same(tail, want)),
            StringPattern::Contains(want) if self.ignore_case => {
                want.is_empty()
                    || text
                        .as_bytes()
                        .windows(want.len())
                        .any(|part| part.eq_ignore_ascii_case(want.as_bytes()))
            }
            StringPattern::Contains(want) => text.contains(want.as_str()),
            StringPattern::Regex(regex) => regex.matches(text),
        }
    }
}

impl HeaderMatcher {
    /// Whether a header with this value, or its absence, matches.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match &self.value {
            HeaderValueMatch::Present(expected) => {
                let present = value.is_some() || self.missing_as_empty;
                (present == *expected) != self.invert
            }
            HeaderValueMatch::Value(matcher) => match value.or(self.missing_as_empty.then_some("")) {
                Some(value) => matcher.matches(value) != self.invert,
                None => false,
            },
        }
    }

    /// Whether one of a header's lines matches, or their absence does. Inverted is the outcome for all lines, not for each.
    pub fn matches_lines<'a>(&self, lines: impl Iterator<Item = Cow<'a, str>>) -> bool {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            self.matches(None)
        } else if self.invert {
            lines.all(|line| self.matches(Some(&line)))
        } else {
            lines.any(|line| self.matches(Some(&line)))
        }
    }
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.replacement) == (&other.pattern, &other.replacement)
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}/", self.pattern, self.replacement)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(matcher: &StringMatcher, text: &str, expect: bool) {
        assert_eq!(matcher.matches(text), expect, "{matcher:?} {text:?}");
    }

    #[test]
    fn strings_match_by_their_form() {
        let regex = |source| StringMatcher::regex(Regex::parse(source).unwrap());
        check(&StringMatcher::exact("a"), "a", true);
        check(&StringMatcher::exact("a"), "A", false);
        check(&StringMatcher::exact("a").ignoring_case(), "A", true);
        check(&StringMatcher::prefix("ab"), "abc", true);
        check(&StringMatcher::prefix("ab"), "a", false);
        check(&StringMatcher::prefix("ab"), "aé", false);
        check(&StringMatcher::suffix("bc"), "abc", true);
        check(&StringMatcher::suffix("bc").ignoring_case(), "aBC", true);
        check(&StringMatcher::suffix("abcd"), "bcd", false);
        check(&regex("a|b"), "b", true);
        check(&regex("a|b"), "ab", false);
        check(&regex(".*/ns/team-x/.*"), "spiffe://td/ns/team-x/sa/test", true);
        let contains = StringMatcher {
            pattern: StringPattern::Contains("BC".into()),
            ignore_case: true,
        };
        check(&contains, "abcd", true);
        check(&contains, "abd", false);
    }

    #[test]
    fn every_match_is_replaced() {
        let check = |pattern, replacement, text: &str, expect: &str| {
            let substitution = Substitution::parse(pattern, replacement).unwrap();
            assert_eq!(substitution.apply(text), expect);
        };
        check("o+", "0", "/foo/boo", "/f0/b0");
        check("^/v(\\d)/(.*)$", "/\\2/\\1$1", "/v1/a", "/a/1$1");
        check("a", "\\\\\\0", "ba", "b\\a");
        check("a", "b", "c", "c");
    }

    #[test]
    fn a_replacement_names_groups_that_there_are() {
        for replacement in ["\\1", "\\x", "\\"] {
            assert!(Substitution::parse("a", replacement).is_err(), "{replacement}");
        }
        assert!(Substitution::parse("(a", "b").is_err());
    }

    #[test]
    fn an_expression_cannot_escape_its_anchors() {
        assert!(Regex::parse("a)(b").is_err());
        assert!(Regex::parse("(").is_err());
        assert!(Regex::parse(&"a".repeat(MAX_REGEX + 1)).is_err());
        assert!(Regex::parse("(a{1000}){1000}").is_err());
    }

    #[test]
    fn an_absent_header_matches_no_value_even_inverted() {
        let header = |value, invert, missing_as_empty| HeaderMatcher {
            name: "x".into(),
            value,
            invert,
            missing_as_empty,
        };
        let value = || HeaderValueMatch::Value(StringMatcher::exact("a"));
        assert!(header(value(), false, false).matches(Some("a")));
        assert!(!header(value(), true, false).matches(Some("a")));
        assert!(!header(value(), true, false).matches(None));
        assert!(header(value(), true, true).matches(None));
        assert!(header(HeaderValueMatch::Present(true), true, false).matches(None));
        assert!(header(HeaderValueMatch::Present(false), false, false).matches(None));
        assert!(!header(HeaderValueMatch::Present(false), false, true).matches(None));
        assert!(header(HeaderValueMatch::Present(true), false, true).matches(None));
    }
}
