//! Which crate may use which, read from manifests and `use` lines. The rules are those of ARCHITECTURE.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A crate of the workspace and the crates of the workspace it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("mesh", &[]),
    ("certs", &["mesh"]),
    ("gateway", &["mesh", "certs"]),
    ("sidecar", &["gateway", "mesh", "certs"]),
    ("control", &["mesh", "certs"]),
    ("cli", &["mesh", "certs", "gateway", "sidecar", "control"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names in a manifest's `[dependencies]` section.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    for (name, may) in MAY_USE {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let ours = MAY_USE
            .iter()
            .map(|(name, _)| *name)
            .chain(["sallyport", "tests", "bench"]);
        for used in ours.filter(|ours| dependencies(&manifest).contains(ours)) {
            assert!(may.contains(&used), "{name} may not use {used}");
        }
    }
}

#[test]
fn manifests_are_read_correctly() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nmesh.workspace = true\nregex = \"1\"\n# no\n\n[lib]\nname = \"y\"\n";
    assert_eq!(dependencies(manifest), ["mesh", "regex"]);
}
