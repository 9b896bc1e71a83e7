//! Credentials in files, under the names that Istio gives them.
//!
//! A workload's directory holds `cert-chain.pem`, `key.pem` and `root-cert.pem`; an authority's holds `ca-cert.pem`,
//! `ca-key.pem`, `cert-chain.pem` and `root-cert.pem`, as Istio's `cacerts` secret does. Each file is replaced
//! atomically; keys are readable by their owner only. Following changes is [`crate::FileWatcher`]'s work.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use crate::{
    Certificate, CertificateAuthority, Identity, IdentityError, Roots, RootsError, Svid, SvidError, Trust, TrustBundle,
    pem::certificates_from_pem, store::trust_domain, verify,
};

/// A workload's or an authority's chain.
pub const CERT_CHAIN: &str = "cert-chain.pem";
/// A workload's private key.
pub const KEY: &str = "key.pem";
/// The roots.
pub const ROOT_CERT: &str = "root-cert.pem";
/// An authority's own certificate.
pub const CA_CERT: &str = "ca-cert.pem";
/// An authority's private key.
pub const CA_KEY: &str = "ca-key.pem";

/// Files must be smaller than this. A bundle of the whole public web has about 250 KiB.
const MAX_FILE: u64 = 4 << 20;

/// The text of a file that may hold a key, so that it is never shown.
#[derive(PartialEq, Eq)]
pub struct Text(String);

const OWNER_ONLY: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Why files are not credentials. Each message is complete: the cause is part of it, not a second error below it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// Too much to be a credential.
    #[error("{}: {MAX_FILE} bytes or more, which no certificate, key or bundle has", .0.display())]
    TooLarge(PathBuf),
    /// A chain and a key do not make an identity.
    #[error("{} with {}: {cause}; write both files from one issuance", chain.display(), key.display())]
    Identity {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        cause: IdentityError,
    },
    /// The certificate is no workload's, or not now.
    #[error("{}: {cause}", path.display())]
    Svid {
        /// The chain's file.
        path: PathBuf,
        /// What is wrong.
        cause: SvidError,
    },
    /// The certificate has expired, or is not valid yet.
    #[error("{}: the certificate (serial {serial}) is not valid now: renew it, or compare the clocks", path.display())]
    NotValid {
        /// The chain's file.
        path: PathBuf,
        /// Its serial number.
        serial: String,
    },
    /// The certificate is another workload's than the one that runs.
    #[error("{}: the identity changed from {from} to {to}: restart to become another workload", path.display())]
    OtherWorkload {
        /// The chain's file.
        path: PathBuf,
        /// Who we are.
        from: mesh::id::SpiffeId,
        /// Who the file says we are.
        to: mesh::id::SpiffeId,
    },
    /// The certificate does not lead to the roots beside it.
    #[error("{}: does not lead to the roots of {}: {reason}; no peer that trusts these roots would accept it", path.display(), roots.display())]
    Untrusted {
        /// The chain's file.
        path: PathBuf,
        /// The roots' file.
        roots: PathBuf,
        /// What verification said.
        reason: String,
    },
    /// Not a set of roots.
    #[error("{}: {cause}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: RootsError,
    },
    /// Not an authority's certificate and key.
    #[error("{}: {reason}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An authority is there already.
    #[error("{} exists: an authority's key is not overwritten, since every certificate below it would be lost with it; choose another directory or remove the old one yourself", .0.display())]
    Exists(PathBuf),
}

impl Text {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let text = String::from_utf8(read(path)?);
        // The error would show the text.
        let text = text.map_err(|_| io_error(path, io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text")));
        text.map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl Identity {
    /// Reads a chain and its key from PEM files.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, FileError> {
        let identity = Self::from_pem(&read(chain)?, &read(key)?);
        identity.map_err(|cause| FileError::Identity {
            chain: chain.to_owned(),
            key: key.to_owned(),
            cause,
        })
    }

    /// Writes chain, key and `roots` into a directory, which is created if need be.
    pub fn save(&self, directory: &Path, roots: &Roots) -> Result<(), FileError> {
        create(directory)?;
        write(&directory.join(ROOT_CERT), roots.pem().as_bytes(), PUBLIC)?;
        write(&directory.join(KEY), self.key_pem().as_bytes(), OWNER_ONLY)?;
        write(&directory.join(CERT_CHAIN), self.chain_pem().as_bytes(), PUBLIC)
    }
}

impl Roots {
    /// Reads every certificate of a PEM file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::from_pem(&read(path)?).map_err(|cause| FileError::Roots {
            path: path.to_owned(),
            cause,
        })
    }
}

impl CertificateAuthority {
    /// Reads an authority from its directory and proves that what it issues at `now` leads to its roots.
    pub fn load(directory: &Path, now: SystemTime) -> Result<Self, FileError> {
        let path = directory.join(CA_CERT);
        let refused = |reason: String| FileError::Authority {
            path: path.clone(),
            reason,
        };
        let roots = Roots::load(&directory.join(ROOT_CERT))?;
        let own = certificates(&path)?
            .into_iter()
            .next()
            .ok_or_else(|| refused("there is no certificate in it".to_owned()))?;
        let chain = match directory.join(CERT_CHAIN) {
            chain if chain.exists() => certificates(&chain)?,
            _ => Vec::new(),
        };
        let key = load_signing_key(&directory.join(CA_KEY), &own)?;
        let authority = Self::assemble(&own, intermediates(&own, chain, &roots), roots, key);
        let authority = authority.map_err(|error| refused(error.to_string()))?;
        authority.prove(now).map_err(|error| refused(error.to_string()))?;
        Ok(authority)
    }

