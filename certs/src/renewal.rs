//! An identity that is issued and renewed in memory, from an authority's directory on this machine.
//!
//! Invariants: identity and roots come from one reading of the authority, which has proven that the one leads to the other;
//! neither key is ever written; the authority's key is in memory only while it signs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh::id::SpiffeId;
use tokio::time::sleep;

use crate::{
    BACKDATE, CertificateAuthority, FileWatcher, Identity, IssueError, LeafRequest, Live, SvidError, Trust,
    TrustBundle, Workload,
    files::{FileError, ROOT_CERT},
    rotate::{Action, Rotation},
    store::trust_domain,
};

/// A workload and what renews it.
#[derive(Debug)]
pub struct Renewal {
    workload: Workload,
    issuer: Issuer,
    /// The authority's roots, for the notice of their change.
    roots: Arc<Live<Trust>>,
}

/// Issues for one workload.
#[derive(Debug, Clone)]
struct Issuer {
    authority: PathBuf,
    id: SpiffeId,
    lifetime: Duration,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// Renewal begins at half of a validity that is dated back.
    #[error("a lifetime of {} s is too short to be renewed in time, at least {} s are needed", .0.as_secs(), MIN_LIFETIME.as_secs())]
    Lifetime(Duration),
    /// The authority cannot be read.
    #[error(transparent)]
    Authority(#[from] FileError),
    /// It does not sign.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What it signed is no identity.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The process is ending.
    #[error("issuing was interrupted")]
    Interrupted,
}

/// Shortest lifetime of what is renewed here: what is left of it when half of the validity is over is worth having.
pub const MIN_LIFETIME: Duration = Duration::from_secs(2 * BACKDATE.as_secs());
/// Longest sleep, so that a clock that was set or a machine that slept is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

impl Renewal {
    /// Issues the first identity. `files` tells when the authority's roots change.
    ///
    /// # Errors
    /// Nothing can be issued for `id`.
    pub fn start(
        authority: &Path,
        id: &SpiffeId,
        lifetime: Duration,
        files: &FileWatcher,
    ) -> Result<Self, RenewalError> {
        if lifetime < MIN_LIFETIME {
            return Err(RenewalError::Lifetime(lifetime));
        }
        let issuer = Issuer {
            authority: authority.to_owned(),
            id: id.clone(),
            lifetime,
        };
        let roots = files.roots(&authority.join(ROOT_CERT))?;
        let (identity, trust) = issuer.issue()?;
        Ok(Self {
            workload: Workload::new(identity, trust, SystemTime::now())?,
            issuer,
            roots,
        })
    }

    /// The workload; it stays current while [`Self::run`] is polled.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Renews in time, and at once when the authority has other roots, for ever. A failure leaves what is there in force.
    pub async fn run(&self) {
        let mut rotation = Rotation::new(self.workload.identity.load().leaf(), jitter());
        let mut roots = self.roots.subscribe();
        loop {
            let now = SystemTime::now();
            match rotation.next(now) {
                Action::Wait(until) => {
                    let pause = until.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP);
                    tokio::select! {
                        () = sleep(pause) => {}
                        Ok(()) = roots.changed() => self.renew(&mut rotation).await,
                    }
                }
                Action::Renew => self.renew(&mut rotation).await,
                Action::Alarm => tracing::error!(
                    id = %self.workload.id(),
                    "the identity has expired and could not be renewed: peers refuse it"
                ),
            }
        }
    }

    async fn renew(&self, rotation: &mut Rotation) {
        let issuer = self.issuer.clone();
        // Files may lie on a network, and keys take time to make.
        let issued = tokio::task::spawn_blocking(move || issuer.issue()).await;
        match issued.unwrap_or(Err(RenewalError::Interrupted)) {
            Ok((identity, trust)) => {
                rotation.renewed(identity.leaf(), jitter());
                tracing::info!(id = %self.workload.id(), serial = identity.leaf().serial, "renewed the identity");
                self.workload.trust.replace(trust);
                self.workload.identity.replace(identity);
            }
            Err(error) => {
                rotation.failed(SystemTime::now(), jitter());
                tracing::warn!(id = %self.workload.id(), %error, "cannot renew the identity, what is there stays in force");
            }
        }
    }
}

impl Issuer {
    fn issue(&self) -> Result<(Identity, Trust), RenewalError> {
        let now = SystemTime::now();
        let authority = CertificateAuthority::load(&self.authority, now)?;
        let identity = authority.issue(&LeafRequest::svid(&self.id).lifetime(self.lifetime), now)?;
        let trust = TrustBundle::new(trust_domain(&self.id), authority.roots().clone());
        Ok((identity, Trust::Mesh(trust)))
    }
}

/// From -1 to 1.
fn jitter() -> f64 {
    rand::random_range(-1.0..=1.0)
}
