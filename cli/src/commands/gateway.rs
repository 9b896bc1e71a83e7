//! `sallyport gateway`.

use std::{fs, path::PathBuf, process::ExitCode};

use ::certs::FileWatcher;
use ::gateway::{Following, Gateway, Handle, Settings, ads, bootstrap::Plan};
use anyhow::Context as _;
use mesh::xds::proxy::Role;

use super::{
    proxy::{self, Prepared},
    serving,
};
use crate::{following, shutdown::Shutdown};

const EXAMPLES: &str = "\
Examples:
  # the tutorial's egress gateway, beside `sallyport control --plaintext`
  sallyport certs issue --ca ca --out egress \\
      spiffe://cluster.local/ns/istio-egress/sa/istio-egressgateway-service-account
  sallyport gateway --control http://127.0.0.1:15010 --identity egress \\
      --labels app=istio-egressgateway,istio=egressgateway

  # in a cluster
  sallyport gateway --control https://istiod.istio-system:15012 \\
      --identity /var/run/secrets/workload-spiffe-credentials \\
      --labels app=istio-egressgateway,istio=egressgateway --address $POD_IP

  # where `envoy -c bootstrap.yaml` stood
  sallyport gateway -c bootstrap.yaml

Access logs go to standard output, the rest to standard error (RUST_LOG=debug says more).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Envoy bootstrap file, YAML or JSON; stands for --control, --labels, --address and --pod
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with_all = ["control", "labels", "address", "pod"])]
    config_path: Option<PathBuf>,
    #[command(flatten)]
    proxy: proxy::Args,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    serving::log_to_stderr();
    serving::block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::listen()?;
    let files = FileWatcher::new();
    let (settings, control) = read(args, &files)?;
    let handle = Gateway::start(settings).await.context("cannot start the gateway")?;
    for (listener, address) in handle.bound() {
        tracing::info!(%listener, %address, "listening");
    }
    let following = control.map(|control| follow(&handle, control)).transpose()?;
    let signal = tokio::select! {
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = report(&handle, following.as_ref()) => "the end of the reports",
    };
    tracing::info!(signal, "stopping; what is open may finish");
    drop(following);
    handle.drain(args.proxy.drain).await;
    Ok(ExitCode::SUCCESS)
}

/// What to start with, and whom to follow if anybody.
fn read(args: &Args, files: &FileWatcher) -> anyhow::Result<(Settings, Option<ads::Settings>)> {
    let Some(path) = &args.config_path else {
        let Prepared { pod, control, settings } = args.proxy.prepare(files)?;
        let control = following::settings(pod.node(Role::Gateway), control);
        return Ok((settings, Some(control)));
    };
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let plan = Plan::read(&text, args.proxy.workload(files)?).with_context(|| path.display().to_string())?;
    if let Some(address) = plan.admin {
        tracing::warn!(%address, "the bootstrap asks for an admin interface, which there is not; nothing listens there");
    }
    Ok((args.proxy.adjust(plan.settings), plan.control))
}

fn follow(handle: &Handle, control: ads::Settings) -> anyhow::Result<Following> {
    tracing::info!(node = control.node_id, control = control.server, "following");
    Ok(handle.follow(control)?)
}

/// Without a control plane there is nothing to report, ever.
async fn report(handle: &Handle, following: Option<&Following>) {
    match following {
        Some(following) => proxy::report(handle, following.state()).await,
        None => std::future::pending().await,
    }
}
