//! Secrets of a bootstrap: which are named, and which file each is in.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::{Files, RenderError};
use crate::{
    SecretName,
    bundle::Bundle,
    secret::{SecretRef, SecretSource},
    tls::{CertificateSource, TrustSource, Validation},
};

/// The workload's own certificate.
pub(super) const WORKLOAD: &str = "default";
/// The mesh's roots.
pub(super) const MESH_ROOTS: &str = "ROOTCA";
/// The operating system's roots.
const SYSTEM_ROOTS: &str = "file-root:system";
/// A file of roots: `file-root:<path>`.
const FILE_ROOTS: &str = "file-root:";
/// A pair of files: `file-cert:<chain>~<key>`.
const FILE_CERTIFICATE: &str = "file-cert:";

/// A name of ours.
pub(super) fn name(text: &str) -> SecretName {
    SecretName::parse(text).expect("our own names are neither empty nor long")
}

/// The secrets that every proxy may be asked to use.
pub(super) fn own() -> BTreeSet<SecretName> {
    [WORKLOAD, MESH_ROOTS, SYSTEM_ROOTS].into_iter().map(name).collect()
}

/// Makes a bundle take its secrets from the bootstrap. Returns their names.
pub(super) fn localize(bundle: &mut Bundle) -> BTreeSet<SecretName> {
    let mut names = BTreeSet::new();
    for listener in bundle.listeners.values_mut() {
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(&mut listener.default_filter_chain);
        for tls in chains.filter_map(|chain| chain.tls.as_mut()) {
            localize_tls(&mut names, Some(&mut tls.certificate), tls.validation.as_mut());
        }
    }
    for tls in bundle.clusters.values_mut().filter_map(|cluster| cluster.tls.as_mut()) {
        localize_tls(&mut names, tls.certificate.as_mut(), tls.validation.as_mut());
    }
    names
}

fn localize_tls(
    names: &mut BTreeSet<SecretName>,
    certificate: Option<&mut CertificateSource>,
    validation: Option<&mut Validation>,
) {
    let mut localize = |secret: &mut SecretRef| {
        secret.source = SecretSource::Static;
        names.insert(secret.name.clone());
    };
    if let Some(CertificateSource::Sds(secret)) = certificate {
        localize(secret);
    }
    if let Some(TrustSource::Sds(secret)) = validation.map(|validation| &mut validation.trust) {
        localize(secret);
    }
}

/// Static secrets of these names.
pub(super) fn from_files(files: &Files, names: BTreeSet<SecretName>) -> Result<Vec<Value>, RenderError> {
    names.into_iter().map(|name| secret(files, name)).collect()
}

fn secret(files: &Files, name: SecretName) -> Result<Value, RenderError> {
    match name.as_str() {
        WORKLOAD => Ok(certificate(&name, &files.chain, &files.key)),
        MESH_ROOTS => Ok(trust(&name, &files.roots)),
        SYSTEM_ROOTS => Ok(trust(&name, &files.system_roots)),
        other => {
            let pair = other
                .strip_prefix(FILE_CERTIFICATE)
                .and_then(|pair| pair.split_once('~'));
            match (pair, other.strip_prefix(FILE_ROOTS)) {
                (Some((chain, key)), _) => Ok(certificate(&name, Path::new(chain), Path::new(key))),
                (None, Some(roots)) => Ok(trust(&name, Path::new(roots))),
                (None, None) => Err(RenderError::Secret(name)),
            }
        }
    }
}

fn certificate(name: &SecretName, chain: &Path, key: &Path) -> Value {
    json!({
        "name": name.as_str(),
        "tls_certificate": {"certificate_chain": file(chain), "private_key": file(key)},
    })
}

fn trust(name: &SecretName, roots: &Path) -> Value {
    json!({"name": name.as_str(), "validation_context": {"trusted_ca": file(roots)}})
}

fn file(path: &Path) -> Value {
    json!({"filename": path.to_string_lossy()})
}
