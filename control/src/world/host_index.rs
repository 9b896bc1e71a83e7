//! Values by host pattern, found without trying every pattern.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh::host::{Host, HostPattern};

/// Values filed under host patterns.
#[derive(Debug)]
pub(crate) struct HostIndex<T> {
    exact: HashMap<Host, Vec<T>>,
    suffix: HashMap<Arc<str>, Vec<T>>,
    /// Lengths of the suffixes, so that only those are tried.
    lengths: BTreeSet<usize>,
    any: Vec<T>,
}

impl<T> HostIndex<T> {
    /// Files a value.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default().push(value),
            HostPattern::Suffix(suffix) => {
                self.lengths.insert(suffix.len());
                self.suffix.entry(Arc::clone(suffix)).or_default().push(value);
            }
            HostPattern::Any => self.any.push(value),
        }
    }

    /// What is filed under exactly this pattern, in order of filing.
    pub(crate) fn get(&self, pattern: &HostPattern) -> &[T] {
        let found = match pattern {
            HostPattern::Exact(host) => self.exact.get(host),
            HostPattern::Suffix(suffix) => self.suffix.get(suffix),
            HostPattern::Any => Some(&self.any),
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// What is filed under patterns that cover `host`, pattern by pattern, the most specific first.
    pub(crate) fn covering<'a>(&'a self, host: &HostPattern) -> impl Iterator<Item = &'a [T]> {
        let (exact, text, longest) = match host {
            HostPattern::Exact(host) => (
                self.exact.get(host),
                host.as_str(),
                host.as_str().len().saturating_sub(1),
            ),
            HostPattern::Suffix(suffix) => (None, &**suffix, suffix.len()),
            HostPattern::Any => (None, "", 0),
        };
        let suffixes = self.lengths.range(..=longest).rev();
        let suffixes = suffixes.filter_map(move |length| self.suffix.get(text.get(text.len() - length..)?));
        let all = exact.into_iter().chain(suffixes).chain(std::iter::once(&self.any));
        all.map(Vec::as_slice).filter(|values| !values.is_empty())
    }
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            suffix: HashMap::new(),
            lengths: BTreeSet::new(),
            any: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn covering_patterns_come_most_specific_first() {
        let mut index = HostIndex::default();
        for text in [
            "*",
            "*.com",
            "*.example.com",
            "a.example.com",
            "*-x.example.com",
            "example.com",
        ] {
            index.insert(&pattern(text), text);
        }
        let check = |host: &str, expect: &[&str]| {
            let host = pattern(host);
            let found: Vec<_> = index.covering(&host).flatten().copied().collect();
            assert_eq!(found, expect, "{host}");
        };
        check("a.example.com", &["a.example.com", "*.example.com", "*.com", "*"]);
        check("b-x.example.com", &["*-x.example.com", "*.example.com", "*.com", "*"]);
        check("example.com", &["example.com", "*.com", "*"]);
        check("*.example.com", &["*.example.com", "*.com", "*"]);
        check("*.b.example.com", &["*.example.com", "*.com", "*"]);
        check("*", &["*"]);
        check("org", &["*"]);
        assert_eq!(index.get(&pattern("*.com")), ["*.com"]);
        assert!(index.get(&pattern("b.com")).is_empty());
    }
}
