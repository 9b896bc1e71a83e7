//! What `sallyport gateway` and `sallyport sidecar` have in common: who they are, whom they follow, how they end.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ::certs::{FileWatcher, Workload};
use ::gateway::{
    Handle, Overflow, Settings,
    ads::{Protocol, Security, State},
};
use ::sidecar::Control;
use anyhow::bail;
use mesh::{id::SpiffeId, xds::proxy::Pod};
use tokio::sync::watch;

use super::{Usage, duration};
use crate::{following, shutdown::Shutdown};

pub(super) mod member;

pub(super) use member::Member;

/// How a proxy is told who it is and whom to follow.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Control plane: https://HOST:PORT (mutual TLS) or http://HOST:PORT (plaintext, loopback only)
    #[arg(long, value_name = "URL", value_parser = Server::parse)]
    control: Option<Server>,
    /// Who the control plane must be, as its certificate says
    #[arg(long, value_name = "SPIFFE ID", default_value = "spiffe://cluster.local/ns/istio-system/sa/istiod", value_parser = spiffe_id)]
    control_identity: SpiffeId,
    #[command(flatten)]
    member: member::Args,
    /// Labels of our pod, which selectors match; a gateway that no Gateway selects opens no port
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Address of our pod, as others reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Name of our pod [default: $HOSTNAME if exported, else sallyport]
    #[arg(
        long,
        value_name = "NAME",
        env = "HOSTNAME",
        default_value = "sallyport",
        hide_env = true,
        hide_default_value = true
    )]
    pod: String,
    /// Name servers [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',')]
    dns: Vec<SocketAddr>,
    /// PEM file with the roots that sites outside are verified against [default: the system's]
    #[arg(long, value_name = "FILE")]
    system_roots: Option<PathBuf>,
    /// Threads that serve connections [default: one per core]
    #[arg(long, value_name = "NUMBER")]
    workers: Option<NonZeroUsize>,
    /// When an access log cannot keep up with the traffic: let requests wait, or drop lines and count them
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Slow::Block)]
    slow_access_log: Slow,
    /// How long open connections may finish after a signal to stop
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = duration::parse)]
    pub(super) drain: Duration,
}

/// What a slow access log costs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Slow {
    /// Requests wait: an audit trail has no holes.
    Block,
    /// Lines are dropped and counted.
    Drop,
}

/// A control plane's URL.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// `host:port`.
    pub(super) address: String,
    pub(super) tls: bool,
}

/// A proxy that is about to start.
pub(super) struct Prepared {
    pub(super) pod: Pod,
    pub(super) control: Control,
    pub(super) settings: Settings,
}

