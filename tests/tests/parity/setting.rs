//! What the cases share: authorities, certificates and their files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{CaRequest, CertificateAuthority, Identity, LeafRequest, Live, San};
use mesh::id::TrustDomain;

/// Files that cases name as `{{pki}}/…`, and the identities in them.
pub(crate) struct Setting {
    directory: tempfile::TempDir,
    /// Members of the mesh and those who are not, by name: what clients show.
    pub(crate) identities: BTreeMap<&'static str, Arc<Live<Identity>>>,
    /// Certificates of web sites: what upstreams show.
    pub(crate) sites: BTreeMap<&'static str, Arc<Live<Identity>>>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Setting {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let now = SystemTime::now();
        let root = |request: &CaRequest| CertificateAuthority::root(request, now).expect("an authority");
        let trust_domain = TrustDomain::parse("cluster.local").expect("a trust domain");
        let mesh = root(&CaRequest::mesh(&trust_domain));
        let (foreign, public) = (root(&CaRequest::mesh(&trust_domain)), root(&CaRequest::named("Public")));
        let nobody = root(&CaRequest::named("Nobody"));
        let identities = identities(&mesh, &foreign, now);
        let sites = sites(&public, &nobody, now);
        for (name, identity) in &identities {
            identity
                .save(&directory.path().join(name), mesh.roots())
                .expect("identity files");
        }
        for (name, identity) in &sites {
            identity
                .save(&directory.path().join(name), public.roots())
                .expect("site files");
        }
        Self {
            directory,
            identities: live(identities),
            sites: live(sites),
        }
    }

    /// What a server shows: a site's certificate, or a workload's.
    pub(crate) fn shown(&self, name: &str) -> &Arc<Live<Identity>> {
        let shown = self.sites.get(name).or_else(|| self.identities.get(name));
        shown.unwrap_or_else(|| panic!("there is no site and no identity {name:?}"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A fresh directory for one run.
    pub(crate) fn scratch(&self, run: &str) -> PathBuf {
        let path = self.directory.path().join("runs").join(run);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        path
    }
}

fn live(identities: BTreeMap<&'static str, Identity>) -> BTreeMap<&'static str, Arc<Live<Identity>>> {
    let live = |(name, identity)| (name, Arc::new(Live::new(identity)));
    identities.into_iter().map(live).collect()
}

/// A service account's URI.
fn spiffe(namespace: &str, account: &str) -> San {
    San::Uri(format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"))
}

fn identities(
    mesh: &CertificateAuthority,
    foreign: &CertificateAuthority,
    now: SystemTime,
) -> BTreeMap<&'static str, Identity> {
    let one = |namespace, account| LeafRequest::new([spiffe(namespace, account)]);
    let issued = |request: LeafRequest| mesh.issue(&request, now).expect("a certificate");
    BTreeMap::from([
        ("gateway", issued(one("istio-egress", "istio-egressgateway"))),
        ("team-x", issued(one("team-x", "test"))),
        ("team-y", issued(one("team-y", "test"))),
        (
            "expired",
            issued(one("team-x", "test").between(now - 2 * DAY, now - DAY)),
        ),
        (
            "future",
            issued(one("team-x", "test").between(now + DAY, now + 2 * DAY)),
        ),
        ("no-san", issued(LeafRequest::new([]).common_name("team-x"))),
        (
            "dns-san",
            issued(LeafRequest::new([San::Dns("team-x.test".to_owned())])),
        ),
        (
            "two-sans",
            issued(one("team-x", "test").san(San::Dns("team-x.test".to_owned()))),
        ),
        ("two-uris", issued(one("team-x", "test").san(spiffe("team-y", "test")))),
        (
            "other-domain",
            issued(LeafRequest::new([San::Uri(
                "spiffe://other.test/ns/team-x/sa/test".to_owned(),
            )])),
        ),
        ("named", issued(one("team-x", "test").common_name("team-x, \"test\""))),
        ("all-sans", issued(all_sans())),
        ("ip-san", issued(LeafRequest::new([San::Ip([192, 0, 2, 7].into())]))),
        ("intruding", issued(intruding())),
        ("below", below(mesh, &one("team-x", "test"), now)),
        (
            "foreign",
            foreign.issue(&one("team-x", "test"), now).expect("a certificate"),
        ),
    ])
}

/// Several names of each kind, of which one is a workload's.
fn all_sans() -> LeafRequest {
    let dns = |name: &str| San::Dns(name.to_owned());
    LeafRequest::new([spiffe("team-x", "test"), dns("a.team-x.test"), dns("b.team-x.test")])
        .san(San::Ip([192, 0, 2, 7].into()))
        .san(San::Ip([192, 0, 2, 8].into()))
}

/// Text that would begin a field or a line of its own if it were logged as it is. That names have no line ends is seen to where
/// certificates are read, so that there is no certificate here that has.
fn intruding() -> LeafRequest {
    let name = San::Dns("other.test\", \"forged\": \"x".to_owned());
    LeafRequest::new([spiffe("team-x", "test"), name]).common_name("site.test\nforged\u{1b}[2J")
}

/// Issued by an authority between the root and the leaf.
fn below(root: &CertificateAuthority, request: &LeafRequest, now: SystemTime) -> Identity {
    let between = root.intermediate(&CaRequest::named("Between"), now);
    let between = between.expect("an authority");
    between.issue(request, now).expect("a certificate")
}

fn sites(
    public: &CertificateAuthority,
    nobody: &CertificateAuthority,
    now: SystemTime,
) -> BTreeMap<&'static str, Identity> {
    let dns = |name: &str| LeafRequest::new([San::Dns(name.to_owned())]);
    let issued = |request: LeafRequest| public.issue(&request, now).expect("a certificate");
    BTreeMap::from([
        ("site", issued(dns("site.test"))),
        ("wildcard", issued(dns("*.site.test"))),
        ("other-site", issued(dns("other.test"))),
        (
            "expired-site",
            issued(dns("site.test").between(now - 2 * DAY, now - DAY)),
        ),
        ("nameless-site", issued(LeafRequest::new([]).common_name("site.test"))),
        (
            "address-site",
            issued(LeafRequest::new([San::Ip([127, 0, 0, 1].into())])),
        ),
        ("intruding-site", issued(intruding())),
        ("site-below", below(public, &dns("site.test"), now)),
        (
            "unknown-site",
            nobody.issue(&dns("site.test"), now).expect("a certificate"),
        ),
    ])
}
