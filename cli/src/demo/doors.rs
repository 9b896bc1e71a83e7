//! `--keep`: leaves the mesh running and lets the user's own curl in.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::Context as _;

use super::show::Show;
use crate::{
    lab::{
        cluster,
        door::Door,
        mesh::{self, Logs, Mesh},
    },
    shutdown::Shutdown,
};

/// Opens a door to each team's explicit proxy, says how to use it, and waits for the user to have had enough.
pub(super) async fn keep_open<W: Write>(
    mesh: &Mesh,
    show: &mut Show<W>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    let proxy = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), mesh::PROXY_PORT);
    let network = mesh.network();
    let team_x = Door::open(network.app(cluster::TEAM_X), proxy).await?;
    let team_y = Door::open(network.app(cluster::TEAM_Y), proxy).await?;
    let roots = mesh.directory().join("outside-root.pem");
    fs::write(&roots, mesh.public_ca().authority().root_pem()).with_context(|| roots.display().to_string())?;

    let (x, y, roots) = (team_x.address(), team_y.address(), roots.display());
    show.note("\nEverything is still running. As team-x: 200, 403 from the gateway, and 200 over TLS that the gateway passes through.")?;
    show.command(format_args!("curl -i -x http://{x} http://example.com"))?;
    show.command(format_args!("curl -i -x http://{x} http://httpbin.org/headers"))?;
    show.command(format_args!(
        "curl -i -x http://{x} --cacert {roots} https://example.com"
    ))?;
    show.note("As team-y: 418, and 502 from its own sidecar, which knows no such host.")?;
    show.command(format_args!("curl -i -x http://{y} http://httpbin.org/status/418"))?;
    show.command(format_args!("curl -i -x http://{y} http://example.com"))?;
    show.note("The resources are watched; what you change is live at once:")?;
    show.command(format_args!("ls {}", mesh.config_directory().display()))?;
    let logs = mesh.logs();
    show.prompt("press ctrl-c to end; what the proxies log follows")?;
    tokio::select! {
        _ = shutdown.requested() => Ok(()),
        ended = follow(&logs, show) => ended,
    }
}

/// Prints log lines as they come.
async fn follow<W: Write>(logs: &Logs, show: &mut Show<W>) -> anyhow::Result<()> {
    let all = [
        ("team-x", &logs.team_x),
        ("team-y", &logs.team_y),
        ("gateway", &logs.gateway),
    ];
    let mut seen = all.map(|(_, log)| log.len());
    loop {
        tokio::select! {
            () = logs.team_x.outgrows(seen[0]) => {}
            () = logs.team_y.outgrows(seen[1]) => {}
            () = logs.gateway.outgrows(seen[2]) => {}
        }
        for ((who, log), seen) in all.iter().zip(&mut seen) {
            let lines = log.since(*seen);
            *seen += lines.len();
            lines.iter().try_for_each(|line| show.logged(who, line))?;
        }
    }
}
