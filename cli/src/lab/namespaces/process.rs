//! Other processes: what they say ends up in a [`Log`], whoever waits for it is woken by it, and none outlives its owner.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use crate::lab::log::{Log, LogPipe};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a line that is due after a reply may take. It comes at once, or the claim does not hold.
const LINE_DEADLINE: Duration = Duration::from_secs(5);

/// A running process; killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    out: LogPipe,
    err: LogPipe,
    /// Lines of standard output that somebody has taken.
    taken: usize,
    /// Lines of standard error that somebody has waited for, and those before them.
    passed: usize,
}

/// What is left of a process that ended in order.
#[derive(Debug, Default)]
pub struct Ended {
    /// The lines of standard output that nobody has taken.
    pub rest: Vec<String>,
    /// Everything it has written to standard error.
    pub said: Vec<String>,
}

impl Process {
    /// Starts a process whose standard output and standard error are a user's own.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) fn start(name: &'static str, command: std::process::Command, user: u32) -> anyhow::Result<Self> {
        let (out, err) = (LogPipe::open()?, LogPipe::open()?);
        let mut command = Command::from(command);
        command
            .stdin(Stdio::piped())
            .stdout(out.stdio(user)?)
            .stderr(err.stdio(user)?)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            stdin: child.stdin.take().context("a child without standard input")?,
            child,
            out,
            err,
            taken: 0,
            passed: 0,
        })
    }

    /// Waits until a line about `what` is written to standard error, and passes over everything up to it.
    ///
    /// # Errors
    /// It does not come in time, or the process ends first.
    pub async fn await_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let deadline = sleep(DEADLINE);
        tokio::pin!(deadline);
        while !self.pass(&wanted) {
            let why = tokio::select! {
                () = self.err.log().outgrows(self.passed) => continue,
                ended = self.child.wait() => format!("it has ended: {}", ended?),
                () = &mut deadline => format!("it did not come within {} s", DEADLINE.as_secs()),
            };
            if !self.pass(&wanted) {
                bail!("no line about {what} from {}: {why}\n{}", self.name, self.said());
            }
            break;
        }
        Ok(())
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// It no longer reads.
    pub(super) async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let written = self.stdin.write_all(format!("{line}\n").as_bytes()).await;
        written.with_context(|| format!("{} does not listen", self.name))
    }

    /// What it writes to standard output: for a proxy its access log.
    pub fn log(&self) -> &Log {
        self.out.log()
    }

    /// Takes the lines there are on standard output when there are `count`, or when the time is up.
    pub async fn take_when(&mut self, count: usize) -> Vec<String> {
        // If they do not come, there are too few, which is what the claim will complain about.
        let _ = self.log().reaches(self.taken + count, LINE_DEADLINE).await;
        let lines = self.log().since(self.taken);
        self.taken += lines.len();
        lines
    }

    /// Has it end in order.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(mut self) -> anyhow::Result<Ended> {
        let id = self
            .child
            .id()
            .with_context(|| format!("{} has ended already", self.name))?;
        run(std::process::Command::new("kill").args(["-TERM", &id.to_string()]))?;
        let ended = timeout(DEADLINE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not stop when told to\n{}", self.name, self.said()))??;
        let (out, err) = (self.out.log().clone(), self.err.log().clone());
        self.out.finish().await?;
        self.err.finish().await?;
        Ok(Ended {
            rest: out.since(self.taken),
            said: err.since(0),
        })
    }

    /// Ends it out of order: it does not learn of it.
    ///
    /// # Errors
    /// It has ended already.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// Everything it has written to standard error, under its name.
    pub fn said(&self) -> String {
        format!("== {}\n{}\n", self.name, self.err.log().since(0).join("\n"))
    }

    /// Passes over the lines up to the first wanted one, or over all there are; whether there was one.
    fn pass(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let lines = self.err.log().since(self.passed);
        let found = lines.iter().position(|line| wanted(line));
        self.passed += found.map_or(lines.len(), |at| at + 1);
        found.is_some()
    }
}

/// Runs a command to its end and returns what it writes; what it says on failure is the error.
///
/// # Errors
/// It cannot be run, fails, or takes too long.
pub(super) fn run(command: &std::process::Command) -> anyhow::Result<String> {
    let output = bounded(command).output().with_context(|| format!("{command:?}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{command:?}: {} {}", output.status, said.trim());
}

/// The same command, killed when it takes too long.
pub(super) fn bounded(command: &std::process::Command) -> std::process::Command {
    let mut bounded = std::process::Command::new("timeout");
    bounded
        .arg(DEADLINE.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    bounded
}
