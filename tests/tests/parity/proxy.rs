//! The two that are compared: Envoy as a process, ours in this one. Both start from the same kind of file.

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use gateway::{Gateway, Handle, bootstrap::Plan};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::wire::Wire;

/// How long a proxy may take to start, and a line to be written.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(5);

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Envoy,
    Ours,
}

/// A running proxy.
pub(crate) struct Proxy {
    running: Running,
    /// Where its listener is.
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

enum Running {
    Envoy(Child),
    Ours(Handle),
}

impl Proxy {
    /// Starts a proxy whose access log is `log`. The error is what it says against its configuration.
    pub(crate) async fn start(kind: Kind, config: &Value, scratch: &Path, log: PathBuf) -> Result<Self, String> {
        let (running, address) = match kind {
            Kind::Envoy => start_envoy(config, scratch).await?,
            Kind::Ours => start_ours(config).await?,
        };
        Ok(Self { running, address, log })
    }

    /// Waits until so many lines are logged; fewer may be there in the end, which the comparison will show.
    pub(crate) async fn logged(&self, lines: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.lines() < lines && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }

    /// Ends the proxy; returns its log.
    pub(crate) async fn stop(self) -> Vec<Value> {
        match self.running {
            Running::Envoy(mut child) => {
                child.kill().await.expect("our own child");
            }
            Running::Ours(handle) => handle.shutdown().await,
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        text.lines().map(line).collect()
    }

    fn lines(&self) -> usize {
        fs::read(&self.log).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
    }
}

async fn start_ours(config: &Value) -> Result<(Running, SocketAddr), String> {
    let plan = Plan::read(&config.to_string(), None).map_err(|error| error.to_string())?;
    let mut settings = plan.settings;
    settings.workers = NonZeroUsize::MIN;
    let handle = Gateway::start(settings).await.map_err(|error| error.to_string())?;
    let address = handle.bound().into_values().next().ok_or("it listens nowhere")?;
    Ok((Running::Ours(handle), address))
}

async fn start_envoy(config: &Value, scratch: &Path) -> Result<(Running, SocketAddr), String> {
    let (bootstrap, admin, said) = (
        scratch.join("envoy.json"),
        scratch.join("admin"),
        scratch.join("envoy.log"),
    );
    let write = fs::write(&bootstrap, config.to_string());
    write.map_err(|error| error.to_string())?;
    let mut command = Command::new(tests::envoy().ok_or("no envoy")?);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
        "--file-flush-interval-msec",
        "5",
    ]);
    command
        .arg("-c")
        .arg(&bootstrap)
        .arg("--admin-address-path")
        .arg(&admin)
        .arg("--log-path")
        .arg(&said);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() || Instant::now() > deadline {
            return Err(complaint(&fs::read_to_string(&said).unwrap_or_default()));
        }
        if let Some(address) = listening(&admin).await {
            return Ok((Running::Envoy(child), address));
        }
        sleep(LOOK).await;
    }
}

/// What Envoy says when it does not start.
fn complaint(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("[critical]")).unwrap_or(said);
    line.rsplit_once("] ")
        .map_or(line, |(_, complaint)| complaint)
        .to_owned()
}

/// Where Envoy's listener is, once its workers serve.
async fn listening(admin: &Path) -> Option<SocketAddr> {
    let admin: SocketAddr = fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    let ready = ask(admin, "/ready").await?;
    if !ready["body"].as_str()?.starts_with("LIVE") {
        return None;
    }
    let listeners = ask(admin, "/listeners?format=json").await?;
    let listeners: Value = serde_json::from_str(listeners["body"].as_str()?).ok()?;
    let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

async fn ask(admin: SocketAddr, path: &str) -> Option<Value> {
    let mut wire = Wire::plain(TcpStream::connect(admin).await.ok()?).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    wire.send(request.as_bytes()).await.ok()?;
    Some(wire.response("GET").await)
}
