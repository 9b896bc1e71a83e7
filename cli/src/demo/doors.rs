//! `--keep`: leaves the mesh running and lets the user's own curl in.

use std::{fs, io::Write, path::Path};

use anyhow::Context as _;

use super::{show::Show, walk::Walk};
use crate::{
    lab::{
        cluster,
        door::Door,
        log::Log,
        mesh::Mesh,
        namespaces::{self, APPLICATION_USER, Place},
    },
    shutdown::Shutdown,
};

/// A mesh that can be left running for the user.
pub(super) trait Doors {
    /// Says how to call as an application of either team, and waits for the user to have had enough.
    async fn keep_open<W: Write>(self, show: &mut Show<W>, shutdown: &mut Shutdown) -> anyhow::Result<()>;
}

/// The logs of the proxies, by whose they are.
type Logs = [(&'static str, Log); 3];

impl Doors for Walk {
    /// Opens a door to each team's explicit proxy.
    async fn keep_open<W: Write>(self, show: &mut Show<W>, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        let mesh = self.mesh();
        let network = mesh.network();
        let team_x = Door::open(network.app(cluster::TEAM_X), cluster::EXPLICIT_PROXY).await?;
        let team_y = Door::open(network.app(cluster::TEAM_Y), cluster::EXPLICIT_PROXY).await?;
        let roots = mesh.directory().join("outside-root.pem");
        fs::write(&roots, mesh.public_ca().authority().root_pem()).with_context(|| roots.display().to_string())?;
        let curl = |door: &Door| format!("curl -i -x http://{}", door.address());
        invite(show, [&curl(&team_x), &curl(&team_y)], &roots, &mesh.config_directory())?;
        watch(&logs_of(mesh), show, shutdown).await
    }
}

impl Doors for namespaces::Mesh {
    /// Shows how to be the application in each team's namespace.
    async fn keep_open<W: Write>(mut self, show: &mut Show<W>, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        let curl = |place| {
            let command = self.network().command_as(APPLICATION_USER, place, "curl");
            let words = [command.get_program()].into_iter().chain(command.get_args());
            let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
            format!("{} -i", words.join(" "))
        };
        let curls = [curl(Place::TeamX), curl(Place::TeamY)];
        let (roots, config) = (self.around().roots(), self.config_directory());
        invite(show, [&curls[0], &curls[1]], &roots, &config)?;
        watch(&self.logs(), show, shutdown).await
    }
}

fn invite<W: Write>(show: &mut Show<W>, [x, y]: [&str; 2], roots: &Path, config: &Path) -> anyhow::Result<()> {
    let roots = roots.display();
    show.note("\nEverything is still running. As team-x: 200, 403 from the gateway, and 200 over TLS that the gateway passes through.")?;
    show.command(format_args!("{x} http://example.com"))?;
    show.command(format_args!("{x} http://httpbin.org/headers"))?;
    show.command(format_args!("{x} --cacert {roots} https://example.com"))?;
    show.note("As team-y: 418, and 502 from its own sidecar, which knows no such host.")?;
    show.command(format_args!("{y} http://httpbin.org/status/418"))?;
    show.command(format_args!("{y} http://example.com"))?;
    show.note("The resources are watched; what you change is live at once:")?;
    show.command(format_args!("ls {}", config.display()))?;
    Ok(())
}

fn logs_of(mesh: &Mesh) -> Logs {
    let logs = mesh.logs();
    [
        ("team-x", logs.team_x),
        ("team-y", logs.team_y),
        ("gateway", logs.gateway),
    ]
}

/// Prints what the proxies log, until a signal comes.
async fn watch<W: Write>(logs: &Logs, show: &mut Show<W>, shutdown: &mut Shutdown) -> anyhow::Result<()> {
    show.prompt("press ctrl-c to end; what the proxies log follows")?;
    tokio::select! {
        _ = shutdown.requested() => Ok(()),
        ended = follow(logs, show) => ended,
    }
}

/// Prints log lines as they come.
async fn follow<W: Write>(logs: &Logs, show: &mut Show<W>) -> anyhow::Result<()> {
    let [(_, team_x), (_, team_y), (_, gateway)] = logs;
    let mut seen = [team_x, team_y, gateway].map(Log::len);
    loop {
        tokio::select! {
            () = team_x.outgrows(seen[0]) => {}
            () = team_y.outgrows(seen[1]) => {}
            () = gateway.outgrows(seen[2]) => {}
        }
        for ((who, log), seen) in logs.iter().zip(&mut seen) {
            let lines = log.since(*seen);
            *seen += lines.len();
            lines.iter().try_for_each(|line| show.logged(who, line))?;
        }
    }
}
