//! The application is curl.

use std::{io, process::Command};

use anyhow::Context as _;
use hyper::{HeaderMap, StatusCode};

use super::process;
use crate::lab::client::{Failure, Reply};

/// Makes a call with a prepared curl command.
///
/// # Errors
/// There is no curl, or it talks nonsense; that the call fails is a result.
pub async fn run(mut curl: Command) -> anyhow::Result<Result<Reply, Failure>> {
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "15",
        "--write-out",
        "%{stderr}%{http_code}",
    ]);
    let mut curl = tokio::process::Command::from(process::bounded(&curl));
    let output = curl.kill_on_drop(true).output().await.context("curl")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Ok(Err(failure(output.status.code(), &said)));
    }
    Ok(Ok(Reply {
        status: StatusCode::from_bytes(said.as_bytes()).with_context(|| format!("curl says {said:?}"))?,
        headers: HeaderMap::new(),
        // To a HEAD request curl writes the response's head instead.
        body: output.stdout.into(),
    }))
}

/// curl's exit codes: 7 no connection, 35 and 60 the handshake failed; all others are about what came, or did not, after that.
fn failure(code: Option<i32>, said: &str) -> Failure {
    // The status that is written at the end of everything is 000.
    let said = said.trim_end_matches("000").trim_end();
    match code {
        Some(7) => Failure::Connect(io::Error::other(said)),
        Some(35 | 60) => Failure::Tls(io::Error::other(said)),
        Some(code) => Failure::Body(format!("curl's exit code {code}: {said}").into()),
        None => Failure::Body(format!("curl was killed: {said}").into()),
    }
}
