//! A directory of files to objects.
//!
//! Reads `*.yaml` and `*.yml` at any depth. Names that begin with a dot are passed over, as are symbolic links to directories:
//! a mounted ConfigMap keeps its versions in such directories and links each file to the current one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use super::{
    metadata::ObjectId,
    object::{Object, Objects},
    path::FieldPath,
    read::{self, FileContent},
};
use crate::diag::{Code, Diagnostic, Location, Severity};

/// What a directory has.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Objects that may be applied.
    pub objects: Objects,
    /// What is wrong or questionable, in order.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects of kinds that concern no proxy, such as Deployments.
    pub skipped: Vec<Skipped>,
    /// Objects that are there but may not be applied.
    pub(crate) rejected: BTreeMap<ObjectId, Location>,
    /// Files with something in them that could not be read; what they held before cannot be called deleted.
    pub(crate) unreadable: BTreeSet<Arc<str>>,
    /// Whether files may be missing from this picture.
    pub(crate) incomplete: bool,
}

/// An object of a kind that concerns no proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Skipped {
    /// The object.
    pub object: ObjectId,
    /// Where it is.
    pub location: Location,
}

/// Bytes of one file.
const MAX_FILE: u64 = 4 << 20;
/// Files of one directory, at all depths.
const MAX_FILES: usize = 10_000;
/// Depth of directories.
const MAX_DEPTH: usize = 16;
/// Age from which a file's times tell its versions apart.
const SETTLED: Duration = Duration::from_secs(2);
/// Files below which another thread is not worth its while.
const MIN_SHARE: usize = 64;

/// Reads a directory, or a single file. Never fails: what cannot be read is a diagnostic.
pub fn load(path: &Path) -> Loaded {
    Reader::default().load(path)
}

/// Reads a directory again and again, and of it only the files that have changed.
#[derive(Debug, Default)]
pub struct Reader {
    known: HashMap<PathBuf, Known>,
}

/// What a file said when it was read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// Whether a later change would have another stamp.
    settled: bool,
    content: Arc<Result<FileContent, String>>,
}

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Reader {
    /// Reads a directory, or a single file, as [`load`] does. What did not change since the last time is what it was then.
    pub fn load(&mut self, path: &Path) -> Loaded {
        let mut loaded = Loaded::default();
        let mut files = Vec::new();
        if path.is_file() {
            files.push(path.to_owned());
        } else if let Err((place, reason)) = collect(path, 0, &mut files) {
            loaded.incomplete = true;
            loaded.unreadable(&file_name(&place), reason);
        }
        files.sort();
        let mut former = std::mem::take(&mut self.known);
        let jobs: Vec<_> = files.into_iter().map(|file| (former.remove(&file), file)).collect();
        for (file, known) in read_all(jobs) {
            loaded.content(&file, &known.content);
            self.known.insert(file, known);
        }
        loaded.finish()
    }
}

/// Reads what changed, on all cores if there is much of it: a start reads everything.
fn read_all(mut jobs: Vec<(Option<Known>, PathBuf)>) -> Vec<(PathBuf, Known)> {
    let read = |jobs: Vec<(Option<Known>, PathBuf)>| -> Vec<_> {
        let each = jobs.into_iter();
        each.map(|(known, file)| (file.clone(), Known::now(known, &file)))
            .collect()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = jobs.len().div_ceil(cores).max(MIN_SHARE);
    let mut parts = Vec::new();
    while jobs.len() > share {
        parts.push(jobs.split_off(jobs.len() - share));
    }
    thread::scope(|scope| {
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || read(part))).collect();
        let mut all = read(jobs);
        for other in others.into_iter().rev() {
            all.extend(other.join().expect("reading files does not panic"));
        }
        all
    })
}

impl Known {
    fn now(former: Option<Self>, file: &Path) -> Self {
        let stamp = Stamp::of(file);
        match former {
            Some(same) if same.settled && same.stamp == stamp => same,
            Some(_) | None => Self {
                settled: stamp.is_settled(),
                stamp,
                content: Arc::new(read_file(file).map(|text| read::read(&file_name(file), &text))),
            },
        }
    }
}

impl Stamp {
    fn of(file: &Path) -> Self {
        let metadata = fs::metadata(file).ok();
        let metadata = metadata.as_ref();
        Self {
            file: metadata.map_or((0, 0), |is| (is.dev(), is.ino())),
            length: metadata.map_or(0, fs::Metadata::len),
            modified: metadata.and_then(|is| is.modified().ok()),
            changed: metadata.map_or((0, 0), |is| (is.ctime(), is.ctime_nsec())),
        }
    }

    /// Times are only as fine as the file system's: a file that was written a moment ago may be written again within the same.
    fn is_settled(&self) -> bool {
        let age = self.modified.and_then(|modified| modified.elapsed().ok());
        age.is_some_and(|age| age > SETTLED)
    }
}

/// What tells one state of a directory from another without reading its files: names, sizes, times of change.
pub(crate) fn stamp(path: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        // What could be found before a failure is still a stamp; reading will name the failure.
        let _ = collect(path, 0, &mut files);
    }
    files.sort();
    let stamped = files.into_iter().map(|file| match fs::metadata(&file) {
        Ok(metadata) => (file, metadata.len(), metadata.modified().ok()),
        Err(_) => (file, 0, None),
    });
    stamped.collect()
}

