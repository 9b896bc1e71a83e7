//! Secrets of a bootstrap: which are named, and which file each is in.

use std::{collections::BTreeSet, path::Path, sync::Arc};

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
    let mut secrets: Vec<&mut SecretRef> = Vec::new();
    for listener in bundle.listeners.values_mut().map(Arc::make_mut) {
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(&mut listener.default_filter_chain);
        for tls in chains.filter_map(|chain| chain.tls.as_mut()) {
            secrets.extend(of_certificate(&mut tls.certificate));
            secrets.extend(tls.validation.as_mut().and_then(of_validation));
        }
    }
    for tls in bundle
        .clusters
        .values_mut()
        .map(Arc::make_mut)
        .filter_map(|cluster| cluster.tls.as_mut())
    {
        secrets.extend(tls.certificate.as_mut().and_then(of_certificate));
        secrets.extend(tls.validation.as_mut().and_then(of_validation));
    }
    let localize = |secret: &mut SecretRef| {
        secret.source = SecretSource::Static;
        secret.name.clone()
    };
    secrets.into_iter().map(localize).collect()
}

fn of_certificate(certificate: &mut CertificateSource) -> Option<&mut SecretRef> {
    match certificate {
        CertificateSource::Sds(secret) => Some(secret),
        CertificateSource::Files { .. } => None,
    }
}

fn of_validation(validation: &mut Validation) -> Option<&mut SecretRef> {
    match &mut validation.trust {
        TrustSource::Sds(secret) => Some(secret),
        TrustSource::File(_) => None,
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
