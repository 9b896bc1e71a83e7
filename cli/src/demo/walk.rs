//! The script on the virtual network: applies, calls, collects what can be seen.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;

use super::{
    claim::{Caller, Chapter, Claim, Credentials, Evidence, Logged, Team},
    stage::{self, Stage},
};
use crate::lab::{
    client::{App, Call},
    cluster,
    log::Log,
    mesh::Mesh,
    pki::{MeshCa, PublicCa},
};

/// How long a log line may take to appear after the reply.
const LOG_DEADLINE: Duration = Duration::from_secs(5);
/// What a sidecar asks for on the gateway's mTLS port.
const GATEWAY_NAME: &str =
    "outbound_.80_.target-egress-gateway-mTLS_.istio-egressgateway.istio-egress.svc.cluster.local";

/// A mesh, the people around it, and what has been logged for their calls so far.
pub struct Walk {
    mesh: Mesh,
    /// The CA of another mesh.
    foreign: MeshCa,
    /// An authority that nobody trusts.
    nobody: PublicCa,
    seen: Seen,
}

impl Stage for Walk {
    async fn apply(&mut self, chapter: &Chapter) -> anyhow::Result<()> {
        let applied = self.mesh.apply(&stage::files(chapter)?).await;
        applied.with_context(|| format!("chapter {:?}", chapter.title))
    }

    async fn observe(&mut self, claim: &Claim) -> anyhow::Result<Evidence> {
        let site = claim.call.host()?;
        let outside = self.mesh.outside();
        if claim.impostor {
            outside.show(site, self.nobody.certify(site)?);
        }
        let before = outside.requests(site);
        let (app, call) = self.caller(claim)?;
        let mut evidence = Evidence::default();
        for _ in 0..claim.times {
            evidence.replies.push(app.send(&call).await);
        }
        evidence.arrived = outside.requests(site) - before;
        if claim.impostor {
            outside.show(site, self.mesh.public_ca().certify(site)?);
        }
        self.collect(claim, &mut evidence).await;
        Ok(evidence)
    }

    async fn finish(self) -> anyhow::Result<Vec<String>> {
        let logs = self.mesh.logs();
        self.mesh.stop().await?;
        let rest = [
            logs.team_x.since(self.seen.team_x),
            logs.team_y.since(self.seen.team_y),
            logs.gateway.since(self.seen.gateway),
        ];
        Ok(rest.concat())
    }
}

/// Lines accounted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    team_x: usize,
    team_y: usize,
    gateway: usize,
}

impl Walk {
    /// Prepares a walk on a fresh mesh.
    ///
    /// # Errors
    /// The keys of the people around the mesh cannot be made.
    pub fn new(mesh: Mesh) -> anyhow::Result<Self> {
        Ok(Self {
            mesh,
            foreign: MeshCa::new("other.example")?,
            nobody: PublicCa::new("Nobody")?,
            seen: Seen::default(),
        })
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    async fn collect(&mut self, claim: &Claim, evidence: &mut Evidence) {
        let logs = self.mesh.logs();
        let sidecar = match claim.caller {
            Caller::App(Team::X) => Some((&logs.team_x, &mut self.seen.team_x)),
            Caller::App(Team::Y) => Some((&logs.team_y, &mut self.seen.team_y)),
            Caller::Uncaptured(_) | Caller::Direct(_) => None,
        };
        if let Some((log, seen)) = sidecar {
            evidence.sidecar = take(log, seen, claim.sidecar, claim.times).await;
        }
        evidence.gateway = take(&logs.gateway, &mut self.seen.gateway, claim.gateway, claim.times).await;
    }

    /// Who calls, and what exactly.
    fn caller(&self, claim: &Claim) -> anyhow::Result<(App, Call)> {
        let call = claim.call.clone();
        let app = match claim.caller {
            Caller::App(team) => self.mesh.app(pod(team))?,
            Caller::Uncaptured(team) => self.mesh.uncaptured(pod(team))?,
            Caller::Direct(_) => self.mesh.uncaptured(cluster::TEAM_X)?,
        };
        let Caller::Direct(credentials) = claim.caller else {
            return Ok((app, call));
        };
        let call = call.connect_to(SocketAddr::new(cluster::GATEWAY, 8080));
        let ca = self.mesh.mesh_ca();
        let caller = match credentials {
            Credentials::Plaintext => return Ok((app, call)),
            Credentials::Nothing => None,
            Credentials::ForeignMesh => Some(self.foreign.workload("team-x", "test")?),
            Credentials::Member(Team::X) => Some(ca.workload("team-x", "test")?),
            Credentials::Member(Team::Y) => Some(ca.workload("team-y", "test")?),
        };
        Ok((app, call.over_tls(ca.calling(caller.as_ref())?, GATEWAY_NAME)))
    }
}

/// Waits for the lines that are due and takes all there are.
async fn take(log: &Log, seen: &mut usize, due: Logged, times: usize) -> Vec<String> {
    // If they do not come, there are too few, which is what the claim will complain about.
    let _ = log.reaches(*seen + due.lines(times), LOG_DEADLINE).await;
    let lines = log.since(*seen);
    *seen += lines.len();
    lines
}

fn pod(team: Team) -> std::net::IpAddr {
    match team {
        Team::X => cluster::TEAM_X,
        Team::Y => cluster::TEAM_Y,
    }
}
