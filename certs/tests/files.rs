//! Credentials in directories: what is read, what is followed, and what never comes into force.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{
    CaRequest, CertificateAuthority, FileWatcher, Identity, LeafRequest, Live, Roots, San, Trust,
    files::{CA_CERT, CA_KEY, CERT_CHAIN, FileError, KEY, ROOT_CERT},
};
use mesh::id::{SpiffeId, TrustDomain};
use tempfile::{TempDir, tempdir};

const ID: &str = "spiffe://mesh.test/ns/team-x/sa/app";
const DEADLINE: Duration = Duration::from_secs(20);

fn authority() -> CertificateAuthority {
    let domain = TrustDomain::parse("mesh.test").unwrap();
    CertificateAuthority::root(&CaRequest::mesh(&domain), SystemTime::now()).unwrap()
}

fn request() -> LeafRequest {
    LeafRequest::svid(&SpiffeId::parse(ID).unwrap())
}

fn issue(ca: &CertificateAuthority) -> Identity {
    ca.issue(&request(), SystemTime::now()).unwrap()
}

fn serial(cell: &Live<Identity>) -> String {
    cell.load().leaf().serial.clone()
}

/// Waits until the watcher has replaced the value, while it runs.
async fn replaced<T>(watcher: &FileWatcher, cell: &Live<T>, done: impl Fn(&T) -> bool) {
    let mut changes = cell.subscribe();
    let wait = async {
        while !done(&cell.load()) {
            changes.changed().await.unwrap();
        }
    };
    let wait = tokio::time::timeout(DEADLINE, wait);
    tokio::select! {
        result = wait => result.expect("the change is seen"),
        () = watcher.run() => unreachable!("runs for ever"),
    }
}

/// A directory as Kubernetes mounts a secret: names are links through `..data`, which is a link to a version.
struct Mount {
    directory: TempDir,
    version: u32,
}

impl Mount {
    fn new(identity: &Identity, roots: &Roots) -> Self {
        let mut mount = Self {
            directory: tempdir().unwrap(),
            version: 0,
        };
        mount.publish(identity, roots);
        for name in [CERT_CHAIN, KEY, ROOT_CERT] {
            symlink(Path::new("..data").join(name), mount.path().join(name)).unwrap();
        }
        mount
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn publish(&mut self, identity: &Identity, roots: &Roots) {
        self.version += 1;
        let version = format!("..version-{}", self.version);
        identity.save(&self.path().join(&version), roots).unwrap();
        symlink(&version, self.path().join("..data_tmp")).unwrap();
        fs::rename(self.path().join("..data_tmp"), self.path().join("..data")).unwrap();
    }
}

#[test]
fn files_have_istios_names_and_keys_are_private() {
    let (ca, directory) = (authority(), tempdir().unwrap());
    let path = directory.path().join("made/on/the/way");
    issue(&ca).save(&path, ca.roots()).unwrap();
    ca.save(&path.join("ca")).unwrap();
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([KEY, "ca/ca-key.pem"].map(mode), [0o600; 2]);
    for name in [
        CERT_CHAIN,
        ROOT_CERT,
        "ca/ca-cert.pem",
        "ca/cert-chain.pem",
        "ca/root-cert.pem",
    ] {
        assert_eq!(mode(name) & 0o600, 0o600, "{name}");
        assert!(
            !fs::read_to_string(path.join(name)).unwrap().contains("PRIVATE"),
            "{name}"
        );
    }
    assert_eq!(
        fs::read_dir(&path).unwrap().count(),
        4,
        "nothing temporary stays behind"
    );
}

#[test]
fn an_authority_reads_back_and_goes_on_signing() {
    let now = SystemTime::now();
    let root = authority();
    for ca in [root.intermediate(&CaRequest::named("below"), now).unwrap(), root] {
        let directory = tempdir().unwrap();
        ca.save(directory.path()).unwrap();
        let read = CertificateAuthority::load(directory.path(), now).unwrap();
        assert_eq!((read.certificate(), read.roots()), (ca.certificate(), ca.roots()));
        assert_eq!(issue(&read).chain()[1..], issue(&ca).chain()[1..]);
    }
}

#[test]
fn an_authority_is_never_overwritten() {
    let directory = tempdir().unwrap();
    let first = authority();
    first.save(directory.path()).unwrap();
    assert!(matches!(authority().save(directory.path()), Err(FileError::Exists(_))));
    let read = CertificateAuthority::load(directory.path(), SystemTime::now()).unwrap();
    assert_eq!(read.certificate(), first.certificate());
}

#[test]
fn a_directory_that_is_no_authority_is_refused() {
    #[track_caller]
    fn check(spoil: impl FnOnce(&Path), expect: &str) {
        let directory = tempdir().unwrap();
        authority().save(directory.path()).unwrap();
        spoil(directory.path());
        let error = CertificateAuthority::load(directory.path(), SystemTime::now())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expect), "{error}");
    }
    let ca = authority();
    let leaf = issue(&ca);
    check(|path| fs::remove_file(path.join(CA_KEY)).unwrap(), "ca-key.pem");
    check(
        |path| fs::write(path.join(CA_KEY), "x").unwrap(),
        "no readable private key",
    );
    check(|path| fs::write(path.join(CA_CERT), "x").unwrap(), "no certificate");
    check(
        |path| fs::write(path.join(CA_CERT), ca.root_pem()).unwrap(),
        "the key does not belong to the certificate",
    );
    check(
        |path| fs::write(path.join(ROOT_CERT), ca.root_pem()).unwrap(),
        "does not lead to its roots",
    );
    check(
        |path| fs::write(path.join(ROOT_CERT), "").unwrap(),
        "no root certificate",
    );
    check(
        |path| {
            leaf.save(path, ca.roots()).unwrap();
            fs::copy(path.join(KEY), path.join(CA_KEY)).unwrap();
            fs::copy(path.join(CERT_CHAIN), path.join(CA_CERT)).unwrap();
        },
        "does not lead to its roots",
    );
}

