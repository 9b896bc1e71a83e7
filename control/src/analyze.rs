//! What objects mean together: references that lead nowhere, objects that compete, settings without effect.
//!
//! Findings carry Istio's codes. An `Error` here keeps the object from being applied, so it is an error only where applying it
//! would break or replace something; what merely has no effect is a warning, also where `istioctl` calls it an error
//! (unknown namespaces, subsets without endpoints): to withhold a policy for a misspelt namespace would open what it closes.
//! IST0128 and IST0129 are not here: without `caCertificates` a server is verified against the system's roots.

mod advice;
mod context;
mod destination_rules;
mod gateways;
mod policies;
mod sidecars;
mod virtual_services;

use std::path::Path;

use context::Context;

use crate::{
    diag::Diagnostic,
    istio::{self, Objects, Skipped},
    mesh_config::MeshConfig,
};

/// The result of looking at a directory.
#[derive(Debug, serde::Serialize)]
pub struct Analysis {
    /// Everything there is to say, in order of place.
    pub diagnostics: Vec<Diagnostic>,
    /// How many objects were read and are in order by themselves.
    pub objects: usize,
    /// Objects of kinds that concern no proxy.
    pub skipped: Vec<Skipped>,
}

/// Reads a directory (or a file) and checks everything in it, for a mesh with these settings.
pub fn analyze(path: &Path, mesh: &MeshConfig) -> Analysis {
    let loaded = istio::load(path);
    let (mut diagnostics, none) = (loaded.diagnostics, Objects::default());
    diagnostics.extend(check(&loaded.objects, &none, &mesh.root_namespace));
    let context = Context::new(&loaded.objects, &none, &mesh.root_namespace);
    advice::give(&context, mesh, &mut diagnostics);
    diagnostics.sort();
    Analysis {
        diagnostics,
        objects: loaded.objects.len(),
        skipped: loaded.skipped,
    }
}

/// Checks objects against each other. Of two that compete the one that is `established` prevails, else the older.
pub fn check(objects: &Objects, established: &Objects, root_namespace: &str) -> Vec<Diagnostic> {
    let context = Context::new(objects, established, root_namespace);
    let mut diagnostics = Vec::new();
    virtual_services::check(&context, &mut diagnostics);
    destination_rules::check(&context, &mut diagnostics);
    gateways::check(&context, &mut diagnostics);
    sidecars::check(&context, &mut diagnostics);
    policies::check(&context, &mut diagnostics);
    diagnostics.sort();
    diagnostics
}
