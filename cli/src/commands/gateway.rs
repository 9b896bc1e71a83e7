//! `sallyport gateway`.

use std::process::ExitCode;

use ::certs::FileWatcher;
use ::gateway::Gateway;
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
  sallyport certs issue spiffe://cluster.local/ns/istio-egress/sa/istio-egressgateway-service-account --ca ca --out gateway
  sallyport gateway --control http://127.0.0.1:15010 --identity gateway \\
      --labels app=istio-egressgateway,istio=egressgateway

  # in a cluster
  sallyport gateway --control https://istiod.istio-system:15012 --identity /var/run/secrets/workload-spiffe-credentials \\
      --labels app=istio-egressgateway,istio=egressgateway --address $POD_IP

Access logs go to standard output, everything else to standard error (RUST_LOG=debug says more).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
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
    let Prepared {
        pod,
        control,
        settings,
        drain,
    } = args.proxy.prepare(&files)?;
    let node = pod.node(Role::Gateway);
    tracing::info!(node = node.id, control = control.server, "starting");
    let handle = Gateway::start(settings).await.context("cannot start the gateway")?;
    let following = handle.follow(following::settings(node, control))?;
    let signal = tokio::select! {
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = proxy::report(following.state()) => "the end of the reports",
    };
    tracing::info!(signal, "stopping; what is open may finish");
    drop(following);
    handle.drain(drain).await;
    Ok(ExitCode::SUCCESS)
}
