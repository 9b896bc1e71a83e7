//! Where lines go: files, written by one thread each in large writes.
//!
//! Each worker appends to a lane of its own; the writer swaps full lanes for empty ones. A lane's lock is contended only at
//! that swap. Lanes are bounded: if the file stalls, workers wait or drop and count, as [`Overflow`] says.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// What happens to a line when the file is slower than the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The worker waits: an audit trail has no holes.
    #[default]
    Block,
    /// The line is dropped and counted.
    Drop,
}

/// Bytes a lane holds before it overflows.
const LANE_LIMIT: usize = 1 << 20;
/// How long the writer gathers lines before it writes them. Istio's agent has Envoy wait 1 s.
const GATHER: Duration = Duration::from_millis(50);

/// The name of the process's standard output, as access logs are configured with it.
const STDOUT: &str = "/dev/stdout";

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Says that this thread is worker number `index`, from 0. Threads that never say so share the control runtime's lane.
pub(crate) fn enter_worker(index: usize) {
    LANE.set(index + 1);
}

/// Open log files by path, so that several logs of one path share a writer.
#[derive(Debug)]
pub(crate) struct Sinks {
    lanes: usize,
    overflow: Overflow,
    /// A file that stands for [`STDOUT`].
    stdout: Option<PathBuf>,
    open: Mutex<BTreeMap<PathBuf, Weak<Sink>>>,
}

impl Sinks {
    /// For so many workers.
    pub(crate) fn new(workers: usize, overflow: Overflow) -> Self {
        Self {
            lanes: workers + 1,
            overflow,
            stdout: None,
            open: Mutex::default(),
        }
    }

    /// What is logged to standard output goes to this file instead.
    pub(crate) fn with_stdout(self, stdout: Option<PathBuf>) -> Self {
        Self { stdout, ..self }
    }

    /// Opens a file for appending, or joins whoever has it open.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Arc<Sink>> {
        let path = match &self.stdout {
            Some(file) if path == Path::new(STDOUT) => file,
            _ => path,
        };
        let mut open = lock(&self.open);
        if let Some(sink) = open.get(path).and_then(Weak::upgrade) {
            return Ok(sink);
        }
        let sink = Arc::new(Sink::start(path, self.lanes, self.overflow)?);
        open.retain(|_, sink| sink.strong_count() > 0);
        open.insert(path.to_owned(), Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Returns when every line that was handed to any open file is in it.
    pub(crate) fn flush(&self) {
        let open: Vec<_> = lock(&self.open).values().filter_map(Weak::upgrade).collect();
        for sink in open {
            sink.flush();
        }
    }
}

/// One open log file. Dropping it writes what is left.
#[derive(Debug)]
pub(crate) struct Sink {
    shared: Arc<Shared>,
    /// Wakes the writer; closed when the sink is dropped.
    wake: Option<mpsc::SyncSender<Ask>>,
    writer: Option<thread::JoinHandle<()>>,
}

/// What the writer is asked to do.
#[derive(Debug)]
enum Ask {
    /// Gather and write.
    Look,
    /// Write at once, and say when it is done.
    Flush(mpsc::Sender<()>),
}

#[derive(Debug)]
struct Shared {
    lanes: Box<[Lane]>,
    overflow: Overflow,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    lines: Mutex<Vec<u8>>,
    taken: Condvar,
}

impl Sink {
    fn start(path: &Path, lanes: usize, overflow: Overflow) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match path.to_str() {
            Some(STDOUT) => Box::new(io::stdout()),
            Some("/dev/stderr") => Box::new(io::stderr()),
            _ => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
        };
        let shared = Arc::new(Shared {
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            overflow,
            dropped: AtomicU64::new(0),
        });
        let (wake, woken) = mpsc::sync_channel(1);
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn({
            let (shared, path) = (shared.clone(), path.to_owned());
            move || write_lines(&shared, &woken, out, &path)
        })?;
        Ok(Self {
            shared,
            wake: Some(wake),
            writer: Some(writer),
        })
    }