impl Args {
    /// Reads our identity, or waits for it. `None`: we were asked to stop before it was there.
    pub(super) async fn member(
        &self,
        files: &Arc<FileWatcher>,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<Option<Member>> {
        self.member.member(files, shutdown).await
    }

    /// Who files say we are, for a look that asks nobody.
    pub(super) fn member_from_files(&self, files: &FileWatcher) -> anyhow::Result<Member> {
        self.member.read(files)
    }

    /// Puts everything together.
    pub(super) fn prepare(&self, member: &Member) -> anyhow::Result<Prepared> {
        let server = self.control.as_ref();
        let server = server.ok_or(Usage(
            "--control is missing: the URL of a control plane, such as https://istiod.istio-system:15012",
        ))?;
        let workload = member.workload().ok_or(Usage(
            "--identity is missing: a directory with cert-chain.pem, key.pem and root-cert.pem (sallyport certs issue makes one); \
             or --sds: an agent that serves them",
        ))?;
        Ok(Prepared {
            pod: self.pod(workload.id()),
            settings: self.adjust(Settings {
                workload: Some(workload.clone()),
                ..Settings::default()
            }),
            control: Control {
                server: server.address.clone(),
                security: self.security(server, workload)?,
                protocol: Protocol::Delta,
            },
        })
    }

    /// Lets the command line have its way over other settings.
    pub(super) fn adjust(&self, mut settings: Settings) -> Settings {
        if !self.dns.is_empty() {
            settings.name_servers.clone_from(&self.dns);
        }
        if self.system_roots.is_some() {
            settings.system_roots.clone_from(&self.system_roots);
        }
        settings.workers = self.workers.unwrap_or(settings.workers);
        settings.access_log_overflow = match self.slow_access_log {
            Slow::Block => Overflow::Block,
            Slow::Drop => Overflow::Drop,
        };
        settings
    }

    fn pod(&self, identity: &SpiffeId) -> Pod {
        Pod {
            name: self.pod.clone(),
            namespace: identity.namespace().to_owned(),
            service_account: identity.service_account().to_owned(),
            labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
            address: self.address,
        }
    }

    fn security(&self, server: &Server, workload: Workload) -> anyhow::Result<Security> {
        if server.tls {
            return Ok(following::mutual_tls(workload, &self.control_identity));
        }
        if !is_loopback(&server.address) {
            bail!(
                "--control http://{}: plaintext is for loopback only; use https://",
                server.address
            );
        }
        Ok(Security::PlaintextOnLoopback)
    }
}

/// Logs what happens between us and the control plane.
pub(super) async fn report(plane: &Handle, mut states: watch::Receiver<State>) {
    let mut before = State::default();
    loop {
        let state = states.borrow_and_update().clone();
        if state.complete && !before.complete {
            configured(plane);
        }
        if state.last_error.is_some() && state.last_error != before.last_error {
            let error = state.last_error.as_deref().unwrap_or_default();
            tracing::warn!(error, "the control plane does not answer; what runs stays as it is");
        }
        if state.refused != before.refused && !state.refused.is_empty() {
            tracing::error!(refused = ?state.refused, "a part of the configuration cannot be used; its last good version stays");
        }
        before = state;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Says which listeners come and go, and where they listen.
pub(super) async fn report_listeners(plane: &Handle) {
    let mut changes = plane.changes();
    let mut before = BTreeMap::new();
    loop {
        let bound = plane.bound();
        for (listener, address) in bound
            .iter()
            .filter(|(name, address)| before.get(*name) != Some(*address))
        {
            tracing::info!(%listener, %address, "listening");
        }
        for listener in before.keys().filter(|name| !bound.contains_key(*name)) {
            tracing::info!(%listener, "no longer listening");
        }
        before = bound;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A proxy that nothing selects is configured too, with nothing.
fn configured(plane: &Handle) {
    let (bound, awaited) = (plane.bound(), plane.awaited_secrets());
    tracing::info!(listeners = bound.len(), "configured and serving");
    if !awaited.is_empty() {
        tracing::warn!(?awaited, "what needs these secrets is not served before they arrive");
    } else if bound.is_empty() {
        tracing::warn!("nothing listens yet: no resource is for this proxy; a Gateway's selector must match --labels");
    }
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a control plane's URL: https://HOST:PORT or http://HOST:PORT");
        let (scheme, address) = text.split_once("://").ok_or_else(wrong)?;
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match (scheme, port) {
            ("http" | "https", Some(1..)) => Ok(Self {
                address: address.to_owned(),
                tls: scheme == "https",
            }),
            _ => Err(wrong()),
        }
    }
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("localhost:")
        || address
            .parse::<SocketAddr>()
            .is_ok_and(|address| address.ip().is_loopback())
}

pub(super) fn spiffe_id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not a label: KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_has_a_scheme_and_a_port() {
        for (url, address, tls) in [
            ("https://istiod:15012", "istiod:15012", true),
            ("http://127.0.0.1:15010/", "127.0.0.1:15010", false),
            ("https://[::1]:15012", "[::1]:15012", true),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!((server.address.as_str(), server.tls), (address, tls));
        }
        for url in [
            "istiod:15012",
            "https://istiod",
            "ftp://a:1",
            "https://a:0",
            "https://a:99999",
            "",
        ] {
            assert!(Server::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_loopback_is_loopback() {
        for (address, expect) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
        ] {
            assert_eq!(is_loopback(address), expect, "{address}");
        }
    }
}
