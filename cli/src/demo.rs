//! `sallyport demo`: the whole tutorial in one process, each of its claims checked.
//!
//! The claims are data ([`script()`]); a [`Walk`] makes their calls on a [`Mesh`] and collects the
//! evidence; [`Claim::contradictions`](claim::Claim::contradictions) judges it. What is printed here is only a view of that.

use std::io::{BufRead, Write};

use anyhow::Context as _;
use tokio::{task::spawn_blocking, time::Instant};

use crate::{lab::mesh::Mesh, shutdown::Shutdown, terminal::Style};
use claim::Chapter;
use show::Show;

pub mod claim;
mod doors;
mod script;
mod show;
mod walk;

pub use script::script;
pub use walk::Walk;

/// What the user wants besides the walk itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Leave everything running afterwards.
    pub keep: bool,
    /// Wait for the user before each chapter.
    pub pause: bool,
}

/// How many claims there were, and how many held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Score {
    held: usize,
    claims: usize,
}

/// Walks through the tutorial; returns whether every claim holds.
///
/// # Errors
/// The mesh cannot be started or changed, the output is gone, or the user interrupts.
pub async fn run(options: Options, out: impl Write, style: Style, shutdown: &mut Shutdown) -> anyhow::Result<bool> {
    let mut show = Show::new(out, style);
    let started = Instant::now();
    let mut walk = Walk::new(Mesh::start().await?)?;
    show.note("The egress gateway tutorial, in one process and on loopback only.")?;
    let mut score = Score::default();
    for (number, chapter) in script().iter().enumerate() {
        tokio::select! {
            done = play(&mut walk, &mut show, number + 1, chapter, options, &mut score) => done?,
            signal = shutdown.requested() => anyhow::bail!("stopped by {signal} before the end"),
        }
    }
    let took = started.elapsed();
    if options.keep {
        show.verdict(score.held, score.claims, took)?;
        return doors::keep_open(walk.mesh(), &mut show, shutdown)
            .await
            .map(|()| score.is_perfect());
    }
    let strays = walk.finish().await?;
    show.closing(&strays)?;
    score.count(strays.is_empty());
    show.verdict(score.held, score.claims, took)?;
    Ok(score.is_perfect())
}

async fn play<W: Write>(
    walk: &mut Walk,
    show: &mut Show<W>,
    number: usize,
    chapter: &Chapter,
    options: Options,
    score: &mut Score,
) -> anyhow::Result<()> {
    show.heading(number, chapter)?;
    if options.pause {
        pause(show).await?;
    }
    if !chapter.apply.is_empty() {
        let before = Instant::now();
        walk.apply(chapter).await?;
        show.applied(chapter.apply, before.elapsed())?;
    }
    for claim in &chapter.claims {
        let evidence = walk.observe(claim).await?;
        let contradictions = claim.contradictions(&evidence);
        show.claim(claim, &evidence, &contradictions)?;
        score.count(contradictions.is_empty());
    }
    Ok(())
}

/// Waits for the user. At the end of the input there is nobody to wait for.
async fn pause<W: Write>(show: &mut Show<W>) -> anyhow::Result<()> {
    show.prompt("press enter to go on")?;
    let read = spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()));
    read.await?.context("standard input")?;
    Ok(())
}

impl Score {
    fn count(&mut self, holds: bool) {
        self.claims += 1;
        self.held += usize::from(holds);
    }

    fn is_perfect(self) -> bool {
        self.held == self.claims
    }
}
