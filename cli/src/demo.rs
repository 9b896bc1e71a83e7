//! `sallyport demo`: the whole tutorial, each of its claims checked.
//!
//! The claims are data ([`script()`]); a [`Stage`] makes their calls on a mesh and collects the evidence;
//! [`Claim::contradictions`](claim::Claim::contradictions) judges it. What is printed here is only a view of that.
//!
//! There are two stages: a [`Walk`] in one process, and a [`namespaces::Mesh`] with real Envoys if one likes.

use std::io::{BufRead, Write};

use anyhow::Context as _;
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    lab::{mesh::Mesh, namespaces},
    shutdown::Shutdown,
    terminal::Style,
};
use claim::Chapter;
use doors::Doors;
use show::Show;

pub mod claim;
mod doors;
mod real;
mod script;
mod show;
mod stage;
mod walk;

pub use script::script;
pub use stage::Stage;
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

/// On which network the tutorial is played.
#[derive(Debug, Clone)]
pub enum On {
    /// The virtual one, in this process.
    Loopback,
    /// The kernel's, in network namespaces.
    Namespaces(namespaces::Setup),
}

/// Walks through the tutorial; returns whether every claim holds.
///
/// # Errors
/// The mesh cannot be started or changed, the output is gone, or the user interrupts.
pub async fn run(
    on: &On,
    options: Options,
    out: impl Write,
    style: Style,
    shutdown: &mut Shutdown,
) -> anyhow::Result<bool> {
    let mut show = Show::new(out, style);
    let started = Instant::now();
    match on {
        On::Loopback => {
            let walk = Walk::new(Mesh::start().await?)?;
            show.note("The egress gateway tutorial, in one process and on loopback only.")?;
            Box::pin(perform(walk, show, options, started, shutdown)).await
        }
        On::Namespaces(setup) => {
            let mesh = namespaces::Mesh::start(setup).await?;
            show.note(&format!(
                "The egress gateway tutorial, in network namespaces: {} as sidecars, {} as gateway.",
                setup.sidecar, setup.gateway
            ))?;
            Box::pin(perform(mesh, show, options, started, shutdown)).await
        }
    }
}

async fn perform<S: Stage + Doors, W: Write>(
    mut stage: S,
    mut show: Show<W>,
    options: Options,
    started: Instant,
    shutdown: &mut Shutdown,
) -> anyhow::Result<bool> {
    let mut score = Score::default();
    for (number, chapter) in script().into_iter().enumerate() {
        tokio::select! {
            done = play(&mut stage, &mut show, number + 1, chapter, options, &mut score) => done?,
            signal = shutdown.requested() => anyhow::bail!("stopped by {signal} before the end"),
        }
    }
    let took = started.elapsed();
    if options.keep {
        show.verdict(score.held, score.claims, took)?;
        return stage.keep_open(&mut show, shutdown).await.map(|()| score.is_perfect());
    }
    let strays = stage.finish().await?;
    show.closing(&strays)?;
    score.count(strays.is_empty());
    show.verdict(score.held, score.claims, took)?;
    Ok(score.is_perfect())
}

async fn play<W: Write>(
    stage: &mut impl Stage,
    show: &mut Show<W>,
    number: usize,
    chapter: Chapter,
    options: Options,
    score: &mut Score,
) -> anyhow::Result<()> {
    show.heading(number, &chapter)?;
    if options.pause {
        pause(show).await?;
    }
    if !chapter.apply.is_empty() {
        let before = Instant::now();
        stage.apply(&chapter).await?;
        show.applied(chapter.apply, before.elapsed())?;
    }
    for claim in chapter.claims {
        let (claim, evidence, contradictions) = stage.judge(claim).await?;
        show.claim(&claim, &evidence, &contradictions)?;
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
