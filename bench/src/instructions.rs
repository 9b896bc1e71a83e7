//! `bench instructions`: how many instructions the data path's cores take, compared with what is kept in the tree.
//!
//! Counted by valgrind, which makes the processor up: the same count on every machine but for what the C library chooses by the
//! processor's features (copies) and for hash seeds. That moves counts by less than half of [`TOLERANCE`]; times would move by ten times as
//! much. Another compiler or C library is a reason to write the file anew, on its own.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use gateway::cores;

use crate::report::count;

/// What a count may be above the one kept, as a share of it.
const TOLERANCE: f64 = 0.05;
/// How often each core is repeated: the first time fills caches of its own, as for most requests it is not.
const TIMES: u64 = 10;

/// Counts instructions of the data path's cores and compares them with bench/instructions.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the counts to the file instead
    #[arg(long)]
    update: bool,
    /// Only do this core's work; the count is that of this process
    #[arg(long, value_name = "NAME", hide = true)]
    core: Option<String>,
}

/// Instructions of one repetition, by core.
type Counts = BTreeMap<String, u64>;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.core {
        return work(name);
    }
    let counts = cores::names().map(|name| Ok((name.to_owned(), counted(name)?)));
    let counts: Counts = counts.collect::<anyhow::Result<_>>()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    if args.update {
        fs::write(&file, serde_json::to_string_pretty(&counts)? + "\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let kept = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let kept: Counts = serde_json::from_str(&kept).with_context(|| file.display().to_string())?;
    Ok(compare(&kept, &counts))
}

fn work(name: &str) -> anyhow::Result<ExitCode> {
    let mut core = cores::core(name).with_context(|| format!("no core {name:?}"))?;
    cores::measured_core(&mut core, usize::try_from(TIMES)?);
    Ok(ExitCode::SUCCESS)
}

/// Has valgrind do a core's work.
fn counted(name: &str) -> anyhow::Result<u64> {
    let files = tempfile::tempdir()?;
    let profile = files.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*measured_core*",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(own_program()?)
        .args(["instructions", "--core", name])
        .stdout(Stdio::null());
    let output = command
        .output()
        .context("valgrind counts instructions: apt-get install valgrind")?;
    ensure!(
        output.status.success(),
        "{name}: valgrind: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = fs::read_to_string(profile)?;
    let total = total(&profile).with_context(|| format!("{name}: valgrind counted nothing"))?;
    Ok(total / TIMES)
}

fn own_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("this program cannot find itself")
}

/// The count below the toggled function: `summary: 12345`.
fn total(profile: &str) -> Option<u64> {
    let mut lines = profile.lines().rev();
    let count = lines.find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")))?;
    count.trim().parse().ok().filter(|count| *count > 0)
}

/// Prints each core's count beside the one kept. Fails on one that is above tolerance, is new or is gone.
fn compare(kept: &Counts, counts: &Counts) -> ExitCode {
    let mut worse = Vec::new();
    for (name, now) in counts {
        let said = match kept.get(name) {
            None => {
                worse.push(name.as_str());
                "not kept yet".to_owned()
            }
            Some(kept) => {
                let change = count(*now) / count(*kept) - 1.0;
                if change > TOLERANCE {
                    worse.push(name);
                }
                format!("kept {kept:>12}  {:+.1}%", change * 100.0)
            }
        };
        println!("{name:28} {now:>12}  {said}");
    }
    worse.extend(
        kept.keys()
            .filter(|name| !counts.contains_key(*name))
            .map(String::as_str),
    );
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "\nmore than {:.0}% above bench/instructions.json, or not in it: {}\nif that is meant: cargo run --release -p bench -- instructions --update",
        TOLERANCE * 100.0,
        worse.join(", ")
    );
    ExitCode::FAILURE
}
