//! A running Envoy: its process, its admin interface and its log.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::log;

/// How long anything may take, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(20);

/// A running Envoy; killed when dropped.
pub(crate) struct Envoy {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
    /// Bytes of the log that were looked at.
    read: usize,
    _scratch: TempDir,
}

impl Envoy {
    /// Starts Envoy from a document that gives its admin interface any port.
    pub(crate) async fn start(document: &Value) -> Self {
        let scratch = TempDir::new().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("bootstrap.json"), document.to_string()).unwrap();
        let mut child = Command::new(tests::envoy().unwrap())
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "info"])
            .args(["--log-format", log::FORMAT, "--drain-time-s", "1"])
            .arg("-c")
            .arg(path("bootstrap.json"))
            .arg("--admin-address-path")
            .arg(path("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Unlike a file that Envoy opens itself, standard error is written at once.
            .stderr(fs::File::create(path("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let admin = admin(&mut child, &path("admin"), &path("log")).await;
        Self {
            child,
            admin,
            log: path("log"),
            read: 0,
            _scratch: scratch,
        }
    }

    /// What Envoy has said since this was last asked.
    pub(crate) fn fresh(&mut self) -> String {
        let log = fs::read(&self.log).unwrap();
        let fresh = String::from_utf8_lossy(&log[self.read..]).into_owned();
        self.read = log.len();
        fresh
    }

    /// All it has said since it told what it is made of.
    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap();
        log.split_once("Starting admin")
            .map_or(log.clone(), |(_, rest)| rest.to_owned())
    }

    /// Looks at the admin interface until what it says is as described. The error is what was wrong in the end.
    pub(crate) async fn until<T>(
        &self,
        path: &str,
        mut described: impl FnMut(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let wrong = match described(&self.get(path).await) {
                Ok(value) => return Ok(value),
                Err(wrong) => wrong,
            };
            if Instant::now() > deadline {
                return Err(wrong);
            }
            sleep(LOOK).await;
        }
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        if head.contains("transfer-encoding: chunked") {
            joined(body)
        } else {
            body.to_owned()
        }
    }
}

/// The content of chunks.
fn joined(mut chunks: &str) -> String {
    let mut content = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        content.push_str(&rest[..size]);
        chunks = &rest[size + 2..];
        if size == 0 {
            break;
        }
    }
    content
}

/// Where the admin interface is.
async fn admin(child: &mut Child, file: &Path, log: &Path) -> SocketAddr {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "Envoy ended: {}", said());
        if let Some(address) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return address;
        }
        assert!(Instant::now() < deadline, "Envoy does not start: {}", said());
        sleep(LOOK).await;
    }
}
