//! The files of `examples/` against what they claim: the tutorial has no finding, each broken file exactly its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use control::{
    analyze::analyze,
    applied::Applied,
    diag::{Diagnostic, Severity},
    istio::{Objects, load},
    mesh_config::MeshConfig,
};

const ROOT_NAMESPACE: &str = "istio-system";

fn examples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn broken_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(examples("broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.file_name().unwrap() != "base.yaml")
        .collect();
    files.sort();
    files
}

/// What a file's first lines say has to be found in it: `code object field line N`.
fn expected(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let mut expected: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix("# expect: "))
        .map(str::to_owned)
        .collect();
    expected.sort();
    expected
}

/// A finding in the same words.
fn found(diagnostic: &Diagnostic) -> String {
    let object = diagnostic.object.as_ref().map_or("- -".to_owned(), ToString::to_string);
    let field = if diagnostic.field.is_empty() {
        "-"
    } else {
        &diagnostic.field
    };
    let line = diagnostic.location.as_ref().map_or(0, |location| location.line);
    format!("{} {object} {field} line {line}", diagnostic.code)
}

/// What is wrong or looks it: everything but notes.
fn mistakes(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity != Severity::Info)
}

fn all_found(diagnostics: &[Diagnostic]) -> Vec<String> {
    let mut all: Vec<_> = mistakes(diagnostics).map(found).collect();
    all.sort();
    all
}

#[test]
fn the_tutorial_has_no_finding() {
    let analysis = analyze(&examples("tutorial"), &MeshConfig::default());
    assert_eq!(all_found(&analysis.diagnostics), Vec::<String>::new());
    assert!(analysis.objects > 20);
}

/// Where a default is stricter than Istio's, and where the tutorial leaves a door open that it need not.
#[test]
fn the_tutorial_is_told_where_it_means_more_or_less_than_it_says() {
    let notes = |mesh: &str| {
        let analysis = analyze(&examples("tutorial"), &MeshConfig::parse(mesh).unwrap());
        let notes = analysis.diagnostics.iter().filter(|one| one.severity == Severity::Info);
        let text = |note: &Diagnostic| format!("{} {}: {}", note.code, note.field, note.message);
        notes.map(text).collect::<Vec<_>>()
    };
    let open = [
        "SP0010 spec.servers[0].hosts[0]: a VirtualService of any namespace may route * here; istio-egress/* would keep it to this one",
        "SP0010 spec.servers[1].hosts[0]: a VirtualService of any namespace may route * here; istio-egress/* would keep it to this one",
    ];
    let members = "SP0011 spec.servers[0].tls: only identities of cluster.local are let in; Istio lets in whoever has a certificate \
                   of the mesh's roots";
    let name = "SP0011 spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.sni: the server's certificate must be for example.com; \
                Istio checks only who issued it";
    assert_eq!(notes("{}"), [open[0], members, open[1], name]);
    let as_istio = "saferDefaults: {verifyUpstreamNames: false, verifyClientTrustDomain: false}";
    assert_eq!(notes(as_istio), open);
}

#[test]
fn each_broken_file_has_exactly_its_own_mistakes() {
    let files = broken_files();
    assert!(files.len() >= 40, "{}", files.len());
    for file in files {
        let directory = tempfile::tempdir().unwrap();
        for source in [&file, &examples("broken/base.yaml")] {
            fs::copy(source, directory.path().join(source.file_name().unwrap())).unwrap();
        }
        let analysis = analyze(directory.path(), &MeshConfig::default());
        assert!(!expected(&file).is_empty(), "{} expects nothing", file.display());
        assert_eq!(all_found(&analysis.diagnostics), expected(&file), "{}", file.display());
    }
}

#[test]
fn the_broken_directory_as_a_whole_has_every_mistake() {
    let analysis = analyze(&examples("broken"), &MeshConfig::default());
    let mut expected: Vec<_> = broken_files().iter().flat_map(|file| expected(file)).collect();
    expected.sort();
    assert_eq!(all_found(&analysis.diagnostics), expected);
}

#[test]
fn every_finding_is_complete_and_reads_well() {
    let directory = fs::canonicalize(examples("broken")).unwrap();
    let analysis = analyze(&directory, &MeshConfig::default());
    for diagnostic in &analysis.diagnostics {
        assert!(diagnostic.advice.is_some(), "no fix: {diagnostic}");
    }
    let prefix = format!("{}/", directory.display());
    let report: String = mistakes(&analysis.diagnostics)
        .map(|diagnostic| format!("{diagnostic}\n").replace(&prefix, ""))
        .collect();
    insta::assert_snapshot!(report);
}

/// The rows of the table in the README: which files a step writes, and where they are.
fn tutorial_steps() -> Vec<(String, Vec<PathBuf>)> {
    let readme = fs::read_to_string(examples("README.md")).unwrap();
    let rows = readme
        .lines()
        .filter(|line| line.starts_with('|') && line.contains(".yaml`"));
    let quoted = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let directory = examples(&quoted(cells[4])[0]);
        (
            cells[2].to_owned(),
            quoted(cells[3]).iter().map(|name| directory.join(name)).collect(),
        )
    })
    .collect()
}

#[test]
fn each_step_of_the_tutorial_is_in_force_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut applied = Applied::default();
    for (step, files) in tutorial_steps() {
        for file in files {
            fs::copy(&file, directory.path().join(file.file_name().unwrap())).unwrap();
        }
        applied = applied.advance(load(directory.path()), ROOT_NAMESPACE);
        assert_eq!(all_found(&applied.diagnostics), Vec::<String>::new(), "{step}");
        assert!(applied.withheld.is_empty(), "{step}");
    }
    let whole = load(&examples("tutorial")).objects;
    let specs = |objects: &Objects| {
        objects
            .iter()
            .map(|object| (object.id.clone(), object.spec.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        specs(&applied.objects),
        specs(&whole),
        "the steps end where the directory is"
    );
}

#[test]
fn findings_are_the_same_every_time() {
    let of = || serde_json::to_string(&analyze(&examples("broken"), &MeshConfig::default())).unwrap();
    assert_eq!(of(), of());
}
