//! What the tutorial claims, as data: who calls what, what comes back, and what the proxies log.
//!
//! Checking is a pure function of a [`Claim`] and the [`Evidence`]; the demo prints its findings and a test asserts there are
//! none.

use crate::lab::{
    client::{Call, Failure, Reply},
    log::{Field, Line},
};

/// A part of the tutorial: resources to apply, then claims that must hold.
pub struct Chapter {
    /// Its heading.
    pub title: &'static str,
    /// What it is about, in a sentence or two.
    pub about: &'static str,
    /// The files to apply, by their path below `examples/`.
    pub apply: &'static [&'static str],
    /// What holds afterwards.
    pub claims: Vec<Claim>,
}

/// One claim: the same call, made one or several times.
pub struct Claim {
    /// The claim in words.
    pub text: &'static str,
    /// Who calls.
    pub caller: Caller,
    /// What is called.
    pub call: Call,
    /// How often.
    pub times: usize,
    /// What comes back, each time.
    pub reply: Expected,
    /// Whether the call arrives at the site it names.
    pub arrives: bool,
    /// Whether the site is run by an impostor while the claim is checked: right name, certificate of an unknown authority.
    pub impostor: bool,
    /// What the caller's sidecar logs.
    pub sidecar: Logged,
    /// What the gateway logs.
    pub gateway: Logged,
}

/// A team of the tutorial: a namespace with a test application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Team {
    /// Namespace `team-x`.
    X,
    /// Namespace `team-y`.
    Y,
}

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The team's application, behind its sidecar.
    App(Team),
    /// A process in the team's pod that capture does not see.
    Uncaptured(Team),
    /// A process in team-x's pod that talks to the gateway's mTLS port itself, with these credentials.
    Direct(Credentials),
}

/// What a caller shows to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Not even TLS.
    Plaintext,
    /// TLS without a certificate.
    Nothing,
    /// A well-formed identity of another mesh's trust domain, signed by that mesh's CA.
    ForeignMesh,
    /// The identity of a team's application.
    Member(Team),
}

/// What a call must yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A reply with this status.
    Status(u16),
    /// A reply with this status and a body that matches the pattern (see [`matches()`]).
    Page(u16, &'static str),
    /// No reply; the reason matches the pattern.
    Failure(&'static str),
}

/// What a proxy must log.
#[derive(Debug, Clone, Copy)]
pub enum Logged {
    /// Not a line.
    Nothing,
    /// One line per call, whose fields match these patterns.
    Each(&'static [(Field, &'static str)]),
}

/// What was observed.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What each call yielded.
    pub replies: Vec<Result<Reply, Failure>>,
    /// How many requests arrived at the site.
    pub arrived: u64,
    /// The lines the sidecar logged.
    pub sidecar: Vec<String>,
    /// The lines the gateway logged.
    pub gateway: Vec<String>,
}

impl Claim {
    /// A claim about one call that nobody logs and that arrives nowhere.
    pub fn new(text: &'static str, caller: Caller, call: Call, reply: Expected) -> Self {
        Self {
            text,
            caller,
            call,
            times: 1,
            reply,
            arrives: false,
            impostor: false,
            sidecar: Logged::Nothing,
            gateway: Logged::Nothing,
        }
    }

    /// The call is made several times.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// The call arrives at its site.
    pub fn arrives(self) -> Self {
        Self { arrives: true, ..self }
    }

    /// The site is run by an impostor.
    pub fn impostor(self) -> Self {
        Self { impostor: true, ..self }
    }

    /// The sidecar logs a line per call.
    pub fn sidecar(self, fields: &'static [(Field, &'static str)]) -> Self {
        let sidecar = Logged::Each(fields);
        Self { sidecar, ..self }
    }

    /// The gateway logs a line per call.
    pub fn gateway(self, fields: &'static [(Field, &'static str)]) -> Self {
        let gateway = Logged::Each(fields);
        Self { gateway, ..self }
    }

    /// Everything in the evidence that contradicts the claim, in words; empty if it holds.
    pub fn contradictions(&self, evidence: &Evidence) -> Vec<String> {
        let mut found = Vec::new();
        if evidence.replies.len() != self.times {
            found.push(format!(
                "{} calls were made, not {}",
                evidence.replies.len(),
                self.times
            ));
        }
        found.extend(
            evidence
                .replies
                .iter()
                .filter_map(|reply| self.reply.contradiction(reply)),
        );
        let arrives = if self.arrives { self.times as u64 } else { 0 };
        if evidence.arrived != arrives {
            found.push(format!(
                "{} requests arrived at the site, expected {arrives}",
                evidence.arrived
            ));
        }
        found.extend(self.sidecar.contradictions("sidecar", self.times, &evidence.sidecar));
        found.extend(self.gateway.contradictions("gateway", self.times, &evidence.gateway));
        found
    }
}

impl Expected {
    fn contradiction(self, reply: &Result<Reply, Failure>) -> Option<String> {
        match (self, reply) {
            (Self::Status(status), Ok(reply)) | (Self::Page(status, _), Ok(reply)) if reply.status != status => {
                Some(format!("status {}, expected {status}", reply.status.as_u16()))
            }
            (Self::Page(_, pattern), Ok(reply)) if !matches(pattern, &reply.text()) => {
                Some(format!("body {:?}, expected {pattern:?}", reply.text()))
            }
            (Self::Status(_) | Self::Page(..), Ok(_)) => None,
            (Self::Status(status) | Self::Page(status, _), Err(failure)) => {
                Some(format!("{failure}, expected status {status}"))
            }
            (Self::Failure(pattern), Ok(reply)) => Some(format!(
                "status {}, expected no reply but {pattern:?}",
                reply.status.as_u16()
            )),
            (Self::Failure(pattern), Err(failure)) => {
                let why = failure.to_string();
                (!matches(pattern, &why)).then(|| format!("{why:?}, expected {pattern:?}"))
            }
        }
    }
}

