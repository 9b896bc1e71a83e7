//! Where in an object a field is: `spec.http[0].route[1].destination.host`.

use std::fmt;

/// A field, by the fields and list entries that lead to it. Cheap to extend; borrows what it extends.
#[derive(Debug, Clone, Copy)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
}

/// The last part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The object itself.
    Root,
    /// A named field.
    Field(&'a str),
    /// An entry of a list.
    Index(usize),
    /// An entry of a map whose keys the user chooses.
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The whole object.
    pub const ROOT: FieldPath<'static> = FieldPath {
        parent: None,
        step: Step::Root,
    };

    /// A field of this one.
    pub fn field(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    /// An entry of this list.
    pub fn index(&'a self, index: usize) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of this map.
    pub fn key(&'a self, key: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(super) fn parent(&self) -> Option<&'a FieldPath<'a>> {
        self.parent
    }

    pub(super) fn step(&self) -> Step<'a> {
        self.step
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let top = self.parent.is_none_or(|parent| parent.step == Step::Root);
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if top => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_field() {
        let spec = FieldPath::ROOT.field("spec");
        let (http, labels) = (spec.field("http"), FieldPath::ROOT.field("labels"));
        assert_eq!(http.index(0).to_string(), "spec.http[0]");
        assert_eq!(http.index(0).field("name").to_string(), "spec.http[0].name");
        assert_eq!(labels.key("a.b/c").to_string(), "labels[a.b/c]");
        assert_eq!(FieldPath::ROOT.to_string(), "");
    }
}
