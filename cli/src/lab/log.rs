//! Catches the lines that a proxy logs, so that one can wait for them.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

mod line;
mod pipe;

pub use line::{Field, Line};
pub use pipe::LogPipe;

/// Lines kept; a proxy that logs more is broken, or the lab is used for what it is not made for.
const MAX_LINES: usize = 100_000;
/// The longest line, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Everything one proxy has logged so far. Clones are the same log; writing to one appends.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Lines {
    complete: Vec<String>,
    /// The beginning of the next line.
    partial: Vec<u8>,
}

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            lines: Mutex::default(),
            count: watch::Sender::new(0),
        }))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines().complete.len()
    }

    /// Whether nothing has been logged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines from the `from`-th on.
    pub fn since(&self, from: usize) -> Vec<String> {
        self.lines().complete.iter().skip(from).cloned().collect()
    }

    /// Waits until there are more than `count` lines, for ever if need be.
    pub async fn outgrows(&self, count: usize) {
        let mut lines = self.0.count.subscribe();
        // We hold the sender, so this ends with a line only.
        let _ = lines.wait_for(|lines| *lines > count).await;
    }

    /// Waits until there are at least `count` lines; `false` if that does not happen in time.
    pub async fn reaches(&self, count: usize, deadline: Duration) -> bool {
        let mut lines = self.0.count.subscribe();
        let reached = lines.wait_for(|lines| *lines >= count);
        timeout(deadline, reached).await.is_ok()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = {
            let mut lines = self.lines();
            lines.append(bytes)?;
            lines.complete.len()
        };
        self.0.count.send_replace(count);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
                self.complete.push(line);
                self.partial.clear();
            }
            if self.complete.len() > MAX_LINES || self.partial.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the lab's log is full"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_however_they_are_written() {
        let mut log = Log::new();
        for part in ["a", "b\nc", "\n", "d\ne\nf"] {
            log.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(log.since(0), ["ab", "c", "d", "e"]);
        assert_eq!(log.since(3), ["e"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_line_or_the_deadline() {
        let log = Log::new();
        let mut writer = log.clone();
        let (reached, written) = tokio::join!(log.reaches(1, Duration::from_secs(1)), async {
            writer.write_all(b"a\n")
        });
        written.unwrap();
        assert!(reached);
        assert!(!log.reaches(2, Duration::from_secs(1)).await);
    }
}
