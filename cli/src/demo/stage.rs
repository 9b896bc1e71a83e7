//! Where the script can be played.

use anyhow::Context as _;

use super::claim::{Chapter, Claim, Evidence, Expected};
use crate::lab::manifests::{self, Manifest};

/// A mesh, and the people around it.
#[allow(async_fn_in_trait, reason = "a play is watched where it is played, never spawned")]
pub trait Stage {
    /// Applies a chapter's resources and waits until every proxy runs what follows from them.
    ///
    /// # Errors
    /// The files cannot be written, are not accepted, or a proxy does not acknowledge.
    async fn apply(&mut self, chapter: &Chapter) -> anyhow::Result<()>;

    /// Makes a claim's calls and collects what they leave behind.
    ///
    /// # Errors
    /// What is needed to call cannot be had; a call that fails is evidence.
    async fn observe(&mut self, claim: &Claim) -> anyhow::Result<Evidence>;

    /// What is expected, in the words of whoever calls on this stage.
    fn expected(&self, claimed: Expected) -> Expected {
        claimed
    }

    /// Puts a claim to the test: returns it in the words of this stage, what was observed, and what of that contradicts it.
    ///
    /// # Errors
    /// As for [`Stage::observe`].
    async fn judge(&mut self, claim: Claim) -> anyhow::Result<(Claim, Evidence, Vec<String>)> {
        let reply = self.expected(claim.reply);
        let claim = Claim { reply, ..claim };
        let evidence = self.observe(&claim).await?;
        let contradictions = claim.contradictions(&evidence);
        Ok((claim, evidence, contradictions))
    }

    /// Ends the mesh, so that everything is said that ever will be; returns what was said and belongs to no claim.
    ///
    /// # Errors
    /// A part does not end in time.
    async fn finish(self) -> anyhow::Result<Vec<String>>;
}

/// The files of a chapter.
///
/// # Errors
/// The program does not carry one of them.
pub(super) fn files(chapter: &Chapter) -> anyhow::Result<Vec<&'static Manifest>> {
    let find = |path: &&str| manifests::find(path).with_context(|| format!("the program carries no {path}"));
    chapter.apply.iter().map(find).collect()
}
