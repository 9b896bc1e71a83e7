//! The application is curl.

use std::{io, process::Command};

use hyper::{HeaderMap, StatusCode};
use sallyport::{
    demo::claim::Expected,
    lab::client::{Failure, Reply},
};

use crate::process;

/// How a claim's failure looks to curl: the words of the lab's own client, and those of [`failure`].
const WORDS: [(&str, &str); 3] = [
    ("could not connect: ", "could not connect: *"),
    ("TLS handshake failed: ", "TLS handshake failed: *"),
    ("no response: ", "response cut short: *"),
];

/// Makes a call with a prepared curl command.
pub(crate) fn run(mut curl: Command) -> Result<Reply, Failure> {
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "15",
        "--write-out",
        "%{stderr}%{http_code}",
    ]);
    let output = process::bounded(&curl).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(failure(output.status.code(), said));
    }
    Ok(Reply {
        status: StatusCode::from_bytes(said.as_bytes()).unwrap(),
        headers: HeaderMap::new(),
        // To a HEAD request curl writes the response's head instead.
        body: output.stdout.into(),
    })
}

/// curl's exit codes: 7 no connection, 35 and 60 the handshake failed; all others are about what came, or did not, after that.
fn failure(code: Option<i32>, said: String) -> Failure {
    match code {
        Some(7) => Failure::Connect(io::Error::other(said)),
        Some(35 | 60) => Failure::Tls(io::Error::other(said)),
        code => Failure::Body(format!("curl's exit code {code:?}: {said}").into()),
    }
}

/// What a claim expects, in curl's words.
pub(crate) fn expected(claimed: Expected) -> Expected {
    let Expected::Failure(pattern) = claimed else {
        return claimed;
    };
    let translated = WORDS.iter().find(|(ours, _)| pattern.starts_with(ours));
    Expected::Failure(translated.unwrap_or_else(|| panic!("no curl words for {pattern:?}")).1)
}
