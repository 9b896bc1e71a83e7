use std::{path::Path, time::Duration};

use certs::{CaRequest, CertificateAuthority, LeafRequest};
use mesh::{SecretName, id::SpiffeId};
use tempfile::TempDir;

use super::*;

fn authority() -> CertificateAuthority {
    CertificateAuthority::root(&CaRequest::named("test"), SystemTime::now()).unwrap()
}

fn request() -> LeafRequest {
    LeafRequest::svid(&SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap())
}

fn feed() -> Feed {
    let tools = Tools {
        files: Arc::new(FileWatcher::new()),
        runtime: Runtime::new(tokio::runtime::Handle::current()),
        arrivals: Arc::default(),
    };
    Feed::new(SecretSource::Ads, tools)
}

/// A directory with an identity in Istio's layout.
fn saved(identity: &Identity, authority: &CertificateAuthority) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    identity.save(directory.path(), authority.roots()).unwrap();
    directory
}

fn secret(name: &str, content: SecretContent) -> Secret {
    Secret {
        name: SecretName::parse(name).unwrap(),
        content,
    }
}

fn read(directory: &Path, file: &str) -> Material {
    Material::Inline(std::fs::read(directory.join(file)).unwrap())
}

fn certificate(name: &str, chain: &Path, key: &Path) -> Secret {
    let (chain, key) = (read(chain, "cert-chain.pem"), read(key, "key.pem"));
    secret(name, SecretContent::Certificate { chain, key })
}

fn roots(name: &str, authority: &CertificateAuthority) -> Secret {
    secret(
        name,
        SecretContent::Trust(Material::Inline(authority.root_pem().into_bytes())),
    )
}

#[tokio::test]
async fn a_secret_is_awaited_then_there_then_replaced_in_place() {
    let (feed, authority) = (feed(), authority());
    assert!(feed.certificate("default").unwrap().is_none());
    assert!(feed.wanted().borrow().contains("default"));
    let first = authority.issue(&request(), SystemTime::now()).unwrap();
    let second = authority.issue(&request(), SystemTime::now()).unwrap();
    let (old, new) = (saved(&first, &authority), saved(&second, &authority));

    feed.take(&certificate("default", old.path(), old.path())).unwrap();
    feed.tools.arrivals.notified().await;
    let cell = feed.certificate("default").unwrap().unwrap();
    assert!(*cell.load() == first);
    feed.take(&certificate("default", new.path(), new.path())).unwrap();
    assert!(*cell.load() == second);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_changes_nothing() {
    let (feed, authority) = (feed(), authority());
    let good = authority.issue(&request(), SystemTime::now()).unwrap();
    let other = authority.issue(&request(), SystemTime::now()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let expired = request().between(long_ago, long_ago + Duration::from_secs(60));
    let expired = authority.issue(&expired, SystemTime::now()).unwrap();
    let [good_files, other, expired] = [&good, &other, &expired].map(|identity| saved(identity, &authority));
    feed.take(&certificate("a", good_files.path(), good_files.path()))
        .unwrap();
    let cell = feed.certificate("a").unwrap().unwrap();

    let key = std::fs::read_to_string(other.path().join("key.pem")).unwrap();
    let junk = |text: &str| Material::Inline(text.into());
    let bad = [
        (
            certificate("a", good_files.path(), other.path()),
            "the private key does not belong",
        ),
        (certificate("a", expired.path(), expired.path()), "is not valid now"),
        (
            secret("a", SecretContent::Trust(junk("no roots"))),
            "there is no root certificate",
        ),
        (
            secret(
                "a",
                SecretContent::Certificate {
                    chain: read(other.path(), "cert-chain.pem"),
                    key: junk(&key[..90]),
                },
            ),
            "there is no readable private key",
        ),
        (
            secret(
                "a",
                SecretContent::Certificate {
                    chain: junk(&key),
                    key: Material::File("/nowhere".into()),
                },
            ),
            "both in place or both in files",
        ),
    ];
    for (secret, expect) in bad {
        let reason = feed.take(&secret).unwrap_err();
        assert!(reason.contains(expect), "{reason}");
        assert!(
            key.lines()
                .all(|line| line.starts_with("-----") || !reason.contains(line)),
            "{reason}"
        );
        assert!(*cell.load() == good);
    }
}

#[tokio::test]
async fn another_kind_than_is_needed_is_named() {
    let (feed, authority) = (feed(), authority());
    feed.take(&roots("ROOTCA", &authority)).unwrap();
    assert!(feed.trust("ROOTCA").unwrap().is_some());
    let error = feed.certificate("ROOTCA").err().unwrap();
    assert_eq!(error, "secret ROOTCA of the control plane is not a certificate");
}

#[tokio::test]
async fn what_nothing_needs_is_no_longer_asked_for() {
    let (feed, authority) = (feed(), authority());
    for name in ["used", "needed", "neither"] {
        assert!(feed.trust(name).unwrap().is_none());
        feed.take(&roots(name, &authority)).unwrap();
    }
    assert!(feed.trust("awaited").unwrap().is_none());
    let used = feed.trust("used").unwrap();
    feed.retain(&BTreeSet::from(["needed"]));
    let wanted = feed.wanted();
    assert_eq!(*wanted.borrow(), BTreeSet::from(["needed", "used"].map(Name::from)));
    drop(used);
    feed.retain(&BTreeSet::new());
    assert!(feed.is_idle());
}

#[tokio::test]
async fn files_that_a_secret_names_are_followed() {
    let (feed, authority) = (feed(), authority());
    let files = feed.tools.files.clone();
    let watching = tokio::spawn(async move { files.run().await });
    let first = authority.issue(&request(), SystemTime::now()).unwrap();
    let directory = saved(&first, &authority);
    let file = |name: &str| Material::File(directory.path().join(name));
    let (chain, key) = (file("cert-chain.pem"), file("key.pem"));
    feed.take(&secret("a", SecretContent::Certificate { chain, key }))
        .unwrap();
    let cell = feed.certificate("a").unwrap().unwrap();
    assert!(*cell.load() == first);

    let mut changes = cell.subscribe();
    let second = authority.issue(&request(), SystemTime::now()).unwrap();
    second.save(directory.path(), authority.roots()).unwrap();
    while *cell.load() != second {
        let changed = tokio::time::timeout(Duration::from_secs(20), changes.changed()).await;
        changed.expect("in time").unwrap();
    }
    feed.retain(&BTreeSet::new());
    assert!(feed.certificate("a").unwrap().is_some(), "it is in use");
    watching.abort();
}
