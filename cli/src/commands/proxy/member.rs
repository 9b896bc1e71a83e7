//! Who a proxy is in the mesh: as files say, or the agent beside it.

use std::{path::PathBuf, sync::Arc};

use ::certs::{FileWatcher, Workload};
use ::gateway::{ads::UNIX, agent::Agent};
use anyhow::Context as _;

use crate::shutdown::Shutdown;

/// Where an identity comes from.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Directory with our cert-chain.pem, key.pem and root-cert.pem, reloaded when they change; tells namespace and
    /// service account
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// In place of --identity, the agent that serves our identity over SDS: unix:PATH, the socket of `sallyport certs
    /// agent` or of Istio's agent; waits until it is there
    #[arg(long, value_name = "unix:PATH", value_parser = socket, conflicts_with = "identity")]
    sds: Option<String>,
}

/// A member of the mesh, if it is one, and what keeps it current.
pub(in crate::commands) struct Member {
    workload: Option<Workload>,
    agent: Option<Agent>,
}

impl Args {
    /// Reads our identity, or waits for the agent to serve it. `None`: we were asked to stop before it was there.
    pub(super) async fn member(
        &self,
        files: &Arc<FileWatcher>,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<Option<Member>> {
        let Some(server) = &self.sds else {
            return self.read(files).map(Some);
        };
        tracing::info!(server, "waiting for the identity that the agent serves");
        let agent = tokio::select! {
            agent = Agent::wait(server, files.clone()) => agent.context("--sds cannot be used")?,
            signal = shutdown.requested() => {
                tracing::info!(signal, "stopping; there was no identity yet");
                return Ok(None);
            }
        };
        tracing::info!(id = %agent.workload().id(), "the agent serves our identity");
        Ok(Some(Member {
            workload: Some(agent.workload().clone()),
            agent: Some(agent),
        }))
    }

    /// Who files say we are.
    ///
    /// # Errors
    /// They cannot be used.
    pub(super) fn read(&self, files: &FileWatcher) -> anyhow::Result<Member> {
        let load = |directory| {
            let hint = || "--identity cannot be used (sallyport certs issue makes such a directory)";
            files.workload(directory).with_context(hint)
        };
        Ok(Member {
            workload: self.identity.as_deref().map(load).transpose()?,
            agent: None,
        })
    }
}

impl Member {
    /// Our identity and trust. `None`: we are nobody.
    pub(in crate::commands) fn workload(&self) -> Option<Workload> {
        self.workload.clone()
    }

    /// Takes over what the agent renews, for ever. Files are followed by their watcher.
    pub(in crate::commands) async fn run(&self) {
        match &self.agent {
            Some(agent) => agent.run().await,
            None => std::future::pending().await,
        }
    }
}

pub(in crate::commands) fn socket(text: &str) -> Result<String, String> {
    match text.strip_prefix(UNIX) {
        Some(path) if !path.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not the socket of an agent: {UNIX}PATH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_socket() {
        assert_eq!(socket("unix:./var/run/socket").unwrap(), "unix:./var/run/socket");
        for text in ["", "unix:", "/var/run/socket", "127.0.0.1:1"] {
            assert!(socket(text).is_err(), "{text}");
        }
    }
}
