//! Who sees an object: `exportTo`, resolved.

use std::collections::{BTreeMap, BTreeSet};

use crate::istio::scope::{Export, NamespaceScope};

/// The namespaces that see an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All.
    Everyone,
    /// These.
    Namespaces(BTreeSet<String>),
}

/// Numbers of objects by who sees them, so that what one namespace sees is found without looking at the rest.
#[derive(Debug, Default)]
pub(super) struct ByAudience {
    everyone: Vec<usize>,
    namespaces: BTreeMap<String, Vec<usize>>,
}

impl Audience {
    /// The audience of an object of namespace `own`. No entry at all means everyone.
    pub(super) fn new(exports: &[Export], own: &str) -> Self {
        if exports.is_empty() || exports.iter().any(|Export(scope)| *scope == NamespaceScope::Any) {
            return Self::Everyone;
        }
        let named = exports.iter().filter_map(|Export(scope)| match scope {
            NamespaceScope::Own => Some(own.to_owned()),
            NamespaceScope::Named(name) => Some(name.clone()),
            NamespaceScope::Any | NamespaceScope::Nowhere => None,
        });
        Self::Namespaces(named.collect())
    }

    /// Whether a namespace sees the object.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Whether only `namespace` sees the object.
    pub(super) fn is_only(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => false,
            Self::Namespaces(names) => names.len() == 1 && names.contains(namespace),
        }
    }
}

impl ByAudience {
    /// Enters an object. Numbers must be entered in ascending order.
    pub(super) fn insert(&mut self, number: usize, audience: &Audience) {
        match audience {
            Audience::Everyone => self.everyone.push(number),
            Audience::Namespaces(names) => {
                for name in names {
                    self.namespaces.entry(name.clone()).or_default().push(number);
                }
            }
        }
    }

    /// What a namespace sees, in ascending order.
    pub(super) fn seen_by(&self, namespace: &str) -> Vec<usize> {
        let private = self.namespaces.get(namespace).map_or(&[][..], Vec::as_slice);
        let mut all = [self.everyone.as_slice(), private].concat();
        all.sort_unstable();
        all
    }
}
