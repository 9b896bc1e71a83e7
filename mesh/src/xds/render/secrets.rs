//! Secrets of a bootstrap: which are named, and which file each is in.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::{Files, RenderError};
use crate::{
    SecretName,
    bundle::Bundle,
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

/// The secrets that a bundle names.
pub(super) fn named(bundle: &Bundle) -> BTreeSet<SecretName> {
    let mut names = BTreeSet::new();
    for listener in bundle.listeners.values() {
        for tls in listener
            .filter_chains
            .iter()
            .chain(&listener.default_filter_chain)
            .filter_map(|chain| chain.tls.as_ref())
        {
            collect(&mut names, Some(&tls.certificate), tls.validation.as_ref());
        }
    }
    for tls in bundle.clusters.values().filter_map(|cluster| cluster.tls.as_ref()) {
        collect(&mut names, tls.certificate.as_ref(), tls.validation.as_ref());
    }
    names
}

fn collect(names: &mut BTreeSet<SecretName>, certificate: Option<&CertificateSource>, validation: Option<&Validation>) {
    if let Some(CertificateSource::Sds(secret)) = certificate {
        names.insert(secret.name.clone());
    }
    if let Some(TrustSource::Sds(secret)) = validation.map(|validation| &validation.trust) {
        names.insert(secret.name.clone());
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

/// Makes a listener or cluster take its secrets from the bootstrap, where they have the same names.
pub(super) fn ask_the_bootstrap(resource: &mut Value) {
    if let Some(Value::Array(chains)) = resource.get_mut("filter_chains") {
        chains.iter_mut().for_each(in_socket);
    }
    if let Some(chain) = resource.get_mut("default_filter_chain") {
        in_socket(chain);
    }
    in_socket(resource);
}

/// In the transport socket of a filter chain or cluster.
fn in_socket(holder: &mut Value) {
    let Some(context) = holder.pointer_mut("/transport_socket/typed_config/common_tls_context") else {
        return;
    };
    if let Some(Value::Array(configs)) = context.get_mut("tls_certificate_sds_secret_configs") {
        configs.iter_mut().for_each(without_source);
    }
    if let Some(config) = context.pointer_mut("/combined_validation_context/validation_context_sds_secret_config") {
        without_source(config);
    }
}

fn without_source(config: &mut Value) {
    if let Value::Object(fields) = config {
        fields.remove("sds_config");
    }
}
