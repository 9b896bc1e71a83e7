//! Prints the walk through the tutorial.

use std::{
    fmt::Display,
    io::{self, Write},
    time::Duration,
};

use super::claim::{Caller, Chapter, Claim, Credentials, Evidence, Expected, Team};
use crate::{
    lab::client::{Failure, Reply},
    terminal::Style,
};

/// Where the walk is printed, and how.
pub(super) struct Show<W> {
    out: W,
    style: Style,
}

impl<W: Write> Show<W> {
    pub(super) fn new(out: W, style: Style) -> Self {
        Self { out, style }
    }

    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    pub(super) fn command(&mut self, command: impl Display) -> io::Result<()> {
        writeln!(self.out, "   $ {}", self.style.command(command))
    }

    pub(super) fn prompt(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "   {}", self.style.dim(text))?;
        self.out.flush()
    }

    pub(super) fn heading(&mut self, number: usize, chapter: &Chapter) -> io::Result<()> {
        let title = self.style.bold(format!("{number}. {}", chapter.title));
        writeln!(self.out, "\n{title}")?;
        for line in wrap(chapter.about, 100) {
            writeln!(self.out, "   {}", self.style.dim(line))?;
        }
        Ok(())
    }

    pub(super) fn applied(&mut self, files: &[&str], took: Duration) -> io::Result<()> {
        for file in files {
            self.command(format_args!("kubectl apply -f examples/{file}"))?;
        }
        let took = format!("live after {} ms: every proxy has acknowledged it", took.as_millis());
        writeln!(self.out, "   {}", self.style.dim(took))
    }

    pub(super) fn claim(&mut self, claim: &Claim, evidence: &Evidence, wrong: &[String]) -> io::Result<()> {
        let mark = if wrong.is_empty() {
            self.style.good("✔")
        } else {
            self.style.bad("✘")
        };
        writeln!(self.out, "\n {mark} {}", claim.text)?;
        writeln!(
            self.out,
            "   {} $ {}{}",
            who(claim.caller),
            self.style.command(&claim.call),
            times(claim.times)
        )?;
        self.detail("expected", &expected(claim.reply))?;
        let got: Vec<_> = evidence.replies.iter().map(outcome).collect();
        self.detail("got", &got.join(" · "))?;
        if let (Expected::Page(..), Some(Ok(reply))) = (claim.reply, evidence.replies.first()) {
            self.body(&reply.text())?;
        }
        self.log("sidecar", &evidence.sidecar)?;
        self.log("gateway", &evidence.gateway)?;
        for fault in wrong {
            writeln!(self.out, "   {}", self.style.bad(fault))?;
        }
        self.out.flush()
    }

    /// The claim about all claims.
    pub(super) fn closing(&mut self, strays: &[String]) -> io::Result<()> {
        let mark = if strays.is_empty() {
            self.style.good("✔")
        } else {
            self.style.bad("✘")
        };
        writeln!(
            self.out,
            "\n {mark} every call left exactly its lines in the logs, and nothing else did"
        )?;
        self.log("stray", strays)
    }

    pub(super) fn verdict(&mut self, held: usize, claims: usize, took: Duration) -> io::Result<()> {
        let text = format!("{held} of {claims} claims hold");
        let text = if held == claims {
            self.style.good(text)
        } else {
            self.style.bad(text)
        };
        writeln!(self.out, "\n{text} ({:.1} s)", took.as_secs_f64())?;
        self.out.flush()
    }

    /// One line of a log.
    pub(super) fn logged(&mut self, who: &str, line: &str) -> io::Result<()> {
        writeln!(self.out, "   {}", self.style.dim(format!("{who:<8} {line}")))?;
        self.out.flush()
    }

    fn detail(&mut self, name: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "   {} {text}", self.style.dim(format!("{name:<8}")))
    }

    fn body(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            writeln!(self.out, "            {line}")?;
        }
        Ok(())
    }

    fn log(&mut self, who: &str, lines: &[String]) -> io::Result<()> {
        let Some(first) = lines.first() else {
            return Ok(());
        };
        self.logged(who, first)?;
        match lines.len() - 1 {
            0 => Ok(()),
            more => writeln!(
                self.out,
                "   {}",
                self.style.dim(format!("{:<8} and {more} more like it", ""))
            ),
        }
    }
}

fn who(caller: Caller) -> &'static str {
    match caller {
        Caller::App(Team::X) => "team-x",
        Caller::App(Team::Y) => "team-y",
        Caller::Uncaptured(Team::X) => "team-x, uncaptured",
        Caller::Uncaptured(Team::Y) => "team-y, uncaptured",
        Caller::Direct(Credentials::Plaintext) => "plaintext to 10.1.4.12:8080",
        Caller::Direct(Credentials::Nothing) => "TLS to 10.1.4.12:8080, no certificate",
        Caller::Direct(Credentials::ForeignMesh) => "mTLS to 10.1.4.12:8080, foreign mesh",
        Caller::Direct(Credentials::Member(Team::X)) => "mTLS to 10.1.4.12:8080, as team-x",
        Caller::Direct(Credentials::Member(Team::Y)) => "mTLS to 10.1.4.12:8080, as team-y",
    }
}

fn times(times: usize) -> String {
    match times {
        1 => String::new(),
        _ => format!("   ({times} times)"),
    }
}

fn expected(expected: Expected) -> String {
    match expected {
        Expected::Status(status) => status.to_string(),
        Expected::Page(status, pattern) => format!("{status}, {pattern}"),
        Expected::Failure(pattern) => format!("no reply: {pattern}"),
    }
}

fn outcome(reply: &Result<Reply, Failure>) -> String {
    match reply {
        Ok(reply) => reply.status.as_u16().to_string(),
        Err(failure) => failure.to_string(),
    }
}

/// Breaks a text between words into lines of at most `width` characters, longer words excepted.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::<String>::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, body::Bytes};

    use super::*;
    use crate::lab::client::Call;

    fn printed(print: impl FnOnce(&mut Show<&mut Vec<u8>>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut Show::new(&mut out, Style::PLAIN)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_claim_is_shown_with_what_was_seen() {
        let call = Call::get("http://httpbin.org/status/418");
        let expected = Expected::Page(418, "*teapot*");
        let claim = Claim::new("team-y gets its teapot", Caller::App(Team::Y), call, expected).times(2);
        let reply = || {
            Ok(Reply {
                status: StatusCode::IM_A_TEAPOT,
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"\na teapot\n"),
            })
        };
        let evidence = Evidence {
            replies: vec![reply(), reply()],
            gateway: vec!["[one]".into(), "[two]".into()],
            ..Evidence::default()
        };
        let expect = "
 ✘ team-y gets its teapot
   team-y $ curl -s http://httpbin.org/status/418   (2 times)
   expected 418, *teapot*
   got      418 · 418
            a teapot
   gateway  [one]
            and 1 more like it
   too bad
";
        assert_eq!(
            printed(|show| show.claim(&claim, &evidence, &["too bad".into()])),
            expect
        );
    }

    #[test]
    fn the_verdict_counts() {
        let shown = printed(|show| show.verdict(3, 4, Duration::from_millis(1520)));
        assert_eq!(shown, "\n3 of 4 claims hold (1.5 s)\n");
    }

    #[test]
    fn text_breaks_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable x", 4), ["unbreakable", "x"]);
    }
}
