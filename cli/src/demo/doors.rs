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
        mesh::{self, Mesh},
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
    show.note("\nEverything is still running. As team-x:")?;
    show.command(format_args!("curl -x http://{x} http://example.com"))?;
    show.command(format_args!("curl -x http://{x} http://httpbin.org/headers"))?;
    show.command(format_args!("curl -x http://{x} --cacert {roots} https://example.com"))?;
    show.note("As team-y:")?;
    show.command(format_args!("curl -x http://{y} http://httpbin.org/status/418"))?;
    show.command(format_args!("curl -x http://{y} http://example.com"))?;
    show.note("The resources are watched; what you change is live at once:")?;
    show.command(format_args!("ls {}", mesh.config_directory().display()))?;
    show.prompt("press ctrl-c to end")?;
    shutdown.requested().await;
    Ok(())
}
