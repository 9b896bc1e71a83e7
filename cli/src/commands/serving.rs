//! What subcommands that run for long have in common.

use std::{fs::OpenOptions, future::Future, io, path::Path, sync::Mutex};

use anyhow::Context as _;
use mesh::id::TrustDomain;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::MakeWriter};

/// Logs go to standard error, from `info` on unless `RUST_LOG` says otherwise; standard output is for access logs.
pub(super) fn log_to_stderr() {
    log_to(LevelFilter::INFO, io::stderr);
}

/// Logs go to this file or to standard error, from `level` on unless `RUST_LOG` says otherwise.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn log(level: LevelFilter, file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        None => log_to(level, io::stderr),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("--log-path {}", path.display()))?;
            log_to(level, Mutex::new(file));
        }
    }
    Ok(())
}

fn log_to<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(level: LevelFilter, writer: W) {
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .init();
}

/// Runs a subcommand on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// For the command line.
pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(text).map_err(|error| error.to_string())
}