    /// Appends what `render` writes to this thread's lane.
    pub(crate) fn write(&self, render: impl FnOnce(&mut Vec<u8>)) {
        let lane = &self.shared.lanes[LANE.get().min(self.shared.lanes.len() - 1)];
        let mut lines = lock(&lane.lines);
        if lines.len() >= LANE_LIMIT {
            if self.shared.overflow == Overflow::Drop {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.wake();
            lines = lane
                .taken
                .wait_while(lines, |lines| lines.len() >= LANE_LIMIT)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = lines.is_empty();
        render(&mut lines);
        drop(lines);
        if was_empty {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // A full channel means that the writer is about to look anyway.
            let _ = wake.try_send(Ask::Look);
        }
    }

    fn flush(&self) {
        let (done, written) = mpsc::channel();
        let asked = self
            .wake
            .as_ref()
            .is_some_and(|wake| wake.send(Ask::Flush(done)).is_ok());
        if asked {
            // A writer that panicked drops the other end; it has nothing left to write.
            let _ = written.recv();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to lose.
            let _ = writer.join();
        }
    }
}

fn write_lines(shared: &Shared, woken: &mpsc::Receiver<Ask>, mut out: impl Write, path: &Path) {
    let mut spare = Vec::new();
    let mut reported = 0;
    loop {
        let asked = woken.recv();
        let closed = asked.is_err();
        let flush = match asked {
            Ok(Ask::Look) => gather(shared, woken),
            Ok(Ask::Flush(done)) => Some(done),
            Err(mpsc::RecvError) => None,
        };
        for lane in &shared.lanes {
            std::mem::swap(&mut *lock(&lane.lines), &mut spare);
            lane.taken.notify_all();
            if let Err(error) = out.write_all(&spare).and_then(|()| out.flush()) {
                tracing::error!(path = %path.display(), %error, bytes = spare.len(), "access log lines lost: cannot write");
            }
            spare.clear();
        }
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if dropped > reported {
            tracing::error!(path = %path.display(), lines = dropped - reported, "access log lines dropped: the file is too slow");
            reported = dropped;
        }
        if let Some(done) = flush {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
        if closed {
            return;
        }
    }
}

/// Waits for more lines for a while, unless a lane is full or somebody waits for the file, who is returned then. The sink's end
/// is not worth waiting for, so it is not mistaken for a wake-up.
fn gather(shared: &Shared, woken: &mpsc::Receiver<Ask>) -> Option<mpsc::Sender<()>> {
    loop {
        match woken.recv_timeout(GATHER) {
            Ok(Ask::Flush(done)) => return Some(done),
            Ok(Ask::Look) if shared.lanes.iter().all(|lane| lock(&lane.lines).len() < LANE_LIMIT) => {}
            Ok(Ask::Look) | Err(_) => return None,
        }
    }
}

/// A poisoned lane holds whole lines and at most one torn one, which is better written than lost.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_every_worker_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let sinks = Arc::new(Sinks::new(4, Overflow::Block));
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let sink = sinks.open(&path).unwrap();
                thread::spawn(move || {
                    enter_worker(worker);
                    for line in 0..20_000 {
                        sink.write(|out| writeln!(out, "{worker} {line} {}", "x".repeat(100)).unwrap());
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for worker in 0..4 {
            let prefix = format!("{worker} ");
            let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
            assert_eq!(lines.len(), 20_000);
            assert!(
                lines
                    .iter()
                    .enumerate()
                    .all(|(n, line)| line.starts_with(&format!("{n} "))),
                "in order"
            );
        }
    }

    #[test]
    fn a_file_may_stand_for_standard_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let sinks = Sinks::new(1, Overflow::Block).with_stdout(Some(path.clone()));
        let sink = sinks.open(Path::new(STDOUT)).unwrap();
        assert!(Arc::ptr_eq(&sink, &sinks.open(&path).unwrap()));
        sink.write(|out| out.extend_from_slice(b"line\n"));
        drop(sink);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
    }

    #[test]
    fn a_flushed_file_has_every_line_while_others_still_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let sinks = Sinks::new(1, Overflow::Block);
        let held = sinks.open(&path).unwrap();
        for round in 1..=20 {
            held.write(|out| out.extend_from_slice(b"line\n"));
            sinks.flush();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n".repeat(round));
        }
    }

    #[test]
    fn logs_of_one_path_share_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let sinks = Sinks::new(1, Overflow::Block);
        let (one, other) = (
            sinks.open(&dir.path().join("a")).unwrap(),
            sinks.open(&dir.path().join("a")).unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &other));
        assert!(sinks.open(&dir.path().join("missing/b")).is_err());
    }
}