    /// Writes the authority into a directory, which is created if need be. An authority that is there is never replaced.
    pub fn save(&self, directory: &Path) -> Result<(), FileError> {
        create(directory)?;
        write_new(&directory.join(CA_KEY), self.key_pem().as_bytes(), OWNER_ONLY)?;
        write(&directory.join(CA_CERT), self.certificate().pem().as_bytes(), PUBLIC)?;
        write(&directory.join(CERT_CHAIN), self.chain_pem().as_bytes(), PUBLIC)?;
        write(&directory.join(ROOT_CERT), self.root_pem().as_bytes(), PUBLIC)
    }
}

/// Reads a workload's directory: its identity, proven against its roots at `now`.
pub(crate) fn load_workload(directory: &Path, now: SystemTime) -> Result<(Identity, Svid, Trust), FileError> {
    let identity = load_valid(&directory.join(CERT_CHAIN), &directory.join(KEY), now)?;
    let svid = identity.svid(now).map_err(|cause| FileError::Svid {
        path: directory.join(CERT_CHAIN),
        cause,
    })?;
    let trust = load_bundle(directory, &svid)?;
    check_trusted(directory, &identity, &trust, now)?;
    Ok((identity, svid, trust))
}

/// Reads the roots of a workload's own trust domain.
pub(crate) fn load_bundle(directory: &Path, svid: &Svid) -> Result<Trust, FileError> {
    let roots = Roots::load(&directory.join(ROOT_CERT))?;
    Ok(Trust::Mesh(TrustBundle::new(trust_domain(svid.id()), roots)))
}

/// Reads the successor of `current` from a workload's directory, proven against `trust` at `now`.
pub(crate) fn load_renewed(
    directory: &Path,
    current: &Svid,
    trust: &Trust,
    now: SystemTime,
) -> Result<Identity, FileError> {
    let path = directory.join(CERT_CHAIN);
    let identity = load_valid(&path, &directory.join(KEY), now)?;
    let renewed = identity.svid(now).map_err(|cause| FileError::Svid {
        path: path.clone(),
        cause,
    })?;
    if renewed.id() != current.id() {
        return Err(FileError::OtherWorkload {
            path,
            from: current.id().clone(),
            to: renewed.id().clone(),
        });
    }
    check_trusted(directory, &identity, trust, now)?;
    Ok(identity)
}

/// Reads a chain and its key; the leaf must be valid at `now`, since an expired one is never better than what we have.
pub(crate) fn load_valid(chain: &Path, key: &Path, now: SystemTime) -> Result<Identity, FileError> {
    let identity = Identity::load(chain, key)?;
    if identity.leaf().is_valid_at(now) {
        return Ok(identity);
    }
    Err(FileError::NotValid {
        path: chain.to_owned(),
        serial: identity.leaf().serial.clone(),
    })
}

fn check_trusted(directory: &Path, identity: &Identity, trust: &Trust, now: SystemTime) -> Result<(), FileError> {
    verify::check_own(trust, identity.chain(), now).map_err(|error| FileError::Untrusted {
        path: directory.join(CERT_CHAIN),
        roots: directory.join(ROOT_CERT),
        reason: verify::tls_failure_reason(&error),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    certificates_from_pem(&read(path)?).map_err(|reason| FileError::Authority {
        path: path.to_owned(),
        reason,
    })
}

/// Reads an authority's key. The reason for a failure is left out on purpose: it could quote the text.
fn load_signing_key(path: &Path, own: &CertificateDer<'_>) -> Result<KeyPair, FileError> {
    let refused = |reason: &str| FileError::Authority {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let text = String::from_utf8(read(path)?).map_err(|_| refused("not PEM text"))?;
    let key = KeyPair::from_pem(&text).map_err(|_| refused("no readable private key, expected unencrypted PEM"))?;
    let certificate = Certificate::parse(own).map_err(|error| refused(&error.to_string()))?;
    if rcgen::PublicKeyData::subject_public_key_info(&key) != certificate.public_key {
        return Err(refused("the key does not belong to the certificate in ca-cert.pem"));
    }
    Ok(key)
}

/// What an issued chain carries between leaf and root: our certificate first, no roots.
fn intermediates(
    own: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: &Roots,
) -> Vec<CertificateDer<'static>> {
    let above = chain.into_iter().filter(|der| der != own).collect::<Vec<_>>();
    std::iter::once(own.clone())
        .chain(above)
        .filter(|der| !roots.certificates().contains(der))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(|cause| io_error(path, cause))?.take(MAX_FILE);
    file.read_to_end(&mut bytes).map_err(|cause| io_error(path, cause))?;
    if file.limit() == 0 {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn create(directory: &Path) -> Result<(), FileError> {
    fs::create_dir_all(directory).map_err(|cause| io_error(directory, cause))
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let written = temporary(path, contents, mode)?.persist(path);
    written.map(drop).map_err(|error| io_error(path, error.error))
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    match temporary(path, contents, mode)?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Exists(path.to_owned())),
        Err(error) => Err(io_error(path, error.error)),
    }
}

/// The finished file under a name of its own, in the same directory so that it can be moved into place.
fn temporary(path: &Path, contents: &[u8], mode: u32) -> Result<tempfile::NamedTempFile, FileError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let fill = || {
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    fill().map_err(|cause| io_error(path, cause))
}

fn io_error(path: &Path, cause: io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        cause,
    }
}
