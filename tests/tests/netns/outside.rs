//! What is there before the mesh: web sites, their names, and scratch space.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    network::{NAME_SERVER, Network, Place},
    process::Process,
};

/// The web sites, their names, and the scratch space that everybody can read.
pub(crate) struct Outside {
    files: TempDir,
    pub(crate) sites: Process,
    names: Process,
}

impl Outside {
    /// Starts the web sites and the name server, and waits until they serve.
    pub(crate) fn start(network: &Network) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).unwrap();
        let program = env!("CARGO_BIN_EXE_outside");
        let mut sites = network.command(Place::Outside, program);
        sites.arg("sites").arg(files.path().join("outside-root.pem"));
        let mut names = network.command(Place::Router, program);
        names.args(["names", &format!("{NAME_SERVER}:53")]);
        let mut outside = Self {
            files,
            sites: Process::start("sites", sites),
            names: Process::start("names", names),
        };
        outside.sites.await_line("readiness", |line| line == "ready");
        outside.names.await_line("readiness", |line| line == "ready");
        outside
    }

    /// A curl that trusts the web sites, run as a user in a namespace.
    pub(crate) fn curl(&self, network: &Network, user: u32, place: Place) -> Command {
        let mut curl = network.command_as(user, place, "curl");
        curl.arg("--cacert").arg(self.path("outside-root.pem"));
        curl
    }

    /// A place in the scratch space.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Changes who runs a site.
    pub(crate) fn change_scene(&mut self, what: &str, host: &str) {
        let command = format!("{what} {host}");
        self.sites.tell(&command);
        self.sites.await_line("the change of scene", |line| line == command);
    }
}

/// A copy of the program that every user may run, wherever it was built.
pub(crate) fn program(directory: &Path) -> PathBuf {
    let program = directory.join("sallyport");
    fs::copy(env!("CARGO_BIN_EXE_sallyport-under-test"), &program).unwrap();
    program
}
