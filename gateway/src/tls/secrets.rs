//! Where the certificates and roots are that configuration names.
//!
//! Configuration holds references; this resolves them to cells that are read at each handshake. Invariant: a name that
//! means nothing here is an error that says so, never an absent check.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use certs::{FileWatcher, Identity, Live, Roots, Trust, Workload};
use mesh::{
    SecretName,
    secret::{Material, SecretContent},
    tls::{CertificateSource, TrustSource},
};

/// The workload's own SVID (Istio's name).
const OWN: &str = "default";
/// The mesh's trust bundle (Istio's name).
const MESH_ROOTS: &str = "ROOTCA";
/// A pair of files: `file-cert:<chain>~<key>`.
const FILE_CERTIFICATE: &str = "file-cert:";
/// A file of roots: `file-root:<path>`.
const FILE_ROOTS: &str = "file-root:";
/// The operating system's roots.
const SYSTEM_ROOTS: &str = "file-root:system";

/// Resolves references to secrets.
pub(crate) struct Secrets {
    workload: Option<Workload>,
    fixed: BTreeMap<SecretName, SecretContent>,
    system_roots: Option<PathBuf>,
    files: Arc<FileWatcher>,
    /// Cells already made, so that a file is followed once and TLS sessions can be compared by their cells.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    certificates: HashMap<(PathBuf, PathBuf), Arc<Live<Identity>>>,
    roots: HashMap<PathBuf, Arc<Live<Trust>>>,
    system: Option<Arc<Live<Trust>>>,
}

impl Secrets {
    /// Secrets of a workload, and `fixed` ones that come first. `system_roots` stands for the operating system's roots if
    /// given.
    pub(crate) fn new(
        workload: Option<Workload>,
        fixed: BTreeMap<SecretName, SecretContent>,
        system_roots: Option<PathBuf>,
        files: Arc<FileWatcher>,
    ) -> Self {
        Self {
            workload,
            fixed,
            system_roots,
            files,
            known: Mutex::default(),
        }
    }

    /// The certificate that a source names.
    ///
    /// # Errors
    /// In words for an operator.
    pub(crate) fn certificate(&self, source: &CertificateSource) -> Result<Arc<Live<Identity>>, String> {
        let name = match source {
            CertificateSource::Files { chain, key } => return self.certificate_files(chain, key),
            CertificateSource::Sds(secret) => &secret.name,
        };
        match self.fixed.get(name) {
            Some(SecretContent::Certificate { chain, key }) => return self.fixed_certificate(name, chain, key),
            Some(SecretContent::Trust(_)) => return Err(format!("secret {name} is not a certificate")),
            None if name.as_str() == OWN => return self.workload(name).map(|own| own.identity.clone()),
            None => {}
        }
        let files = name.as_str().strip_prefix(FILE_CERTIFICATE);
        match files.map(|files| files.split_once('~')) {
            Some(Some((chain, key))) => self.certificate_files(Path::new(chain), Path::new(key)),
            Some(None) => Err(format!("secret {name}: expected {FILE_CERTIFICATE}<chain>~<key>")),
            None => Err(unknown(name, "default or file-cert:<chain>~<key>")),
        }
    }

    /// The roots that a source names.
    ///
    /// # Errors
    /// In words for an operator.
    pub(crate) fn trust(&self, source: &TrustSource) -> Result<Arc<Live<Trust>>, String> {
        let name = match source {
            TrustSource::File(path) => return self.root_file(path),
            TrustSource::Sds(secret) => &secret.name,
        };
        match self.fixed.get(name) {
            Some(SecretContent::Trust(Material::File(path))) => return self.root_file(path),
            Some(SecretContent::Trust(Material::Inline(text))) => {
                let roots = Roots::from_pem(text).map_err(|error| format!("secret {name}: {error}"))?;
                return Ok(Arc::new(Live::new(Trust::Roots(roots))));
            }
            Some(SecretContent::Certificate { .. }) => return Err(format!("secret {name} is not a set of roots")),
            None => {}
        }
        match name.as_str() {
            MESH_ROOTS => self.workload(name).map(|own| own.trust.clone()),
            SYSTEM_ROOTS => self.system(),
            other => match other.strip_prefix(FILE_ROOTS) {
                Some(path) => self.root_file(Path::new(path)),
                None => Err(unknown(name, "ROOTCA, file-root:system or file-root:<path>")),
            },
        }
    }

    fn fixed_certificate(
        &self,
        name: &SecretName,
        chain: &Material,
        key: &Material,
    ) -> Result<Arc<Live<Identity>>, String> {
        match (chain, key) {
            (Material::File(chain), Material::File(key)) => self.certificate_files(chain, key),
            (Material::Inline(chain), Material::Inline(key)) => {
                let identity = Identity::from_pem(chain, key).map_err(|error| format!("secret {name}: {error}"))?;
                Ok(Arc::new(Live::new(identity)))
            }
            _ => Err(format!(
                "secret {name}: expected certificate and key both inline or both in files"
            )),
        }
    }

    fn workload(&self, name: &SecretName) -> Result<&Workload, String> {
        self.workload
            .as_ref()
            .ok_or_else(|| format!("secret {name}: this proxy was started without a workload identity"))
    }

    fn certificate_files(&self, chain: &Path, key: &Path) -> Result<Arc<Live<Identity>>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (chain.to_owned(), key.to_owned());
        if let Some(cell) = known.certificates.get(&place) {
            return Ok(cell.clone());
        }
        let cell = self.files.identity(chain, key).map_err(|error| error.to_string())?;
        known.certificates.insert(place, cell.clone());
        Ok(cell)
    }

    fn root_file(&self, path: &Path) -> Result<Arc<Live<Trust>>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = known.roots.get(path) {
            return Ok(cell.clone());
        }
        let cell = self.files.roots(path).map_err(|error| error.to_string())?;
        known.roots.insert(path.to_owned(), cell.clone());
        Ok(cell)
    }

    fn system(&self) -> Result<Arc<Live<Trust>>, String> {
        if let Some(path) = &self.system_roots {
            return self.root_file(path);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = &known.system {
            return Ok(cell.clone());
        }
        let roots = Roots::system().map_err(|error| error.to_string())?;
        let cell = Arc::new(Live::new(Trust::Roots(roots)));
        known.system = Some(cell.clone());
        Ok(cell)
    }
}

fn unknown(name: &SecretName, accepted: &str) -> String {
    format!("secret {name} is not available here, accepted: {accepted}")
}
