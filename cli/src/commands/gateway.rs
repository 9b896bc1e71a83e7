//! `sallyport gateway`.

use std::{fs, process::ExitCode, sync::Arc};

use ::certs::FileWatcher;
use ::gateway::{Following, Gateway, Handle, Settings, ads, bootstrap::Plan};
use anyhow::Context as _;
use mesh::xds::{bootstrap::Bootstrap, proxy::Role};

use self::envoy::Mode;
use super::{
    proxy::{self, Member, Prepared},
    serving,
};
use crate::{following, shutdown::Shutdown};

mod envoy;

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

  # with the identity that an agent beside it serves, as Istio's does
  sallyport certs agent --identity egress --socket /run/sallyport/sds
  sallyport gateway --control http://127.0.0.1:15010 --sds unix:/run/sallyport/sds \\
      --labels app=istio-egressgateway,istio=egressgateway

  # where `envoy -c bootstrap.yaml` stood, after a look at what it says
  sallyport gateway -c bootstrap.yaml --mode validate
  sallyport gateway -c bootstrap.yaml

Access logs go to standard output, the rest to standard error (RUST_LOG=debug says more).";

#[derive(Debug, clap::Args)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    proxy: proxy::Args,
    #[command(flatten)]
    envoy: envoy::Args,
}

/// What to start with, and whom to follow if anybody.
struct Start {
    settings: Settings,
    control: Option<ads::Settings>,
}

pub(super) fn run(args: &Args, out: &mut impl std::io::Write) -> anyhow::Result<ExitCode> {
    if args.envoy.hot_restart_version {
        writeln!(out, "disabled")?;
        return Ok(ExitCode::SUCCESS);
    }
    args.envoy.refuse()?;
    serving::log(args.envoy.level(), args.envoy.log_path.as_deref())?;
    for note in args.envoy.notes() {
        tracing::info!(argument = note.argument, why = note.why, "does nothing here");
    }
    match args.envoy.mode {
        Mode::Validate => serving::block_on(validate(args, out)),
        Mode::Serve | Mode::InitOnly => serving::block_on(serve(args)),
    }
}

/// Checks everything that can be checked without a control plane, in Envoy's words if all is well.
async fn validate(args: &Args, out: &mut impl std::io::Write) -> anyhow::Result<ExitCode> {
    let member = args.proxy.member_from_files(&FileWatcher::new())?;
    let Start { settings, .. } = read(args, &member)?;
    let name = args.envoy.config_path.as_deref().map(|path| path.display().to_string());
    let name = name.unwrap_or_default();
    Gateway::check(settings).await.with_context(|| name.clone())?;
    writeln!(out, "configuration '{name}' OK")?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::listen()?;
    let files = Arc::new(FileWatcher::new());
    let Some(member) = args.proxy.member(&files, &mut shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Start { settings, control } = read(args, &member)?;
    let handle = Gateway::start(settings).await.context("cannot start the gateway")?;
    let following = control.map(|control| follow(&handle, control)).transpose()?;
    let signal = tokio::select! {
        // Reports have been written before the configuration is found complete.
        biased;
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = member.run() => "the end of the identity",
        () = report(&handle, following.as_ref()) => "the end of the reports",
        () = proxy::report_listeners(&handle) => "the end of the reports",
        () = configured(following.as_ref()), if args.envoy.mode == Mode::InitOnly => "the configuration being complete",
    };
    tracing::info!(signal, "stopping; what is open may finish");
    drop(following);
    handle.drain(args.envoy.drain().unwrap_or(args.proxy.drain)).await;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Args, member: &Member) -> anyhow::Result<Start> {
    let mut start = match args.envoy.has_bootstrap() {
        true => bootstrap(args, member)?,
        false => {
            let Prepared { pod, control, settings } = args.proxy.prepare(member)?;
            let control = Some(following::settings(pod.node(Role::Gateway), control));
            Start { settings, control }
        }
    };
    start.settings.workers = args.envoy.workers().unwrap_or(start.settings.workers);
    Ok(start)
}

/// Starts from Envoy's bootstrap.
fn bootstrap(args: &Args, member: &Member) -> anyhow::Result<Start> {
    let path = args.envoy.config_path.as_deref();
    let name = || path.map_or_else(|| "--config-yaml".to_owned(), |path| path.display().to_string());
    let text = path
        .map(fs::read_to_string)
        .transpose()
        .with_context(name)?
        .unwrap_or_default();
    let over = args.envoy.config_yaml.as_deref().unwrap_or_default();
    let mut bootstrap = Bootstrap::merge(&text, over).with_context(name)?;
    args.envoy.name(&mut bootstrap.node);
    let plan = Plan::of(bootstrap, member.workload()).with_context(name)?;
    if let Some(address) = plan.admin {
        tracing::warn!(%address, "the bootstrap asks for an admin interface, which there is not; nothing listens there");
    }
    Ok(Start {
        settings: args.proxy.adjust(plan.settings),
        control: plan.control,
    })
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

/// Waits until everything is configured; without a control plane it is from the start.
async fn configured(following: Option<&Following>) {
    if let Some(following) = following {
        // An error says that following has ended, after which nothing more is to come.
        let _ = following.state().wait_for(|state| state.complete).await;
    }
}
