//! The table of fields against the descriptors, and the document made from it.

use std::{collections::BTreeSet, path::Path};

use crate::xds::{json::Descriptors, support};

#[test]
fn the_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/xds-lite.md");
    let current = support::render();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "docs/xds-lite.md is stale; run UPDATE_GOLDEN=1 cargo test -p mesh the_document_is_current"
    );
}

#[test]
fn every_message_is_listed_once() {
    let mut seen = BTreeSet::new();
    for message in support::MESSAGES.iter().copied().flatten() {
        let name = (message.name)();
        assert!(seen.insert(name.clone()), "{name} is listed twice");
    }
}

#[test]
fn every_ignored_field_has_a_reason() {
    for message in support::MESSAGES.iter().copied().flatten() {
        for field in message.fields {
            let silent = field.status == support::Status::Ignored && field.note.is_empty();
            assert!(!silent, "{} {}", (message.name)(), field.name);
        }
    }
}

/// The check that the macro makes is exhaustive over the fields that prost knows; this one is over the proto files.
#[test]
fn every_field_is_listed_under_its_proto_name() {
    let descriptors = Descriptors::hold();
    for message in support::MESSAGES.iter().copied().flatten() {
        let descriptor = descriptors.message(&(message.name)()).unwrap();
        let plain = descriptor.fields().filter(|field| field.containing_oneof().is_none());
        let mut names: BTreeSet<_> = plain.map(|field| field.name().to_owned()).collect();
        names.extend(descriptor.oneofs().map(|oneof| oneof.name().to_owned()));
        let listed: BTreeSet<_> = message
            .fields
            .iter()
            .map(|field| field.proto_name().to_owned())
            .collect();
        assert_eq!(listed, names, "{}", descriptor.full_name());
    }
}
