//! Files that listeners, clusters and bootstraps name: read, watched, and read again when they were moved into place.
//!
//! Invariants: a file is watched before it is read, so that no change is missed; it is read only when it is new or was
//! moved, never while it may be being written; what cannot be taken is reported once and the last good version stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::{bundle::Bundle, source::FileSource, xds::json::MAX_TEXT};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{ModifyKind, RenameMode},
};
use tokio::sync::Notify;

use super::{Origin, subscription::Subscription};

/// Files that are followed at a time.
const MAX_FILES: usize = 4096;
/// Moves that wait to be looked at; beyond it everything is read again.
const MAX_MOVES: usize = 1024;
/// Moves in quick succession are read as one: clusters and the listeners that use them are often replaced together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// The files that are followed, and what they say.
pub(crate) struct Files {
    watcher: RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
    held: BTreeMap<Subscription, Held>,
}

/// What was moved and not looked at yet.
#[derive(Default)]
pub(crate) struct Moves {
    pending: Mutex<Pending>,
    arrived: Notify,
}

#[derive(Default)]
struct Pending {
    paths: BTreeSet<PathBuf>,
    /// Some moves were not told.
    all: bool,
}

/// What a file said when it last made sense.
#[derive(Default)]
struct Held {
    bundle: Bundle,
    problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// It is not there, or its changes would not be noticed.
    Missing(String),
    /// It says something that cannot be taken.
    Content(String),
}

impl Files {
    /// Follows nothing yet; tells `moves` of what happens.
    ///
    /// # Errors
    /// The system gives no notices of changed files.
    pub(crate) fn new(moves: Arc<Moves>) -> io::Result<Self> {
        let watcher = notify::recommended_watcher(move |event| moves.note(event));
        Ok(Self {
            watcher: watcher.map_err(|error| io::Error::other(format!("files cannot be watched: {error}")))?,
            directories: BTreeSet::new(),
            held: BTreeMap::new(),
        })
    }

    /// What a file says.
    pub(super) fn get(&self, subscription: &Subscription) -> Option<&Bundle> {
        self.held.get(subscription).map(|held| &held.bundle)
    }

    /// What the files say that something points at by name.
    pub(super) fn pointed_at(&self) -> impl Iterator<Item = (Origin<'_>, &Bundle)> {
        let held = self
            .held
            .iter()
            .filter(|(subscription, _)| subscription.is_pointed_at());
        held.map(|(subscription, held)| (Origin::File(subscription.file()), &held.bundle))
    }

    /// Reads those that were not read yet, or could not be watched.
    pub(super) async fn ensure(&mut self, wanted: BTreeSet<Subscription>) {
        for subscription in wanted {
            let mut held = match self.held.remove(&subscription) {
                // A file whose directory was not there is looked for again.
                Some(held) if !self.directories.contains(subscription.directory()) => held,
                Some(held) => {
                    self.held.insert(subscription, held);
                    continue;
                }
                None => Held::default(),
            };
            if self.held.len() >= MAX_FILES {
                held.tell(
                    &subscription,
                    Some(Problem::Missing(format!("more than {MAX_FILES} files are named"))),
                );
            } else {
                self.read(&subscription, &mut held).await;
            }
            self.held.insert(subscription, held);
        }
    }

    /// Reads again those that `moved` may concern; `None`: all of them. Whether anything that can be taken changed.
    pub(super) async fn reread(&mut self, moved: Option<&BTreeSet<PathBuf>>) -> bool {
        let concerned = |subscription: &Subscription| {
            moved.is_none_or(|moved| moved.iter().any(|path| subscription.is_changed_by(path)))
        };
        let mut changed = false;
        let subscriptions: Vec<_> = self.held.keys().filter(|held| concerned(held)).cloned().collect();
        for subscription in subscriptions {
            if let Some(mut held) = self.held.remove(&subscription) {
                changed |= self.read(&subscription, &mut held).await;
                self.held.insert(subscription, held);
            }
        }
        changed
    }

