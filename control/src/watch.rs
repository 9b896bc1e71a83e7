//! Follows a directory: a change of its files is in force a moment after the last of them is written.
//!
//! Changes are noticed by the operating system's notification and, because those get lost (a watch ends with the directory it
//! is on, queues overflow, some file systems have none), by comparing names, sizes and times once in a while: often where
//! notification failed, rarely where it works.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    applied::Applied,
    diag::{Diagnostic, Severity},
    istio::{self, Reader},
};

/// A directory (or file) of resources, and what of it is in force.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    root_namespace: String,
    reader: Arc<Mutex<Reader>>,
    state: watch::Sender<Arc<Applied>>,
}

/// Silence that ends a burst of changes.
const QUIET: Duration = Duration::from_millis(5);
/// Longest burst that is waited out.
const MAX_BURST: Duration = Duration::from_millis(500);
/// Time between comparisons while notification works.
const RARELY: Duration = Duration::from_secs(30);
/// Time between comparisons while it does not.
const OFTEN: Duration = Duration::from_secs(1);

impl Directory {
    /// Reads the directory once. `root_namespace` is where policies for the whole mesh are. Cannot fail: a directory that
    /// cannot be read is a diagnostic, and may become readable.
    pub fn open(path: &Path, root_namespace: &str) -> Self {
        let mut reader = Reader::default();
        let applied = Applied::default().advance(reader.load(path), root_namespace);
        log_new(&applied, &Applied::default());
        let (state, _) = watch::channel(Arc::new(applied));
        Self {
            path: path.to_owned(),
            root_namespace: root_namespace.to_owned(),
            reader: Arc::new(Mutex::new(reader)),
            state,
        }
    }

    /// What is in force, now and after each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Applied>> {
        self.state.subscribe()
    }

    /// Applies changes for as long as it is polled.
    pub async fn follow(self) {
        let signal = Arc::new(Signal::default());
        let mut watcher = signal.watch(&self.path);
        loop {
            let stamp = istio::stamp(&self.path);
            self.reload().await;
            if watcher.is_none() || signal.is_broken() {
                watcher = signal.watch(&self.path);
            }
            let patience = if watcher.is_some() { RARELY } else { OFTEN };
            while timeout(patience, signal.settled()).await.is_err() && istio::stamp(&self.path) == stamp {}
        }
    }

    async fn reload(&self) {
        let (path, root) = (self.path.clone(), self.root_namespace.clone());
        let (before, reader) = (Arc::clone(&self.state.borrow()), Arc::clone(&self.reader));
        let advance = move || {
            let loaded = reader.lock().unwrap_or_else(PoisonError::into_inner).load(&path);
            let after = before.advance(loaded, &root);
            before.differs(&after).then_some((before, after))
        };
        match tokio::task::spawn_blocking(advance).await {
            Ok(Some((before, after))) => {
                log_new(&after, &before);
                self.state.send_replace(Arc::new(after));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "reading the configuration failed; it stays as it was"),
        }
    }
}

/// Tells that something changed, from the thread of the notifier to the task that follows.
#[derive(Debug, Default)]
struct Signal {
    changed: Notify,
    broken: AtomicBool,
}

impl Signal {
    /// Starts notification. `None` if the system refuses it.
    fn watch(self: &Arc<Self>, path: &Path) -> Option<RecommendedWatcher> {
        self.broken.store(false, Ordering::Relaxed);
        let (signal, root) = (Arc::clone(self), path.to_owned());
        let started =
            notify::recommended_watcher(move |event| signal.receive(&event, &root)).and_then(|mut watcher| {
                watcher.watch(path, RecursiveMode::Recursive)?;
                Ok(watcher)
            });
        started
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot watch the configuration, comparing it every second"))
            .ok()
    }

