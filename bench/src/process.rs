//! Processes under measurement: pinned to a core, their processor time and memory read from `/proc`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

/// The core that proxies run on.
pub(crate) const PROXY_CORE: usize = 0;
/// The core that load and upstreams run on.
pub(crate) const LOAD_CORE: usize = 1;
/// What `/proc/<pid>/stat` counts in: `USER_HZ`, 100 on every Linux that Debian runs on.
const TICK: Duration = Duration::from_millis(10);

/// A running proxy; ends when dropped.
pub(crate) struct Process {
    child: Child,
    /// What it says.
    log: PathBuf,
}

impl Process {
    /// Starts a command pinned to the proxies' core, its output in `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log)?;
        let mut pinned = Command::new("taskset");
        pinned
            .args(["-c", &PROXY_CORE.to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                pinned.env(name, value);
            }
        }
        pinned.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command = pinned;
        Ok(Self {
            child: command.spawn().context("taskset, of util-linux, pins the proxies")?,
            log: log.to_owned(),
        })
    }

    /// Fails if it has ended.
    pub(crate) fn alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(5).collect();
            bail!(
                "it ended with {status}: {}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }

    /// Processor time of the process and its children that are running, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for pid in self.family() {
            // A worker may end between being listed and being read.
            ticks += ticks_of(pid).unwrap_or(0);
        }
        Ok(TICK * u32::try_from(ticks)?)
    }

    /// Memory that is its own, in bytes: private pages of the process and its children.
    pub(crate) fn memory(&self) -> u64 {
        self.family().into_iter().filter_map(|pid| private(pid).ok()).sum()
    }

    /// It and its children; HAProxy and nginx work in children.
    fn family(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The parent first: it would replace its children, and whom nobody ends listens on, where the next proxy is to listen.
        let children = self.family().split_off(1);
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in children {
            // One that is gone already is no loss.
            let _ = Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
            gone(pid);
        }
    }
}

/// Waits until a process that was killed has ended.
fn gone(pid: u32) {
    let ended = || !Path::new(&format!("/proc/{pid}/fd/0")).exists();
    let looks = (0..1_000).take_while(|_| !ended());
    looks.for_each(|_| std::thread::sleep(Duration::from_millis(1)));
}

/// Pins this process, with all threads it will start.
pub(crate) fn pin_load() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let mut command = Command::new("taskset");
    let command = command
        .args(["-a", "-p", "-c", &LOAD_CORE.to_string(), &pid])
        .stdout(Stdio::null());
    let status = command.status().context("taskset, of util-linux, pins the load")?;
    anyhow::ensure!(
        status.success(),
        "the load cannot be pinned to core {LOAD_CORE}: two cores are needed"
    );
    Ok(())
}

fn ticks_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold blanks; fields 14 and 15 are user and system time (proc(5)).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
}

fn private(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kib.sum::<u64>() * 1024)
}
