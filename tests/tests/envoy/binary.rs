//! Envoy's opinion of a file.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::log;

/// Asks Envoy whether it would start from a document. The answer is what it says against it, a line each.
#[track_caller]
pub(crate) fn complaints(document: &Value, scratch: &Path) -> Vec<String> {
    let file = scratch.join("bootstrap.json");
    fs::write(&file, document.to_string()).unwrap();
    let output = Command::new(tests::envoy().unwrap())
        .args(["--mode", "validate", "--disable-hot-restart", "--concurrency", "1"])
        .args(["-l", "warning", "--log-format", log::FORMAT, "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut complaints = log::complaints(&said);
    if !output.status.success() {
        complaints.push(format!("{}: {said}", output.status));
    }
    complaints
}
