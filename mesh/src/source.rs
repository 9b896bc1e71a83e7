//! Where a resource comes from that another one points at by name, as `config.core.v3.ConfigSource`.
//!
//! A name means something only together with its source: the same name from two sources is two resources.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Source {
    /// The control plane, over the one ADS stream.
    #[default]
    Ads,
    /// A file of the proxy's own system.
    File(FileSource),
}

/// A file that holds a `DiscoveryResponse`, as `config.core.v3.PathConfigSource`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileSource {
    /// The file.
    pub path: PathBuf,
    /// A directory, a move into which means that the file has changed. `None`: a move onto the file itself.
    pub watched_directory: Option<PathBuf>,
}

impl FileSource {
    /// The directory whose changes tell of the file's.
    pub fn directory(&self) -> &Path {
        let parent = || self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let named = self.watched_directory.as_deref();
        named.or_else(parent).unwrap_or(Path::new("."))
    }
}

impl fmt::Display for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
