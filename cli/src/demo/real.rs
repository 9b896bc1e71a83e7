//! The script on a real network: [`Mesh`] in network namespaces, and curl as the application.

use std::{net::SocketAddr, process::Command};

use anyhow::Context as _;

use super::{
    claim::{Caller, Chapter, Claim, Credentials, Evidence, Expected, Team},
    stage::{self, Stage},
};
use crate::lab::{
    client::{Call, Failure, Reply},
    cluster,
    namespaces::{APPLICATION_USER, Member, Mesh, PROXY_USER, Place, application},
};

/// How a claim's failure looks to curl: the words of the lab's own client, and those of [`application::run`].
const WORDS: [(&str, &str); 3] = [
    ("could not connect: ", "could not connect: *"),
    ("TLS handshake failed: ", "TLS handshake failed: *"),
    ("no response: ", "response cut short: *"),
];

impl Stage for Mesh {
    async fn apply(&mut self, chapter: &Chapter) -> anyhow::Result<()> {
        let applied = self.install(&stage::files(chapter)?).await;
        applied.with_context(|| format!("chapter {:?}", chapter.title))
    }

    async fn observe(&mut self, claim: &Claim) -> anyhow::Result<Evidence> {
        let host = claim.call.host()?;
        if claim.impostor {
            self.around().change_scene("impostor", host).await?;
        }
        let mut evidence = Evidence::default();
        for _ in 0..claim.times {
            evidence.replies.push(call(self, claim).await?);
        }
        if claim.impostor {
            self.around().change_scene("genuine", host).await?;
        }
        let arrivals = if claim.arrives { claim.times } else { 0 };
        evidence.arrived = self.around().sites().take_when(arrivals).await.len() as u64;
        if let Caller::App(team) = claim.caller
            && let Some(sidecar) = self.sidecar(pod(team))
        {
            evidence.sidecar = sidecar.take_when(claim.sidecar.lines(claim.times)).await;
        }
        evidence.gateway = self.gateway().take_when(claim.gateway.lines(claim.times)).await;
        Ok(evidence)
    }

    fn expected(&self, claimed: Expected) -> Expected {
        let Expected::Failure(pattern) = claimed else {
            return claimed;
        };
        let translated = WORDS.iter().find(|(ours, _)| pattern.starts_with(ours));
        Expected::Failure(translated.map_or(pattern, |(_, curls)| curls))
    }

    async fn finish(self) -> anyhow::Result<Vec<String>> {
        self.stop().await
    }
}

async fn call(mesh: &Mesh, claim: &Claim) -> anyhow::Result<Result<Reply, Failure>> {
    let (user, place) = match claim.caller {
        Caller::App(team) => (APPLICATION_USER, pod(team)),
        Caller::Uncaptured(team) => (PROXY_USER, pod(team)),
        Caller::Direct(_) => (PROXY_USER, Place::TeamX),
    };
    let mut curl = mesh.curl(user, place);
    match claim.caller {
        Caller::Direct(credentials) => direct(mesh, &mut curl, credentials, &claim.call),
        Caller::App(_) | Caller::Uncaptured(_) => {
            curl.args(claim.call.arguments());
        }
    }
    application::run(curl).await
}

/// Straight to the gateway's mTLS port, around the sidecar.
fn direct(mesh: &Mesh, curl: &mut Command, credentials: Credentials, call: &Call) {
    let call = call.clone().connect_to(SocketAddr::new(cluster::GATEWAY, 8080));
    let mut arguments = call.arguments();
    let member = match credentials {
        Credentials::Plaintext => {
            curl.args(arguments);
            return;
        }
        Credentials::Nothing => None,
        Credentials::ForeignMesh => Some(Member::Stranger),
        Credentials::Member(Team::X) => Some(Member::TeamX),
        Credentials::Member(Team::Y) => Some(Member::TeamY),
    };
    if let Some(url) = arguments.last_mut() {
        *url = url.replacen("http://", "https://", 1);
    }
    // The gateway has a SPIFFE ID, which curl cannot check; whom the gateway admits is what matters here.
    curl.args(["--insecure", "--http1.1"]).args(arguments);
    if let Some(directory) = member.map(|member| mesh.credentials(member)) {
        curl.arg("--cert").arg(directory.join("cert-chain.pem"));
        curl.arg("--key").arg(directory.join("key.pem"));
    }
}

fn pod(team: Team) -> Place {
    match team {
        Team::X => Place::TeamX,
        Team::Y => Place::TeamY,
    }
}
