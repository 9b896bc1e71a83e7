//! Expressions that are a text with `.*` before or after it, or both: matched without compiling them.
//!
//! Invariant: such an expression matches what the compiled one would; a property test holds us to it.

/// A text, and whether anything but a line feed may stand before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    before: bool,
    text: Box<str>,
    after: bool,
}

/// What stands for any number of any characters but a line feed.
const ANYTHING: &str = ".*";

impl Literal {
    /// `None`: the expression is none of this kind, or it is not plain that it is.
    pub(super) fn parse(source: &str) -> Option<Self> {
        let (before, rest) = match source.strip_prefix(ANYTHING) {
            Some(rest) => (true, rest),
            None => (false, source),
        };
        let (after, rest) = match rest.strip_suffix(ANYTHING) {
            // `\.*` ends with dots, not with anything; the backslash that is left over is refused below.
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        Some(Self {
            before,
            text: unescape(rest)?.into(),
            after,
        })
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether all of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let found = match (self.before, self.after) {
            (true, true) => text.contains(&*self.text),
            (true, false) => text.ends_with(&*self.text),
            (false, true) => text.starts_with(&*self.text),
            (false, false) => return text == &*self.text,
        };
        found && !text.contains('\n')
    }
}

/// The text that an expression without operators stands for.
fn unescape(source: &str) -> Option<String> {
    let (mut text, mut characters) = (String::with_capacity(source.len()), source.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|escaped| is_meta(*escaped))?),
            '\n' => return None,
            plain if is_operator(plain) => return None,
            plain => text.push(plain),
        }
    }
    Some(text)
}

/// Characters that mean something else than themselves.
fn is_operator(character: char) -> bool {
    matches!(
        character,
        '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$'
    )
}

/// Characters that a backslash makes themselves; after others it may mean a class or a boundary.
fn is_meta(character: char) -> bool {
    is_operator(character) || matches!(character, '\\' | '#' | '&' | '-' | '~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_istio_writes_for_namespaces_is_a_literal() {
        for (source, expect) in [
            (r".*/ns/team\-x/.*", Some((true, "/ns/team-x/", true))),
            (".*end", Some((true, "end", false))),
            ("start.*", Some((false, "start", true))),
            (r"a\.test", Some((false, "a.test", false))),
            (".*", Some((true, "", false))),
            (r"a\.*", None),
            (".*a.*b.*", None),
            (r".*\d.*", None),
            (r"\<a", None),
            (".**", None),
            ("a|b", None),
            ("", Some((false, "", false))),
        ] {
            let found = Literal::parse(source);
            let found = found.as_ref().map(|found| (found.before, &*found.text, found.after));
            assert_eq!(found, expect, "{source}");
        }
    }

    proptest! {
        #[test]
        fn a_literal_matches_what_the_compiled_expression_does(
            source in r"(\.\*)?([ab/]|\\-|\\\.|\\\\|[.*\\?]){0,4}(\.\*)?",
            text in r"[ab/.\-\\*\n]{0,6}",
        ) {
            if let Some(literal) = Literal::parse(&source) {
                let compiled = regex::Regex::new(&format!("^(?:{source})$")).unwrap();
                prop_assert_eq!(literal.matches(&text), compiled.is_match(&text), "{:?} {:?}", source, text);
            }
        }
    }
}
