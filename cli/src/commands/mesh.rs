//! The settings of the whole mesh, as several subcommands take them.

use std::{fs, path::PathBuf};

use ::control::mesh_config::MeshConfig;
use anyhow::Context as _;
use mesh::id::TrustDomain;

use super::serving;

/// Flags.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Settings of the whole mesh: YAML with the field names of Istio's MeshConfig, and saferDefaults to open what is closed
    /// beyond Istio
    #[arg(long, value_name = "FILE")]
    pub(super) mesh_config: Option<PathBuf>,
    /// Trust domain of the mesh; stands above trustDomain of --mesh-config [default: cluster.local]
    #[arg(long, value_name = "DOMAIN", value_parser = serving::trust_domain)]
    trust_domain: Option<TrustDomain>,
}

impl Args {
    /// What they say.
    pub(super) fn read(&self) -> anyhow::Result<MeshConfig> {
        let mut mesh = match &self.mesh_config {
            None => MeshConfig::default(),
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                MeshConfig::parse(&text).with_context(|| path.display().to_string())?
            }
        };
        if let Some(trust_domain) = &self.trust_domain {
            mesh.trust_domain.clone_from(trust_domain);
        }
        Ok(mesh)
    }
}
