//! The tutorial's mesh in one process, and what it does: control, gateway and sidecars with real TLS, HTTP/2, DNS and ADS.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use sallyport::{
    demo::claim::matches,
    lab::{
        log::{Field, Line, Log},
        manifests::{ALL, Manifest},
        mesh::Mesh,
    },
};

mod applications;
mod callers;
mod live;
mod sites;
mod tutorial;

/// How long a log line may take to appear.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// The resources of the tutorial when its last step is done.
fn all() -> Vec<&'static Manifest> {
    ALL.iter().filter(|manifest| manifest.set == "tutorial").collect()
}

/// A mesh in which the last step of the tutorial is done.
async fn complete() -> Mesh {
    let mesh = Mesh::start().await.unwrap();
    mesh.apply(&all()).await.unwrap();
    mesh
}

/// Waits for the only line of a log that has not been seen; checks its fields.
#[track_caller]
fn check(line: &str, fields: &[(Field, &str)]) {
    let parsed = Line::parse(line).unwrap_or_else(|| panic!("not a line: {line}"));
    for (field, pattern) in fields {
        assert!(
            matches(pattern, parsed.get(*field)),
            "{field:?} is not {pattern:?} in {line}"
        );
    }
}

/// The next line of a log after the first `seen`.
async fn line(log: &Log, seen: usize) -> String {
    assert!(
        log.reaches(seen + 1, DEADLINE).await,
        "no line in time after {:?}",
        log.since(0)
    );
    log.since(seen).remove(0)
}