    fn receive(&self, event: &notify::Result<notify::Event>, root: &Path) {
        match event {
            Ok(event) if event.kind.is_access() => return,
            Ok(event) if !event.need_rescan() && !ends_watch(event, root) => {}
            Ok(_) | Err(_) => self.broken.store(true, Ordering::Relaxed),
        }
        self.changed.notify_one();
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Waits for a change, and for those that come with it.
    async fn settled(&self) {
        self.changed.notified().await;
        let last = Instant::now() + MAX_BURST;
        loop {
            let quiet = (Instant::now() + QUIET).min(last);
            if timeout_at(quiet, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// Whether what was watched is no longer what has its name.
fn ends_watch(event: &notify::Event, root: &Path) -> bool {
    let moved = event.kind.is_remove() || matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
    moved && event.paths.iter().any(|path| path == root)
}

/// Logs what was not said before.
fn log_new(now: &Applied, before: &Applied) {
    for finding in now
        .diagnostics
        .iter()
        .filter(|finding| !before.diagnostics.contains(finding))
    {
        log(finding);
    }
}

fn log(finding: &Diagnostic) {
    let code = finding.code.as_str();
    match finding.severity {
        Severity::Error => tracing::error!(code, %finding, "configuration is not applied"),
        Severity::Warning => tracing::warn!(code, %finding, "configuration is questionable"),
        Severity::Info => tracing::info!(code, %finding, "configuration note"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::istio::kubernetes::Namespace;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
    }

    fn names(applied: &Applied) -> Vec<String> {
        applied
            .objects
            .of::<Namespace>()
            .map(|(object, _)| object.name().to_owned())
            .collect()
    }

    /// Waits until these namespaces, and no others, are in force.
    async fn until(states: &mut watch::Receiver<Arc<Applied>>, expected: &[&str]) {
        let reached = states.wait_for(|applied| names(applied) == expected);
        timeout(DEADLINE, reached)
            .await
            .expect("in force before the deadline")
            .expect("the directory is followed");
    }

    #[tokio::test]
    async fn files_that_come_change_and_go_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.yaml"), namespace("a")).unwrap();
        let followed = Directory::open(directory.path(), "root");
        let mut states = followed.subscribe();
        let script = async {
            until(&mut states, &["a"]).await;
            fs::create_dir(path("deep")).unwrap();
            fs::write(path("deep/b.yaml"), namespace("b")).unwrap();
            until(&mut states, &["a", "b"]).await;
            fs::write(path("a.yaml"), namespace("c")).unwrap();
            until(&mut states, &["b", "c"]).await;
            fs::rename(path("deep"), path(".hidden")).unwrap();
            until(&mut states, &["c"]).await;
            fs::remove_file(path("a.yaml")).unwrap();
            until(&mut states, &[]).await;
        };
        tokio::select! {
            () = followed.follow() => unreachable!("following never ends"),
            () = script => {}
        }
    }

    #[tokio::test]
    async fn a_directory_may_be_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("config");
        let followed = Directory::open(&path, "root");
        let mut states = followed.subscribe();
        assert_eq!(states.borrow().diagnostics.len(), 1, "it is missing");
        let script = async {
            let replacement = parent.path().join("next");
            fs::create_dir(&replacement).unwrap();
            fs::write(replacement.join("a.yaml"), namespace("a")).unwrap();
            fs::rename(&replacement, &path).unwrap();
            until(&mut states, &["a"]).await;
            fs::rename(&path, &replacement).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("b.yaml"), namespace("b")).unwrap();
            until(&mut states, &["b"]).await;
            fs::write(path.join("c.yaml"), namespace("c")).unwrap();
            until(&mut states, &["b", "c"]).await;
        };
        tokio::select! {
            () = followed.follow() => unreachable!("following never ends"),
            () = script => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_one_change_and_has_an_end() {
        let signal = Signal::default();
        let noise = async {
            loop {
                signal.changed.notify_one();
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        let begin = Instant::now();
        tokio::select! {
            () = noise => unreachable!("noise never ends"),
            () = signal.settled() => {}
        }
        assert!(
            (MAX_BURST..MAX_BURST + QUIET).contains(&begin.elapsed()),
            "{:?}",
            begin.elapsed()
        );

        let quiet = Signal::default();
        quiet.changed.notify_one();
        let begin = Instant::now();
        quiet.settled().await;
        assert_eq!(begin.elapsed(), QUIET);
    }
}
