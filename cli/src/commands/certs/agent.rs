//! `sallyport certs agent`: an identity, kept current and served to the proxy beside us.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::certs::{
    DEFAULT_LIFETIME, FileWatcher, Live, Renewal, Roots, Trust, Workload,
    sds::{Access, DEFAULT_SOCKET, Server, Settings},
};
use anyhow::{Context as _, bail};
use mesh::id::SpiffeId;

use crate::{
    commands::{duration, serving},
    shutdown::Shutdown,
};

const HELP: &str = "\
The secret discovery service of Envoy, on a Unix socket. Served are
  default           the workload's certificate chain and private key
  ROOTCA            the roots that peers in the mesh are checked against
  file-root:system  the operating system's roots, for sites outside
A renewed certificate is pushed; the proxy uses it for new connections, open ones stay.

Whoever can open the socket has the private key: it is for this user only (mode 0600) unless --group is given.

Examples:
  # from a CA on this machine, issued and renewed in memory
  sallyport certs init-ca ca
  sallyport certs agent spiffe://cluster.local/ns/team-x/sa/test --ca ca

  # from files that somebody else renews
  sallyport certs agent --identity /var/run/secrets/workload-spiffe-credentials

  # beside `sallyport gateway --sds unix:/run/sallyport/sds`, or an Envoy with such a cluster:
  #   clusters:
  #   - name: sds-grpc
  #     type: STATIC
  #     load_assignment:
  #       cluster_name: sds-grpc
  #       endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /run/sallyport/sds}}}}]}]
  #     typed_extension_protocol_options:
  #       envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
  #         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
  #         explicit_http_config: {http2_protocol_options: {}}
  sallyport certs agent --identity egress --socket /run/sallyport/sds";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Who the workload is, with --ca: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`
    #[arg(value_name = "SPIFFE ID", value_parser = spiffe_id, requires = "ca", required_unless_present = "identity")]
    id: Option<SpiffeId>,
    /// Issue from the CA in this directory (sallyport certs init-ca makes one), renew at half of the lifetime, and at once
    /// when the CA's roots change
    #[arg(long, value_name = "DIR", requires = "id", required_unless_present = "identity")]
    ca: Option<PathBuf>,
    /// Serve cert-chain.pem, key.pem and root-cert.pem of this directory, reloaded when they change
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "id", "lifetime"])]
    identity: Option<PathBuf>,
    /// How long a certificate from --ca is valid, at least 4m [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    lifetime: Option<Duration>,
    /// Where to serve; a socket that nobody serves any more is replaced
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Let the socket's group connect too (mode 0660)
    #[arg(long)]
    group: bool,
    /// PEM file that is served as file-root:system [default: the system's roots]
    #[arg(long, value_name = "FILE")]
    system_roots: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    serving::log_to_stderr();
    serving::block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::listen()?;
    let files = FileWatcher::new();
    let (workload, renewal) = args.workload(&files)?;
    let settings = Settings {
        socket: args.socket.clone(),
        access: if args.group { Access::Group } else { Access::Owner },
        workload: workload.clone(),
        system_roots: args.system_roots(&files)?,
    };
    let server = Server::start(settings).await.context("cannot serve secrets")?;
    tracing::info!(id = %workload.id(), socket = %server.socket().display(), "serving default and ROOTCA");
    let signal = tokio::select! {
        signal = shutdown.requested() => signal,
        () = files.run() => "the end of the file watcher",
        () = renew(renewal.as_ref()) => "the end of the renewal",
    };
    tracing::info!(signal, "stopping; proxies keep what they have");
    server.shutdown().await;
    Ok(())
}

impl Args {
    /// Who we serve, and what renews it if that is our work.
    fn workload(&self, files: &FileWatcher) -> anyhow::Result<(Workload, Option<Renewal>)> {
        if let Some(directory) = &self.identity {
            let hint = "--identity cannot be used (sallyport certs issue makes such a directory)";
            return Ok((files.workload(directory).context(hint)?, None));
        }
        let (Some(id), Some(ca)) = (&self.id, &self.ca) else {
            bail!("give a SPIFFE ID and --ca, or --identity");
        };
        let lifetime = self.lifetime.unwrap_or(DEFAULT_LIFETIME);
        let hint = || {
            format!(
                "cannot issue from the CA in {0} (sallyport certs init-ca {0})",
                ca.display()
            )
        };
        let renewal = Renewal::start(ca, id, lifetime, files).with_context(hint)?;
        Ok((renewal.workload().clone(), Some(renewal)))
    }

    /// The system's roots are for sites outside: a mesh does without them.
    fn system_roots(&self, files: &FileWatcher) -> anyhow::Result<Option<Arc<Live<Trust>>>> {
        if let Some(path) = &self.system_roots {
            return Ok(Some(files.roots(path).context("--system-roots cannot be used")?));
        }
        match Roots::system() {
            Ok(roots) => Ok(Some(Arc::new(Live::new(Trust::Roots(roots))))),
            Err(error) => {
                tracing::warn!(%error, "file-root:system is not served");
                Ok(None)
            }
        }
    }
}

/// Without a renewal there is nothing to wait for, ever.
async fn renew(renewal: Option<&Renewal>) {
    match renewal {
        Some(renewal) => renewal.run().await,
        None => std::future::pending().await,
    }
}

fn spiffe_id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text).map_err(|error| error.to_string())
}
