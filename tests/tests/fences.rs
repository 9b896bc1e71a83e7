//! Which crate may use which: the dependency direction of ARCHITECTURE.md, read from the manifests and the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each of our crates may use of the others.
const DIRECTION: [(&str, &[&str]); 8] = [
    ("mesh", &[]),
    ("certs", &["mesh"]),
    ("gateway", &["mesh", "certs"]),
    ("sidecar", &["mesh", "certs", "gateway"]),
    ("control", &["mesh", "certs"]),
    ("cli", &["mesh", "certs", "gateway", "sidecar", "control"]),
    ("bench", &["mesh", "certs", "gateway", "control"]),
    (
        "tests",
        &["mesh", "certs", "gateway", "sidecar", "control", "sallyport"],
    ),
];

/// Where a library may be named. A fence is a list of path prefixes below the workspace; test code is free.
const FENCES: [(&str, &[&str]); 10] = [
    ("prost", &["mesh/src/xds"]),
    ("prost_reflect", &["mesh/src/xds"]),
    (
        "envoy_types",
        &["mesh/src/xds", "certs/src/sds", "gateway/src/ads", "control/src/serve"],
    ),
    ("tonic", &["certs/src/sds", "gateway/src/ads", "control/src/serve"]),
    ("hyper", &["gateway/src/http", "gateway/src/upstream", "cli/src/lab"]),
    (
        "rustls",
        &[
            "certs/src",
            "gateway/src/tls",
            "gateway/src/connection",
            "cli/src/lab",
            "cli/src/commands/certs",
            "bench/src/load",
        ],
    ),
    ("saphyr", &["control/src/istio", "mesh/src/xds/json"]),
    ("saphyr_parser", &["control/src/istio", "mesh/src/xds/json"]),
    ("hickory_resolver", &["gateway/src/upstream/dns"]),
    ("rcgen", &["certs/src"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is a folder of the workspace")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the crates a manifest depends on, for its library and binaries.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let table = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    table
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Every Rust source below a folder, with its path below the workspace.
fn sources(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            found.insert(name, read(&path));
        }
    }
}

#[test]
fn crates_depend_in_one_direction() {
    let root = workspace();
    let ours: BTreeSet<&str> = DIRECTION
        .iter()
        .map(|(name, _)| *name)
        .chain(["sallyport", "bench"])
        .collect();
    for (folder, may_use) in DIRECTION {
        let uses = dependencies(&read(&root.join(folder).join("Cargo.toml")));
        assert!(
            !uses.is_empty(),
            "{folder}/Cargo.toml has a [dependencies] table we can read"
        );
        for name in uses.iter().filter(|name| ours.contains(name.as_str())) {
            assert!(may_use.contains(&name.as_str()), "{folder} may not depend on {name}");
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_a_direction() {
    let manifest = read(&workspace().join("Cargo.toml"));
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members"))
        .expect("the workspace lists its members");
    for member in members.split('"').skip(1).step_by(2) {
        assert!(
            DIRECTION.iter().any(|(name, _)| *name == member),
            "{member} is missing from DIRECTION"
        );
    }
}

#[test]
fn libraries_stay_behind_their_fences() {
    let root = workspace();
    let mut files = BTreeMap::new();
    for (folder, _) in DIRECTION.iter().filter(|(name, _)| *name != "tests") {
        sources(&root, &root.join(folder).join("src"), &mut files);
    }
    assert!(files.len() > 50, "sources are found");
    let mut crossed = Vec::new();
    for (path, text) in &files {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
        for (library, allowed) in FENCES {
            let inside = allowed.iter().any(|prefix| path.starts_with(prefix));
            if !inside && !is_test && names(code, library) {
                crossed.push(format!(
                    "{path} names {library}, which belongs in {}",
                    allowed.join(", ")
                ));
            }
        }
    }
    assert!(crossed.is_empty(), "{}", crossed.join("\n"));
}

/// Inside mesh, the model does not know its wire form.
#[test]
fn the_model_does_not_know_its_wire_form() {
    let root = workspace();
    let mut files = BTreeMap::new();
    sources(&root, &root.join("mesh/src"), &mut files);
    for (path, text) in files.iter().filter(|(path, _)| !path.starts_with("mesh/src/xds")) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(
            !code.clone().any(|line| line.contains("xds::")),
            "{path} names mesh::xds"
        );
    }
}

/// Whether code (not a comment) names a crate as `name::`.
fn names(code: &str, library: &str) -> bool {
    let needle = format!("{library}::");
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| {
            line.match_indices(&needle).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            })
        })
}
