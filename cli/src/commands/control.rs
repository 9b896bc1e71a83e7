//! `sallyport control`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use ::certs::FileWatcher;
use ::control::{Control, Handle, Settings, applied::Applied, serve::Security};
use anyhow::{Context as _, ensure};

use super::{mesh, serving};
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  # proxies on this machine, without certificates
  sallyport control --config examples/tutorial --listen 127.0.0.1:15010 --plaintext

  # proxies anywhere, known by their mesh certificates
  sallyport certs init-ca ca
  sallyport certs issue spiffe://cluster.local/ns/istio-system/sa/istiod --ca ca --out istiod
  sallyport control --config /etc/sallyport/resources --listen 0.0.0.0:15012 --identity istiod

The directory is watched: a change is live a moment after the last file is written. What is wrong in it is logged and not
applied; the last good version stays. To check before: sallyport analyze DIR";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory with Istio and Kubernetes resources in YAML, read recursively and watched
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
    /// Address to serve proxies on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15010")]
    listen: SocketAddr,
    /// Mutual TLS: directory with our cert-chain.pem, key.pem and root-cert.pem, reloaded when they change; needed
    /// unless --plaintext is given
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "plaintext",
        conflicts_with = "plaintext"
    )]
    identity: Option<PathBuf>,
    /// No TLS; on loopback addresses only
    #[arg(long)]
    plaintext: bool,
    #[command(flatten)]
    mesh: mesh::Args,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    serving::log_to_stderr();
    serving::block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::listen()?;
    ensure!(
        args.config.exists(),
        "{}: no such directory; create it first, it may be empty",
        args.config.display()
    );
    let files = FileWatcher::new();
    let security = match &args.identity {
        Some(directory) => Security::MutualTls(files.workload(directory)?),
        None => Security::PlaintextOnLoopback,
    };
    let mesh = args.mesh.read()?;
    let settings = Settings {
        resources: args.config.clone(),
        address: args.listen,
        security,
        mesh,
    };
    let handle = Control::start(settings).await.context("cannot start control")?;
    tracing::info!(address = %handle.address(), config = %args.config.display(), "serving");
    let signal = tokio::select! {
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = report(&handle) => "the end of the reports",
    };
    tracing::info!(signal, "stopping; proxies keep what they have");
    handle.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Says of each configuration that it has arrived everywhere, or where it has not.
async fn report(handle: &Handle) {
    let mut reported: Option<Arc<Applied>> = None;
    loop {
        let is_new = |applied: &Applied| reported.as_deref().is_none_or(|before| !std::ptr::eq(before, applied));
        let applied = handle.wait_for(is_new).await;
        let (objects, outcome) = (applied.objects.len(), handle.acknowledged().await);
        let proxies = handle.proxies().len();
        match outcome {
            Ok(()) if proxies == 0 => tracing::info!(objects, "in force; no proxy is connected"),
            Ok(()) => tracing::info!(objects, proxies, "every proxy runs what is in force"),
            Err(error) => tracing::error!(objects, proxies, %error, "not every proxy runs what is in force"),
        }
        reported = Some(applied);
    }
}
