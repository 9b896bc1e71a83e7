//! Everybody's credentials as files, for a lab whose parts share nothing but volumes: `<member>/` for the mesh's members and the
//! stranger, `sites/<host>/` for the web sites, `sites/impostor/` for who pretends to be example.com, and in `outside/` the root
//! that verifies the sites.
//!
//! Invariants: the authorities' keys are never written; everything belongs to the proxies' user; a hand-out that is complete is
//! left as it is, so that starting again does not part those who run from those who start.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use certs::{CertificateAuthority, LeafRequest, files};
use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
};

use super::{
    cluster,
    namespaces::{Member, PROXY_USER},
    pki::{MeshCa, PublicCa},
};

/// Long enough for whoever leaves a demo running: nobody renews these.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const IMPERSONATED: &str = "example.com";
const IMPOSTOR: &str = "impostor";

/// Writes whatever there is to hand out below `directory`.
///
/// # Errors
/// The file system says no. Only root may give files to the proxies' user.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    if is_complete(directory) {
        return Ok(());
    }
    mesh(directory)?;
    outside(directory)
}

fn is_complete(directory: &Path) -> bool {
    let members = Member::ALL.into_iter().map(|member| directory.join(member.name()));
    let sites = cluster::hosts().chain([IMPOSTOR]).map(|host| site(directory, host));
    let chains = members.chain(sites).map(|owner| owner.join(files::CERT_CHAIN));
    chains.chain([roots(directory)]).all(|file| file.exists())
}

fn mesh(directory: &Path) -> anyhow::Result<()> {
    let mut authorities = HashMap::new();
    for member in Member::ALL {
        let [domain, namespace, account] = member.identity();
        let id = SpiffeId::new(&TrustDomain::parse(domain)?, namespace, account)?;
        let authority = match authorities.entry(domain) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(MeshCa::new(domain)?),
        };
        let request = LeafRequest::svid(&id);
        give(authority.authority(), request, &directory.join(member.name()))?;
    }
    Ok(())
}

fn outside(directory: &Path) -> anyhow::Result<()> {
    let (ca, nobody) = (PublicCa::new("Outside Root")?, PublicCa::new("Nobody")?);
    let given = cluster::hosts().map(|host| (&ca, host, host));
    for (ca, host, owner) in given.chain([(&nobody, IMPERSONATED, IMPOSTOR)]) {
        let request = LeafRequest::server(&Host::parse(host)?);
        give(ca.authority(), request, &site(directory, owner))?;
    }
    let roots = roots(directory);
    let shared = roots.parent().unwrap_or(directory);
    fs::create_dir_all(shared)
        .and_then(|()| fs::write(&roots, ca.authority().root_pem()))
        .with_context(|| roots.display().to_string())
}

/// Issues what is asked for into a directory of the proxies' user.
fn give(authority: &CertificateAuthority, request: LeafRequest, to: &Path) -> anyhow::Result<()> {
    let identity = authority.issue(&request.lifetime(LIFETIME), SystemTime::now())?;
    identity.save(to, authority.roots())?;
    for name in [files::ROOT_CERT, files::KEY, files::CERT_CHAIN] {
        own(&to.join(name))?;
    }
    own(to)
}

fn own(path: &Path) -> anyhow::Result<()> {
    chown(path, Some(PROXY_USER), Some(PROXY_USER))
        .with_context(|| format!("cannot give {} to user {PROXY_USER}, which takes root", path.display()))
}

fn site(directory: &Path, host: &str) -> PathBuf {
    directory.join("sites").join(host)
}

fn roots(directory: &Path) -> PathBuf {
    directory.join("outside").join(files::ROOT_CERT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_complete_hand_out_stays_and_an_incomplete_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        match write(path) {
            // Only root may give files away.
            Err(error) => return assert!(error.to_string().contains("takes root"), "{error:#}"),
            Ok(()) => assert!(is_complete(path)),
        }
        let key = path.join("gateway").join(files::KEY);
        let meta = fs::metadata(&key).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (PROXY_USER, 0o600));
        let before = fs::read(&key).unwrap();
        write(path).unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
        fs::remove_file(roots(path)).unwrap();
        write(path).unwrap();
        assert_ne!(fs::read(&key).unwrap(), before);
    }
}
