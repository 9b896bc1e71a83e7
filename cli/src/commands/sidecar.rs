//! `sallyport sidecar`.

use std::{io, process::ExitCode, sync::Arc};

use ::certs::FileWatcher;
use ::sidecar::{
    Settings, Sidecar,
    capture::{Capture, USER},
};
use anyhow::Context as _;
use clap::Subcommand;
use mesh::xds::proxy::Interception;

use super::{
    proxy::{self, Prepared},
    serving,
};
use crate::shutdown::Shutdown;

mod capture;

const EXAMPLES: &str = "\
Examples:
  # an application that names its proxy, on a machine without iptables
  sallyport sidecar --control http://127.0.0.1:15010 --identity team-x \\
      --labels app=test --no-capture --proxy-port 15080
  curl -x http://127.0.0.1:15080 http://example.com

  # an application whose connections the kernel redirects to port 15001; runs as user 1337
  sallyport sidecar capture apply
  sallyport sidecar --control https://istiod.istio-system:15012 \\
      --identity /var/run/secrets/workload-spiffe-credentials \\
      --labels app=test --address $POD_IP

Access logs go to standard output, the rest to standard error (RUST_LOG=debug says more).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    proxy: proxy::Args,
    /// Loopback port of an explicit HTTP proxy: absolute-form requests, and CONNECT for TLS
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    proxy_port: Option<u16>,
    /// Do not serve redirected connections: the application uses the explicit proxy
    #[arg(long, requires = "proxy_port")]
    no_capture: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lead an application's connections to its sidecar, with iptables
    Capture(capture::Args),
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(Action::Capture(args)) = &args.action {
        return capture::run(args, &mut io::stdout().lock());
    }
    serving::log_to_stderr();
    serving::block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::listen()?;
    let files = Arc::new(FileWatcher::new());
    let Some(member) = args.proxy.member(&files, &mut shutdown).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Prepared {
        pod,
        control,
        settings: plane,
    } = args.proxy.prepare(&member)?;
    if !args.no_capture {
        warn_of_circles()?;
    }
    let server = control.server.clone();
    let settings = Settings {
        pod,
        interception: if args.no_capture {
            Interception::None
        } else {
            Interception::Redirect
        },
        http_proxy_port: args.proxy_port,
        control,
        plane,
    };
    let handle = Sidecar::start(settings).await.context("cannot start the sidecar")?;
    tracing::info!(node = handle.node(), control = server, "started");
    let signal = tokio::select! {
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = member.run() => "the end of the identity",
        () = proxy::report(handle.plane(), handle.state()) => "the end of the reports",
        () = proxy::report_listeners(handle.plane()) => "the end of the reports",
    };
    tracing::info!(signal, "stopping; what is open may finish");
    handle.drain(args.proxy.drain).await;
    Ok(ExitCode::SUCCESS)
}

/// The rules may name another user than usual, which only root can see; so this is no error.
fn warn_of_circles() -> anyhow::Result<()> {
    if !Capture::default().exempts_this_process()? {
        tracing::warn!(
            user = USER,
            "capture rules would lead this process's own connections back to it; run it as this user, or name its user to \
             `sallyport sidecar capture apply`"
        );
    }
    Ok(())
}
