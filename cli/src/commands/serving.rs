//! What subcommands that run for long have in common.

use std::{future::Future, io};

use mesh::id::TrustDomain;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Logs go to standard error, from `info` on unless `RUST_LOG` says otherwise; standard output is for access logs.
pub(super) fn log_to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
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