    /// Forgets the others.
    pub(super) fn retain(&mut self, keep: impl Fn(&Subscription) -> bool) {
        self.held.retain(|subscription, _| keep(subscription));
        let needed: BTreeSet<_> = self.held.keys().map(|held| held.directory().to_owned()).collect();
        for gone in self.directories.difference(&needed) {
            // That it is not watched any more, for whatever reason, is what is wanted.
            let _ = self.watcher.unwatch(gone);
        }
        self.directories.retain(|directory| needed.contains(directory));
    }

    /// What is wrong with files that are not there or cannot be watched.
    pub(super) fn missing(&self) -> Vec<String> {
        let wrong = self
            .wrong()
            .filter(|(_, problem)| matches!(problem, Problem::Missing(_)));
        wrong.map(|(file, problem)| format!("{file}: {problem}")).collect()
    }

    /// What is wrong with any file.
    pub(super) fn problems(&self) -> Vec<String> {
        self.wrong()
            .map(|(file, problem)| format!("{file}: {problem}"))
            .collect()
    }

    fn wrong(&self) -> impl Iterator<Item = (&FileSource, &Problem)> {
        let held = self.held.iter();
        held.filter_map(|(subscription, held)| Some((subscription.file(), held.problem.as_ref()?)))
    }

    /// Whether something that can be taken changed.
    async fn read(&mut self, subscription: &Subscription, held: &mut Held) -> bool {
        let text = match self.watch(subscription.directory()) {
            Ok(()) => load(subscription.file()).await,
            Err(reason) => Err(reason),
        };
        let (bundle, problem) = match text {
            Ok(text) => {
                let (bundle, problems) = subscription.judge(&text, &held.bundle);
                let problem = (!problems.is_empty()).then(|| Problem::Content(problems.join("; ")));
                (bundle, problem)
            }
            Err(reason) => (held.bundle.clone(), Some(Problem::Missing(reason))),
        };
        let changed = bundle != held.bundle;
        held.bundle = bundle;
        if changed {
            tracing::info!(file = %subscription.file(), "read configuration from its file");
        }
        held.tell(subscription, problem);
        changed
    }

    fn watch(&mut self, directory: &Path) -> Result<(), String> {
        if self.directories.contains(directory) {
            return Ok(());
        }
        let watched = self.watcher.watch(directory, RecursiveMode::NonRecursive);
        watched.map_err(|error| format!("changes in {} would not be noticed: {error}", directory.display()))?;
        self.directories.insert(directory.to_owned());
        Ok(())
    }
}

impl Held {
    fn tell(&mut self, subscription: &Subscription, problem: Option<Problem>) {
        let news = problem.as_ref().filter(|_| self.problem != problem);
        if let Some(reason) = news {
            tracing::error!(
                file = %subscription.file(),
                %reason,
                "configuration in a file cannot be used; its last good version stays in force"
            );
        }
        self.problem = problem;
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reason) | Self::Content(reason) => f.write_str(reason),
        }
    }
}

impl Moves {
    /// Waits until something was moved, and a little longer. Returns where to; `None`: anywhere.
    pub(crate) async fn next(&self) -> Option<BTreeSet<PathBuf>> {
        self.arrived.notified().await;
        tokio::time::sleep(DEBOUNCE).await;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { paths, all } = std::mem::take(&mut *pending);
        (!all).then_some(paths)
    }

    fn note(&self, event: notify::Result<Event>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if event.need_rescan() => pending.all = true,
            Ok(event) if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                pending.paths.extend(event.paths);
                pending.all |= pending.paths.len() > MAX_MOVES;
            }
            Ok(_) => return,
            Err(_) => pending.all = true,
        }
        if pending.all {
            pending.paths.clear();
        }
        drop(pending);
        self.arrived.notify_one();
    }
}

/// Reads a file; it may lie on a network, so that nobody must wait for it on a worker.
async fn load(file: &FileSource) -> Result<String, String> {
    let path = file.path.clone();
    let text = tokio::task::spawn_blocking(move || read_text(&path)).await;
    text.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

fn read_text(path: &Path) -> io::Result<String> {
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}
