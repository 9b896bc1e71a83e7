//! What is there before the mesh: web sites, their names, scratch space, and programs that every user may run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{
    ROOT,
    network::{NAME_SERVER, Network, Place},
    process::Process,
};
use crate::lab::scene::READY;

/// The web sites, their names, and the scratch space that everybody can read.
pub struct Surroundings {
    files: TempDir,
    sites: Process,
    names: Process,
    program: PathBuf,
}

impl Surroundings {
    /// Starts the web sites and the name server with a `sallyport` program, and waits until they serve.
    ///
    /// # Errors
    /// One of them cannot be started, or there is no scratch space.
    pub async fn start(network: &Network, program: &Path) -> anyhow::Result<Self> {
        let files = tempfile::tempdir().context("scratch directory")?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755))?;
        let program = lend(program, files.path())?;
        let mut sites = network.command(Place::Outside, &program);
        sites.args(["lab", "sites"]).arg(files.path().join(ROOTS));
        let mut names = network.command(Place::Router, &program);
        names.args(["lab", "names", &format!("{NAME_SERVER}:53")]);
        let mut around = Self {
            files,
            sites: Process::start("sites", sites, ROOT)?,
            names: Process::start("names", names, ROOT)?,
            program,
        };
        for process in [&mut around.sites, &mut around.names] {
            process.await_line("readiness", |line| line == READY).await?;
        }
        Ok(around)
    }

    /// A curl that trusts the web sites, run as a user in a namespace.
    pub fn curl(&self, network: &Network, user: u32, place: Place) -> Command {
        let mut curl = network.command_as(user, place, "curl");
        curl.arg("--cacert").arg(self.roots());
        curl
    }

    /// The `sallyport` program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A program that is somebody's own, made everybody's.
    pub(super) fn lend(&self, program: &Path) -> anyhow::Result<PathBuf> {
        lend(program, self.files.path())
    }

    /// A place in the scratch space.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The file with the roots of the web sites' certificates.
    pub fn roots(&self) -> PathBuf {
        self.path(ROOTS)
    }

    /// The web sites; each line of their log is a request that arrived.
    pub fn sites(&mut self) -> &mut Process {
        &mut self.sites
    }

    /// Changes who runs a site: `impostor` or `genuine`.
    ///
    /// # Errors
    /// The sites are gone.
    pub async fn change_scene(&mut self, what: &str, host: &str) -> anyhow::Result<()> {
        let command = format!("{what} {host}");
        self.sites.tell(&command).await?;
        self.sites
            .await_line("the change of scene", |line| line == command)
            .await
    }

    /// Ends them in order; returns the requests that nobody has accounted for.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<String>> {
        Ok(self.sites.stop().await?.rest)
    }
}

const ROOTS: &str = "outside-root.pem";

/// Wherever it was, every user may run it in `directory`.
fn lend(program: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let name = program.file_name().with_context(|| program.display().to_string())?;
    let lent = directory.join(name);
    if !lent.exists() {
        fs::copy(program, &lent).with_context(|| program.display().to_string())?;
    }
    Ok(lent)
}
