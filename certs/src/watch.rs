//! Follows credentials in files: what changes on disk becomes current, what is broken never does.
//!
//! Directories are watched rather than files, since Kubernetes replaces a symbolic link beside them; a poll makes up for
//! notices that a file system does not give. Invariant: a cell always holds the last good value. A broken or
//! half-written update is reported once, with the files and what would repair it, and tried again until it is whole.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use crate::{
    Identity, Live, Roots, Svid, Trust, Workload,
    files::{CERT_CHAIN, FileError, KEY, Text, load_bundle, load_renewed, load_valid, load_workload},
};

/// Changes that come in quick succession are read as one. As Istio's agent has it.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often files are read without a notice.
const POLL: Duration = Duration::from_secs(30);
/// How soon files that could not be used are read again.
const RETRY: Duration = Duration::from_secs(1);

/// Reads credentials from files and keeps them current as long as somebody holds their cell and [`Self::run`] is polled.
pub struct FileWatcher {
    notices: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    /// `None` if this system gives no notices; then only the poll is left.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    sources: Vec<Arc<dyn Source>>,
}

/// Something that is read from files again and again.
trait Source: Send + Sync {
    fn reload(&self, now: SystemTime) -> Outcome;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The cell holds what the files say.
    Current,
    /// The files cannot be used now.
    Failing,
    /// Nobody holds the cell any more.
    Abandoned,
}

struct Cell<T, F> {
    cell: Weak<Live<T>>,
    read: F,
    /// What was last reported, so that it is reported once.
    reported: Mutex<Option<String>>,
}

impl FileWatcher {
    /// Starts without any files.
    pub fn new() -> Self {
        let notices = Arc::new(Notify::new());
        let watcher = start(notices.clone());
        Self {
            notices,
            state: Mutex::new(State {
                watcher,
                directories: BTreeSet::new(),
                sources: Vec::new(),
            }),
        }
    }

    /// A workload's directory with Istio's file names. Identity and roots change independently of each other; a new
    /// identity must be the same workload's and lead to the roots that are then current.
    pub fn workload(&self, directory: &Path) -> Result<Workload, FileError> {
        let (identity, svid, trust) = load_workload(directory, SystemTime::now())?;
        let workload = Workload::new(identity, trust, SystemTime::now()).map_err(|cause| FileError::Svid {
            path: directory.join(CERT_CHAIN),
            cause,
        })?;
        let (path, own) = (directory.to_owned(), svid.clone());
        self.follow(&workload.trust, [directory], move |_| load_bundle(&path, &own));
        let (path, trust) = (directory.to_owned(), Arc::downgrade(&workload.trust));
        self.follow(&workload.identity, [directory], move |now| {
            renew(&path, &svid, &trust, now)
        });
        Ok(workload)
    }

    /// Any chain and key.
    pub fn identity(&self, chain: &Path, key: &Path) -> Result<Arc<Live<Identity>>, FileError> {
        let cell = Arc::new(Live::new(load_valid(chain, key, SystemTime::now())?));
        let paths = (chain.to_owned(), key.to_owned());
        self.follow(&cell, [parent(chain), parent(key)], move |now| {
            load_valid(&paths.0, &paths.1, now)
        });
        Ok(cell)
    }

    /// A file of roots.
    pub fn roots(&self, path: &Path) -> Result<Arc<Live<Trust>>, FileError> {
        let cell = Arc::new(Live::new(Trust::Roots(Roots::load(path)?)));
        let file = path.to_owned();
        self.follow(&cell, [parent(path)], move |_| Roots::load(&file).map(Trust::Roots));
        Ok(cell)
    }

    /// Any text of less than 4 MiB. It is read again when something changes beside it, or in `directory` if that is given.
    pub fn text(&self, path: &Path, directory: Option<&Path>) -> Result<Arc<Live<Text>>, FileError> {
        let cell = Arc::new(Live::new(Text::load(path)?));
        let file = path.to_owned();
        self.follow(&cell, [directory.unwrap_or(parent(path))], move |_| Text::load(&file));
        Ok(cell)
    }

    /// Reads what changes, for ever. To be run once, by whoever owns the tasks of this process.
    pub async fn run(&self) {
        let mut pause = POLL;
        loop {
            if tokio::time::timeout(pause, self.notices.notified()).await.is_ok() {
                tokio::time::sleep(DEBOUNCE).await;
            }
            pause = if self.reload().await { POLL } else { RETRY };
        }
    }

