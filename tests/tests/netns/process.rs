//! Other processes: what they say arrives line by line, whoever waits is woken by it, and none outlives its owner.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a line that is due after a reply may take. It comes at once, or the claim does not hold.
const LINE_DEADLINE: Duration = Duration::from_secs(5);

/// A running process; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    /// What it writes to standard output: for a proxy its access log.
    pub(crate) out: Lines,
    /// What it writes to standard error.
    pub(crate) err: Lines,
}

/// Lines as they are written, and how many of them have been taken.
pub(crate) struct Lines {
    written: Arc<Written>,
    taken: usize,
}

#[derive(Default)]
struct Written {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts a process.
    #[track_caller]
    pub(crate) fn start(name: &'static str, mut command: Command) -> Self {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name,
            stdin: child.stdin.take().unwrap(),
            out: Lines::of(child.stdout.take().unwrap()),
            err: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Waits until a line about `what` is written to standard error, and takes everything up to it.
    #[track_caller]
    pub(crate) fn await_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        if !self.err.find(wanted) {
            panic!("{}: no line about {what} in time\n{}", self.name, self.said());
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Has it end in order and returns the lines of standard output that nobody has taken.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.child.id().to_string()]);
        run(&kill).unwrap();
        assert!(
            self.out.ends(),
            "{} does not stop when told to\n{}",
            self.name,
            self.said()
        );
        self.out.take()
    }

    /// Everything it has written to standard error.
    pub(crate) fn said(&self) -> String {
        format!("== {}\n{}\n", self.name, self.err.written.state().lines.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let written = Arc::<Written>::default();
        let writer = Arc::clone(&written);
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                writer.state().lines.push(line);
                writer.changed.notify_all();
            }
            writer.state().ended = true;
            writer.changed.notify_all();
        });
        Self { written, taken: 0 }
    }

    /// The lines that nobody has taken yet.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let lines = self.written.state().lines[self.taken..].to_vec();
        self.taken += lines.len();
        lines
    }

    /// Takes the lines there are when there are `count`, or when the time is up.
    pub(crate) fn take_when(&mut self, count: usize) -> Vec<String> {
        let until = self.taken + count;
        drop(self.written.wait(LINE_DEADLINE, |state| state.lines.len() >= until));
        self.take()
    }

    /// Waits for a line and takes everything up to it.
    fn find(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let taken = self.taken;
        let position = |state: &State| state.lines[taken..].iter().position(|line| wanted(line));
        let state = self
            .written
            .wait(DEADLINE, |state| state.ended || position(state).is_some());
        let found = position(&state);
        self.taken += found.map_or(0, |at| at + 1);
        found.is_some()
    }

    /// Waits until nothing more can come.
    fn ends(&self) -> bool {
        self.written.wait(DEADLINE, |state| state.ended).ended
    }
}

impl Written {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds, or the time is up.
    fn wait(&self, deadline: Duration, holds: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), deadline, |state| !holds(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Runs a command to its end; what it says on failure is the error.
pub(crate) fn run(command: &Command) -> Result<String, String> {
    let output = bounded(command)
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {} {}", output.status, said.trim()))
}

/// The same command, killed when it takes too long.
pub(crate) fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded
        .arg(DEADLINE.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    bounded.stdin(Stdio::null());
    bounded
}

/// Says something to whoever runs the tests, also where the output of tests is captured.
pub(crate) fn shout(text: &str) {
    // Nobody is there to hear it, then.
    let _ = writeln!(io::stderr(), "{text}");
}
