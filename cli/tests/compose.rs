//! The docker-compose demo is the tutorial: what it configures is what `examples/tutorial` has.
//!
//! A copy, so that who plays with the demo's files changes nothing else; that they are the same is held here.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn the_compose_demo_starts_from_the_tutorial() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tutorial = files(&root.join("examples/tutorial"));
    assert!(!tutorial.is_empty());
    assert!(
        files(&root.join("deploy/compose/config")) == tutorial,
        "deploy/compose/config differs from examples/tutorial: cp examples/tutorial/* deploy/compose/config/"
    );
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entry = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|file| entry(&file.unwrap().path())).collect()
}
