//! What a person sees: colour, and only where a person looks.

use std::{fmt, io::IsTerminal};

/// How to emphasise text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

/// Text with an emphasis.
pub struct Styled<T> {
    text: T,
    /// The parameters of the escape sequence (ECMA-48, SGR), if there is to be one.
    code: Option<&'static str>,
}

impl Style {
    /// No emphasis at all: for files, pipes and tests.
    pub const PLAIN: Self = Self { colour: false };

    /// Colour if the stream is a terminal and the environment does not object (<https://no-color.org>, `TERM=dumb`).
    pub fn of(stream: &impl IsTerminal) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: stream.is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// For headings.
    pub fn bold<T: fmt::Display>(self, text: T) -> Styled<T> {
        self.styled(text, "1")
    }

    /// For what is there to be looked up, not to be read.
    pub fn dim<T: fmt::Display>(self, text: T) -> Styled<T> {
        self.styled(text, "2")
    }

    /// For what is right.
    pub fn good<T: fmt::Display>(self, text: T) -> Styled<T> {
        self.styled(text, "32")
    }

    /// For what is wrong.
    pub fn bad<T: fmt::Display>(self, text: T) -> Styled<T> {
        self.styled(text, "1;31")
    }

    /// For what a user could type.
    pub fn command<T: fmt::Display>(self, text: T) -> Styled<T> {
        self.styled(text, "36")
    }

    fn styled<T>(self, text: T, code: &'static str) -> Styled<T> {
        Styled {
            text,
            code: self.colour.then_some(code),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_escape_without_a_terminal() {
        assert_eq!(Style::PLAIN.bad("no").to_string(), "no");
        assert_eq!(Style { colour: true }.bad("no").to_string(), "\x1b[1;31mno\x1b[0m");
    }
}
