//! The hash table of what a request looks up.

use std::collections::HashMap;

/// A hash table with foldhash, which costs a fraction of the standard library's function for keys of some ten bytes. A request
/// looks into about ten such tables. Their keys are written by configuration only; and foldhash is seeded anew in each process.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