    /// Reads everything once. Whether all of it could be used.
    async fn reload(&self) -> bool {
        let sources = self.state().sources.clone();
        let read = move || {
            sources
                .into_iter()
                .map(|source| (source.reload(SystemTime::now()), source))
                .collect::<Vec<_>>()
        };
        // Files may lie on a network: reading them must not hold up a worker.
        let Ok(outcomes) = tokio::task::spawn_blocking(read).await else {
            return false;
        };
        for (_, gone) in outcomes.iter().filter(|(outcome, _)| *outcome == Outcome::Abandoned) {
            self.state().sources.retain(|source| !Arc::ptr_eq(source, gone));
        }
        outcomes.iter().all(|(outcome, _)| *outcome != Outcome::Failing)
    }

    fn follow<T, F, const N: usize>(&self, cell: &Arc<Live<T>>, directories: [&Path; N], read: F)
    where
        T: PartialEq + Send + Sync + 'static,
        F: Fn(SystemTime) -> Result<T, FileError> + Send + Sync + 'static,
    {
        let mut state = self.state();
        directories.into_iter().for_each(|directory| state.watch(directory));
        state.sources.push(Arc::new(Cell {
            cell: Arc::downgrade(cell),
            read,
            reported: Mutex::new(None),
        }));
        drop(state);
        // Whatever changed between the first read and the start of watching.
        self.notices.notify_one();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn watch(&mut self, directory: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        if self.directories.contains(directory) {
            return;
        }
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.directories.insert(directory.to_owned())),
            Err(error) => tracing::warn!(
                directory = %directory.display(),
                %error,
                "changes in this directory are noticed late, by reading it every 30 seconds"
            ),
        }
    }
}

impl<T, F> Source for Cell<T, F>
where
    T: PartialEq + Send + Sync,
    F: Fn(SystemTime) -> Result<T, FileError> + Send + Sync,
{
    fn reload(&self, now: SystemTime) -> Outcome {
        let Some(cell) = self.cell.upgrade() else {
            return Outcome::Abandoned;
        };
        let read = (self.read)(now);
        let failure = read.as_ref().err().map(ToString::to_string);
        if let Ok(value) = read
            && *cell.load() != value
        {
            cell.replace(value);
            tracing::info!("credentials were replaced from their files");
        }
        let outcome = if failure.is_none() {
            Outcome::Current
        } else {
            Outcome::Failing
        };
        self.report(failure);
        outcome
    }
}

impl<T, F> Cell<T, F> {
    fn report(&self, failure: Option<String>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = failure.as_ref().filter(|_| *reported != failure) {
            tracing::warn!(%reason, "credentials in files cannot be used, the last good ones stay in force");
        }
        *reported = failure;
    }
}

impl Default for FileWatcher {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FileWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatcher")
            .field("directories", &self.state().directories)
            .finish_non_exhaustive()
    }
}

fn renew(directory: &Path, current: &Svid, trust: &Weak<Live<Trust>>, now: SystemTime) -> Result<Identity, FileError> {
    match trust.upgrade() {
        Some(trust) => load_renewed(directory, current, &trust.load(), now),
        // Whoever keeps the identity without the roots does not ask whether they fit.
        None => load_valid(&directory.join(CERT_CHAIN), &directory.join(KEY), now),
    }
}

fn start(notices: Arc<Notify>) -> Option<RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| is_change(&event.kind)) {
            notices.notify_one();
        }
    });
    let warn = |error: &notify::Error| tracing::warn!(%error, "no notices of changed files, credentials are read every 30 seconds");
    watcher.inspect_err(warn).ok()
}

/// Reading a file is an event too; our own must not wake us.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn reading_a_file_is_not_a_change() {
        let access = |kind| EventKind::Access(kind);
        for kind in [
            AccessKind::Read,
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(!is_change(&access(kind)), "{kind:?}");
        }
        for kind in [
            access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::Any),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::Any),
        ] {
            assert!(is_change(&kind), "{kind:?}");
        }
    }

    #[test]
    fn what_nobody_holds_is_no_longer_read() {
        let held = Arc::new(Live::new(1));
        let cell = Cell {
            cell: Arc::downgrade(&held),
            read: |_| Ok(2),
            reported: Mutex::new(None),
        };
        assert_eq!((cell.reload(SystemTime::now()), *held.load()), (Outcome::Current, 2));
        drop(held);
        assert_eq!(cell.reload(SystemTime::now()), Outcome::Abandoned);
    }

    #[test]
    fn a_failure_leaves_the_value_and_is_remembered() {
        let held = Arc::new(Live::new(1));
        let read = |_| Err(FileError::TooLarge("x".into()));
        let cell = Cell {
            cell: Arc::downgrade(&held),
            read,
            reported: Mutex::new(None),
        };
        for _ in 0..2 {
            assert_eq!((cell.reload(SystemTime::now()), *held.load()), (Outcome::Failing, 1));
            assert!(cell.reported.lock().unwrap().as_ref().unwrap().starts_with("x: "));
        }
    }
}
