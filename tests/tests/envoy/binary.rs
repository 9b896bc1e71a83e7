//! The Envoy binary, and its opinion of a file.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::log;

/// Where it is: `SALLYPORT_ENVOY`, or on `PATH`, or where pip puts it.
pub(crate) fn envoy() -> Option<PathBuf> {
    if let Some(named) = env::var_os("SALLYPORT_ENVOY") {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/bin"));
    let mut directories = env::split_paths(&path).chain(home);
    directories.find_map(|directory| Some(directory.join("envoy")).filter(|file| file.is_file()))
}

/// Asks Envoy whether it would start from a document. The answer is what it says against it, a line each.
#[track_caller]
pub(crate) fn complaints(document: &Value, scratch: &Path) -> Vec<String> {
    let file = scratch.join("bootstrap.json");
    fs::write(&file, document.to_string()).unwrap();
    let output = Command::new(envoy().unwrap())
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
