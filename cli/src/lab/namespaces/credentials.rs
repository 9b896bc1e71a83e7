//! The credentials of the mesh's members, and of a stranger, made by `sallyport certs`.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use super::{PROXY_USER, network, process};
use crate::lab::part;

const TRUST_DOMAIN: &str = "cluster.local";
const FOREIGN_TRUST_DOMAIN: &str = "other.example";

/// Somebody with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// The control plane.
    Control,
    /// The egress gateway.
    Gateway,
    /// The sidecar of team-x.
    TeamX,
    /// The sidecar of team-y.
    TeamY,
    /// A well-formed team-x of another mesh.
    Stranger,
}

impl Member {
    pub(in crate::lab) const ALL: [Self; 5] = [Self::Control, Self::Gateway, Self::TeamX, Self::TeamY, Self::Stranger];

    /// What it is called here: a directory, a process.
    pub(in crate::lab) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Gateway => "gateway",
            Self::TeamX => "team-x",
            Self::TeamY => "team-y",
            Self::Stranger => "stranger",
        }
    }

    /// Trust domain, namespace, service account.
    pub(in crate::lab) fn identity(self) -> [&'static str; 3] {
        match self {
            Self::Control => [TRUST_DOMAIN, "istio-system", "istiod"],
            Self::Gateway => [TRUST_DOMAIN, part::GATEWAY.namespace, part::GATEWAY.service_account],
            Self::TeamX => [TRUST_DOMAIN, part::TEAM_X.namespace, part::TEAM_X.service_account],
            Self::TeamY => [TRUST_DOMAIN, part::TEAM_Y.namespace, part::TEAM_Y.service_account],
            Self::Stranger => [
                FOREIGN_TRUST_DOMAIN,
                part::TEAM_X.namespace,
                part::TEAM_X.service_account,
            ],
        }
    }
}

/// Where everybody's credentials are: a directory for each, the proxies' own.
pub(super) struct Credentials(PathBuf);

impl Credentials {
    /// Makes two authorities and everybody's credentials below `directory`.
    pub(super) fn create(program: &Path, directory: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&directory)?;
        chown(&directory, Some(PROXY_USER), Some(PROXY_USER))?;
        let all = Self(directory);
        for domain in [TRUST_DOMAIN, FOREIGN_TRUST_DOMAIN] {
            certs(program, |certs| {
                certs
                    .arg("init-ca")
                    .arg(all.authority(domain))
                    .args(["--trust-domain", domain])
            })?;
        }
        for member in Member::ALL {
            all.issue(program, member)?;
        }
        Ok(all)
    }

    /// Makes somebody's credentials, in place of those there are.
    pub(super) fn issue(&self, program: &Path, member: Member) -> anyhow::Result<()> {
        let [domain, namespace, account] = member.identity();
        let id = format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
        certs(program, |certs| {
            let issue = certs.args(["issue", &id, "--ca"]).arg(self.authority(domain));
            issue.arg("--out").arg(self.of(member))
        })
    }

    /// The directory of one of them.
    pub(super) fn of(&self, member: Member) -> PathBuf {
        self.0.join(member.name())
    }

    fn authority(&self, trust_domain: &str) -> PathBuf {
        self.0.join(trust_domain)
    }
}

fn certs(program: &Path, arguments: impl Fn(&mut Command) -> &mut Command) -> anyhow::Result<()> {
    let mut command = Command::new("setpriv");
    command.args(network::identity(PROXY_USER)).arg(program).arg("certs");
    process::run(arguments(&mut command)).map(drop)
}