/// Finds the files below a directory.
fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), (PathBuf, String)> {
    let fail = |error: io::Error| (directory.to_owned(), format!("cannot be read: {error}"));
    if depth > MAX_DEPTH {
        return Err((
            directory.to_owned(),
            format!("is nested deeper than {MAX_DEPTH} directories"),
        ));
    }
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(fail)?.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if is_yaml(&path) && path.is_file() {
            if files.len() >= MAX_FILES {
                return Err((directory.to_owned(), format!("has more than {MAX_FILES} files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes = fs::metadata(path).and_then(|metadata| match metadata.len() {
        0..=MAX_FILE => fs::read(path).map(Some),
        _ => Ok(None),
    });
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    let bytes = bytes.ok_or_else(|| format!("is larger than {MAX_FILE} bytes"))?;
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 text: bad byte at {}", error.utf8_error().valid_up_to()))
}

fn file_name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

impl Loaded {
    fn content(&mut self, file: &Path, content: &Result<FileContent, String>) {
        match content {
            Ok(content) => self.add(file, content),
            Err(reason) => self.unreadable(&file_name(file), reason.clone()),
        }
    }

    fn add(&mut self, file: &Path, content: &FileContent) {
        self.diagnostics.extend(content.diagnostics.iter().cloned());
        self.rejected.extend(content.rejected.iter().cloned());
        let skipped = content.skipped.iter().cloned();
        self.skipped
            .extend(skipped.map(|(object, location)| Skipped { object, location }));
        if content.unnamed {
            self.unreadable.insert(file_name(file));
        }
        for object in &content.objects {
            self.object(object);
        }
    }

    /// Adds an object; two of the same name are both refused, for files have no order that could decide.
    fn object(&mut self, object: &Arc<Object>) {
        if let Some(first) = self.objects.by_id(&object.id) {
            let first_at = first.locate(&FieldPath::ROOT);
            self.diagnostics.push(Diagnostic {
                location: Some(object.locate(&FieldPath::ROOT)),
                object: Some(object.id.clone()),
                field: String::new(),
                code: Code::Duplicate,
                severity: Severity::Error,
                message: format!("is already defined at {first_at}"),
                advice: Some("remove one of the two; neither is applied".into()),
            });
            self.rejected.insert(object.id.clone(), first_at);
        } else {
            self.objects.insert(Arc::clone(object));
        }
    }

    fn unreadable(&mut self, file: &Arc<str>, reason: String) {
        self.unreadable.insert(Arc::clone(file));
        self.diagnostics.push(Diagnostic {
            location: Some(Location {
                file: Arc::clone(file),
                line: 1,
                column: 1,
            }),
            object: None,
            field: String::new(),
            code: Code::Unreadable,
            severity: Severity::Error,
            message: reason,
            advice: None,
        });
    }

    fn finish(mut self) -> Self {
        for id in self.rejected.keys() {
            self.objects.remove(id);
        }
        self.diagnostics.sort();
        self.skipped.sort();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::istio::{
        authorization_policy::AuthorizationPolicy, gateway::Gateway, kubernetes::Service,
        virtual_service::VirtualService,
    };

    fn examples(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
    }

    #[test]
    fn the_tutorial_loads_without_a_finding() {
        let loaded = load(&examples("tutorial"));
        assert_eq!(loaded.diagnostics, []);
        let counts = [
            loaded.objects.of::<VirtualService>().count(),
            loaded.objects.of::<Gateway>().count(),
            loaded.objects.of::<AuthorizationPolicy>().count(),
            loaded.objects.of::<Service>().count(),
        ];
        assert_eq!((counts, loaded.objects.len()), ([2, 1, 3, 3], 23));
    }

    #[test]
    fn kinds_that_concern_no_proxy_are_listed() {
        let skipped = load(&examples("tutorial")).skipped;
        let kinds: BTreeSet<_> = skipped.iter().map(|skipped| skipped.object.kind.as_str()).collect();
        assert_eq!(
            kinds.into_iter().collect::<Vec<_>>(),
            ["Deployment", "IstioOperator", "NetworkPolicy", "ServiceAccount"]
        );
    }

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
    }

    #[test]
    fn directories_are_read_at_any_depth_and_hidden_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::create_dir(path("..2024")).unwrap();
        fs::write(path("a/b/one.yml"), namespace("one")).unwrap();
        fs::write(path("a/notes.txt"), "not: yaml: at all").unwrap();
        fs::write(path("..2024/two.yaml"), namespace("two")).unwrap();
        std::os::unix::fs::symlink(path("..2024"), path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/two.yaml", path("two.yaml")).unwrap();
        std::os::unix::fs::symlink(path("a"), path("loop")).unwrap();
        let loaded = load(root.path());
        assert_eq!(loaded.diagnostics, []);
        let names: Vec<_> = loaded.objects.iter().map(|object| object.name()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(load(&path("two.yaml")).objects.len(), 1, "a single file");
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_read() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("good.yaml"), namespace("good")).unwrap();
        fs::write(path("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
        fs::File::create(path("huge.yaml"))
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        let loaded = load(root.path());
        let messages: Vec<_> = loaded
            .diagnostics
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(
            messages,
            ["is not UTF-8 text: bad byte at 0", "is larger than 4194304 bytes"]
        );
        assert_eq!((loaded.objects.len(), loaded.incomplete), (1, false));
        let missing = load(&path("missing"));
        assert!(missing.incomplete);
        assert!(missing.diagnostics[0].message.starts_with("cannot be read"));
    }
}