impl Logged {
    /// How many lines `times` calls leave behind.
    pub fn lines(self, times: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Each(_) => times,
        }
    }

    fn contradictions(self, who: &str, times: usize, lines: &[String]) -> Vec<String> {
        let expected = self.lines(times);
        let mut found = Vec::new();
        if lines.len() != expected {
            found.push(format!("{who} logged {} lines, expected {expected}", lines.len()));
        }
        if let Self::Each(fields) = self {
            found.extend(lines.iter().flat_map(|line| mismatches(who, line, fields)));
        }
        found
    }
}

fn mismatches(who: &str, text: &str, fields: &[(Field, &str)]) -> Vec<String> {
    let Some(line) = Line::parse(text) else {
        return vec![format!("{who} logged a line of another shape: {text}")];
    };
    let wrong = |(field, pattern): &(Field, &str)| {
        let value = line.get(*field);
        (!matches(pattern, value)).then(|| format!("{who} logged {field:?} {value:?}, expected {pattern:?}"))
    };
    fields.iter().filter_map(wrong).collect()
}

/// Whether a text matches a pattern, in which `*` stands for any text and everything else for itself.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let splits = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    splits
        .into_iter()
        .any(|at| matches(rest, text.get(at..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, body::Bytes};

    use super::*;

    const LINE: &str = r#"[2026-11-24T17:37:08.045Z] "HEAD / HTTP/2" 200 - via_upstream - "-" 0 0 4 3 "10.1.0.17" "a" "b" "example.com" "93.184.216.34:80" outbound|80||example.com 10.1.4.12:37636 10.1.4.12:8080 10.1.0.17:44404 outbound_.80_.x_.y -"#;

    fn reply(status: StatusCode, body: &'static str) -> Result<Reply, Failure> {
        Ok(Reply {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    fn claim(reply: Expected) -> Claim {
        Claim::new("", Caller::App(Team::X), Call::get("http://example.com"), reply)
    }

    #[track_caller]
    fn check(claim: &Claim, evidence: &Evidence, expect: &[&str]) {
        assert_eq!(claim.contradictions(evidence), expect);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expect) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("10.1.0.17:*", "10.1.0.17:80", true),
            ("10.1.0.17:*", "10.1.0.1", false),
            ("*b*d", "abcd", true),
            ("*b*d", "abcde", false),
            ("a*a", "a", false),
            ("é*", "éè", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn a_reply_must_have_the_status_and_the_body() {
        let evidence = |reply| Evidence {
            replies: vec![reply],
            ..Evidence::default()
        };
        let ok = evidence(reply(StatusCode::OK, "hello"));
        check(&claim(Expected::Status(200)), &ok, &[]);
        check(&claim(Expected::Status(403)), &ok, &["status 200, expected 403"]);
        check(&claim(Expected::Page(200, "he*")), &ok, &[]);
        check(
            &claim(Expected::Page(200, "bye")),
            &ok,
            &[r#"body "hello", expected "bye""#],
        );
        check(
            &claim(Expected::Failure("*")),
            &ok,
            &[r#"status 200, expected no reply but "*""#],
        );
        let bad = evidence(Err(Failure::Url("x".into())));
        check(
            &claim(Expected::Status(200)),
            &bad,
            &["bad URL: x, expected status 200"],
        );
        check(&claim(Expected::Failure("bad URL*")), &bad, &[]);
        check(
            &claim(Expected::Failure("TLS*")),
            &bad,
            &[r#""bad URL: x", expected "TLS*""#],
        );
        check(
            &claim(Expected::Status(200)),
            &Evidence::default(),
            &["0 calls were made, not 1"],
        );
    }

    #[test]
    fn what_arrives_is_counted() {
        let mut evidence = Evidence {
            replies: vec![reply(StatusCode::OK, "")],
            arrived: 1,
            ..Evidence::default()
        };
        check(&claim(Expected::Status(200)).arrives(), &evidence, &[]);
        check(
            &claim(Expected::Status(200)),
            &evidence,
            &["1 requests arrived at the site, expected 0"],
        );
        evidence.arrived = 0;
        check(
            &claim(Expected::Status(200)).arrives(),
            &evidence,
            &["0 requests arrived at the site, expected 1"],
        );
    }

    #[test]
    fn log_lines_are_counted_and_compared() {
        let mut evidence = Evidence {
            replies: vec![reply(StatusCode::OK, "")],
            gateway: vec![LINE.into()],
            ..Evidence::default()
        };
        let right = claim(Expected::Status(200)).gateway(&[(Field::Code, "200"), (Field::Remote, "10.1.0.17:*")]);
        let wrong = claim(Expected::Status(200)).gateway(&[(Field::Code, "403")]);
        check(&right, &evidence, &[]);
        check(&wrong, &evidence, &[r#"gateway logged Code "200", expected "403""#]);
        check(
            &claim(Expected::Status(200)),
            &evidence,
            &["gateway logged 1 lines, expected 0"],
        );
        evidence.gateway = vec!["?".into()];
        check(&right, &evidence, &["gateway logged a line of another shape: ?"]);
        evidence.gateway.clear();
        check(&right, &evidence, &["gateway logged 0 lines, expected 1"]);
    }
}
