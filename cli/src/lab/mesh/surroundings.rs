//! What is there before the mesh: the network, the outside, names, authorities, scratch space.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::lab::{
    cluster,
    dns::NameServer,
    network::VirtualNetwork,
    outside::Outside,
    pki::{MeshCa, PublicCa},
};

const TRUST_DOMAIN: &str = "cluster.local";

pub(super) struct Surroundings {
    pub(super) files: TempDir,
    pub(super) network: VirtualNetwork,
    pub(super) names: NameServer,
    pub(super) outside: Outside,
    pub(super) public_ca: PublicCa,
    pub(super) mesh_ca: MeshCa,
}

impl Surroundings {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let (network, names) = (cluster::network(), NameServer::start().await.context("name server")?);
        cluster::publish(names.zone());
        let public_ca = PublicCa::new("Outside Root")?;
        let around = Self {
            files: tempfile::tempdir().context("scratch directory")?,
            outside: Outside::start(|host| network.on(host), cluster::sites(&public_ca)?)?,
            mesh_ca: MeshCa::new(TRUST_DOMAIN)?,
            network,
            names,
            public_ca,
        };
        fs::create_dir(around.config_directory())?;
        fs::write(around.outside_roots(), around.public_ca.authority().root_pem())?;
        Ok(around)
    }

    /// The directory that control watches.
    pub(super) fn config_directory(&self) -> PathBuf {
        self.files.path().join("config")
    }

    /// The file that stands for the operating system's roots.
    pub(super) fn outside_roots(&self) -> PathBuf {
        self.files.path().join("outside-root.pem")
    }
}