#[test]
fn a_directory_that_is_no_workload_is_refused_with_the_file_and_the_fix() {
    #[track_caller]
    fn check(request: &LeafRequest, spoil: impl FnOnce(&Path), expect: &str) {
        let (ca, directory) = (authority(), tempdir().unwrap());
        ca.issue(request, SystemTime::now())
            .unwrap()
            .save(directory.path(), ca.roots())
            .unwrap();
        spoil(directory.path());
        let error = FileWatcher::new().workload(directory.path()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    check(&request(), |path| fs::remove_file(path.join(KEY)).unwrap(), "key.pem");
    check(
        &request(),
        |path| fs::write(path.join(KEY), vec![b'x'; (4 << 20) + 1]).unwrap(),
        "4194304 bytes or more",
    );
    check(
        &request(),
        |path| fs::write(path.join(ROOT_CERT), authority().root_pem()).unwrap(),
        "does not lead to the roots of",
    );
    check(
        &request().between(now - hour * 2, now - hour),
        |_| {},
        "is not valid now: renew it",
    );
    check(
        &LeafRequest::new([San::Dns("a.test".into())]),
        |_| {},
        "no URI subject alternative name",
    );
    let other = authority();
    check(
        &request(),
        |path| fs::write(path.join(CERT_CHAIN), issue(&other).chain_pem()).unwrap(),
        "does not belong to the first",
    );
}

#[tokio::test]
async fn a_renewed_identity_comes_into_force() {
    let (ca, directory, watcher) = (authority(), tempdir().unwrap(), FileWatcher::new());
    issue(&ca).save(directory.path(), ca.roots()).unwrap();
    let workload = watcher.workload(directory.path()).unwrap();
    assert_eq!(workload.id().as_str(), ID);
    let key = fs::read_to_string(directory.path().join(KEY)).unwrap();
    let shown = format!("{workload:?} {watcher:?}");
    assert!(
        shown.contains(ID) && key.lines().all(|line| !shown.contains(line)),
        "{shown}"
    );
    let next = issue(&ca);
    next.save(directory.path(), ca.roots()).unwrap();
    replaced(&watcher, &workload.identity, |now| *now == next).await;
}

#[tokio::test]
async fn a_swap_of_symbolic_links_comes_into_force() {
    let (ca, watcher) = (authority(), FileWatcher::new());
    let mut mount = Mount::new(&issue(&ca), ca.roots());
    let workload = watcher.workload(mount.path()).unwrap();
    for _ in 0..2 {
        let next = issue(&ca);
        mount.publish(&next, ca.roots());
        replaced(&watcher, &workload.identity, |now| *now == next).await;
    }
}

#[tokio::test]
async fn a_new_authority_comes_into_force_with_its_identity() {
    let (old, new, watcher) = (authority(), authority(), FileWatcher::new());
    let mut mount = Mount::new(&issue(&old), old.roots());
    let workload = watcher.workload(mount.path()).unwrap();
    let next = issue(&new);
    mount.publish(&next, new.roots());
    replaced(&watcher, &workload.identity, |now| *now == next).await;
    let Trust::Mesh(bundle) = &*workload.trust.load() else {
        panic!("a mesh")
    };
    assert_eq!(bundle.roots("mesh.test"), Some(new.roots()));
}

#[tokio::test]
async fn what_is_broken_or_half_written_leaves_the_last_good_in_force() {
    let (ca, directory, watcher) = (authority(), tempdir().unwrap(), FileWatcher::new());
    let path = directory.path();
    issue(&ca).save(path, ca.roots()).unwrap();
    let workload = watcher.workload(path).unwrap();
    let roots = Arc::new(fs::read(path.join(ROOT_CERT)).unwrap());
    // A second set of files in the same directory tells when the watcher has looked at everything once more.
    let marker = watcher.roots(&path.join(ROOT_CERT)).unwrap();

    let (chain, key) = (
        fs::read(path.join(CERT_CHAIN)).unwrap(),
        fs::read(path.join(KEY)).unwrap(),
    );
    let elsewhere = LeafRequest::svid(&SpiffeId::parse("spiffe://mesh.test/ns/other/sa/app").unwrap());
    let elsewhere = ca.issue(&elsewhere, SystemTime::now()).unwrap();
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: [Spoil<'_>; 7] = [
        Box::new(|| fs::write(path.join(CERT_CHAIN), issue(&ca).chain_pem()).unwrap()),
        Box::new(|| fs::write(path.join(CERT_CHAIN), &chain[..chain.len() / 2]).unwrap()),
        Box::new(|| fs::write(path.join(CERT_CHAIN), "").unwrap()),
        Box::new(|| fs::write(path.join(KEY), &key[..key.len() / 2]).unwrap()),
        Box::new(|| fs::remove_file(path.join(KEY)).unwrap()),
        Box::new(|| issue(&authority()).save(path, ca.roots()).unwrap()),
        Box::new(|| elsewhere.save(path, ca.roots()).unwrap()),
    ];
    let before = serial(&workload.identity);
    for (case, spoil) in cases.iter().enumerate() {
        spoil();
        let extra = authority();
        let text = [&roots[..], extra.root_pem().as_bytes()].concat();
        fs::write(path.join(ROOT_CERT), text).unwrap();
        let extra = &extra.roots().certificates()[0];
        replaced(
            &watcher,
            &marker,
            |now| matches!(now, Trust::Roots(roots) if roots.certificates().contains(extra)),
        )
        .await;
        assert_eq!(serial(&workload.identity), before, "case {case}");
        fs::write(path.join(CERT_CHAIN), &chain).unwrap();
        fs::write(path.join(KEY), &key).unwrap();
    }
    let next = issue(&ca);
    next.save(path, ca.roots()).unwrap();
    replaced(&watcher, &workload.identity, |now| *now == next).await;
}

#[tokio::test]
async fn any_chain_key_and_roots_are_followed_where_they_lie() {
    let (ca, directory, watcher) = (authority(), tempdir().unwrap(), FileWatcher::new());
    let partner = || {
        ca.issue(&LeafRequest::new([San::Dns("me.test".into())]), SystemTime::now())
            .unwrap()
    };
    partner().save(directory.path(), ca.roots()).unwrap();
    let file = |name: &str| directory.path().join(name);
    let identity = watcher.identity(&file(CERT_CHAIN), &file(KEY)).unwrap();
    let roots = watcher.roots(&file(ROOT_CERT)).unwrap();
    let (next, other) = (partner(), authority());
    next.save(directory.path(), other.roots()).unwrap();
    replaced(&watcher, &identity, |now| *now == next).await;
    replaced(&watcher, &roots, |now| *now == Trust::Roots(other.roots().clone())).await;
}
