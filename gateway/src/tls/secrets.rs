//! Where the certificates and roots are that configuration names.
//!
//! Configuration holds references; this resolves them to cells that are read at each handshake. Some are here, some must be
//! asked for and arrive later. Invariant: a name that means nothing here is an error that says so, never an absent check.

mod feed;
mod file;
mod reference;

pub(crate) use feed::{Feed, Tools};
pub(crate) use reference::{Reference, of_cluster, of_listener};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certs::{Identity, Live, Roots, Trust, Workload};
use mesh::{
    ClusterName, SecretName,
    secret::{AGENT_CLUSTER, Material, SecretContent, SecretRef, SecretSource},
    source::FileSource,
    tls::{CertificateSource, TrustSource},
    xds::bootstrap::Node,
};
use tokio::sync::watch;

use crate::{ads, drain::Background};

/// The workload's own SVID (Istio's name).
pub(crate) const OWN: &str = "default";
/// The mesh's trust bundle (Istio's name).
pub(crate) const MESH_ROOTS: &str = "ROOTCA";
/// A pair of files: `file-cert:<chain>~<key>`.
const FILE_CERTIFICATE: &str = "file-cert:";
/// A file of roots: `file-root:<path>`.
const FILE_ROOTS: &str = "file-root:";
/// The operating system's roots.
const SYSTEM_ROOTS: &str = "file-root:system";

/// Where a data plane's secrets are.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Stands in for an identity agent.
    pub(crate) workload: Option<Workload>,
    /// The bootstrap's own.
    pub(crate) fixed: BTreeMap<SecretName, SecretContent>,
    /// Secret discovery services, by their static cluster: `host:port` on loopback, or `unix:<path>`.
    pub(crate) services: BTreeMap<ClusterName, String>,
    /// Who asks them.
    pub(crate) node: Node,
    /// Stands for the operating system's roots if given.
    pub(crate) system_roots: Option<PathBuf>,
}

/// Resolves references to secrets.
pub(crate) struct Secrets {
    origins: Origins,
    tools: Tools,
    /// Cells already made, so that a file is followed once and TLS sessions can be compared by their cells.
    known: Mutex<Known>,
    /// Of services and files.
    feeds: Mutex<BTreeMap<SecretSource, Open>>,
    /// Of the control plane.
    control: Arc<Feed>,
    /// Needed whatever is configured.
    kept: Mutex<BTreeSet<SecretRef>>,
    /// Services may be called.
    begun: watch::Sender<bool>,
}

#[derive(Default)]
struct Known {
    certificates: HashMap<(PathBuf, PathBuf), Arc<Live<Identity>>>,
    roots: HashMap<PathBuf, Arc<Live<Trust>>>,
    system: Option<Arc<Live<Trust>>>,
}

/// A feed and who fills it.
struct Open {
    feed: Arc<Feed>,
    _following: Background,
}

/// Where the secrets of a reference are.
enum Place {
    /// Asked for.
    Feed(Arc<Feed>),
    /// In the bootstrap, or nowhere.
    Fixed,
    /// In files of this host that the name says.
    Named,
    /// With whoever stands in for an identity agent.
    StandIn,
}

impl Secrets {
    /// Secrets from `origins`.
    pub(crate) fn new(origins: Origins, tools: Tools) -> Self {
        Self {
            origins,
            control: Arc::new(Feed::new(SecretSource::Ads, tools.clone())),
            tools,
            known: Mutex::default(),
            feeds: Mutex::default(),
            kept: Mutex::default(),
            begun: watch::Sender::new(false),
        }
    }

    /// Calls services from now on. Before, what they have is only noted as wanted.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// What is wanted of the control plane.
    pub(crate) fn control(&self) -> &Arc<Feed> {
        &self.control
    }

    /// The certificate that a source names.
    ///
    /// # Errors
    /// In words for an operator. That it has not arrived is one too; [`Self::is_awaited`] tells before.
    pub(crate) fn certificate(&self, source: &CertificateSource) -> Result<Arc<Live<Identity>>, String> {
        match source {
            CertificateSource::Files { chain, key } => self.certificate_files(chain, key),
            CertificateSource::Sds(secret) => self.find_certificate(secret)?.ok_or_else(|| not_there(secret)),
        }
    }

    /// The roots that a source names.
    ///
    /// # Errors
    /// As for [`Self::certificate`].
    pub(crate) fn trust(&self, source: &TrustSource) -> Result<Arc<Live<Trust>>, String> {
        match source {
            TrustSource::File(path) => self.root_file(path),
            TrustSource::Sds(secret) => self.find_trust(secret)?.ok_or_else(|| not_there(secret)),
        }
    }

    /// Whether a secret is asked for and has not arrived. It is asked for from now on.
    pub(crate) fn is_awaited(&self, reference: Reference<'_>) -> bool {
        match reference {
            Reference::Certificate(secret) => matches!(self.find_certificate(secret), Ok(None)),
            Reference::Trust(secret) => matches!(self.find_trust(secret), Ok(None)),
        }
    }

    /// Every secret that is asked for and has not arrived, in words.
    pub(crate) fn awaited(&self) -> Vec<String> {
        let feeds: Vec<_> = self.feeds().values().map(|open| open.feed.clone()).collect();
        let all = feeds.iter().chain([&self.control]);
        all.flat_map(|feed| {
            let names = feed.awaited().into_iter();
            names.map(|name| format!("{name} of {}", feed.source()))
        })
        .collect()
    }

    /// Asks for these for ever.
    pub(crate) fn keep<'a>(&self, references: impl Iterator<Item = Reference<'a>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(references.map(|reference| reference.secret().clone()));
    }

    /// Stops asking for what is neither among these, nor kept, nor in use.
    pub(crate) fn retain<'a>(&self, references: impl Iterator<Item = Reference<'a>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut needed = Needed::new();
        for secret in kept.iter() {
            need(&mut needed, secret);
        }
        for reference in references {
            need(&mut needed, reference.secret());
        }
        let nothing = BTreeSet::new();
        self.control.retain(needed.get(&SecretSource::Ads).unwrap_or(&nothing));
        self.feeds().retain(|source, open| {
            open.feed.retain(needed.get(source).unwrap_or(&nothing));
            !open.feed.is_idle()
        });
    }

    fn find_certificate(&self, secret: &SecretRef) -> Result<Option<Arc<Live<Identity>>>, String> {
        let name = &secret.name;
        match self.place(secret)? {
            Place::Feed(feed) => feed.certificate(name.as_str()),
            Place::Fixed => self.fixed_certificate(secret).map(Some),
            Place::Named => self.named_certificate(name).map(Some),
            Place::StandIn if self.origins.fixed.contains_key(name) => self.fixed_certificate(secret).map(Some),
            Place::StandIn if name.as_str() == OWN => self.workload(name).map(|own| Some(own.identity.clone())),
            Place::StandIn => Err(unknown(name, "default or file-cert:<chain>~<key>")),
        }
    }

    fn find_trust(&self, secret: &SecretRef) -> Result<Option<Arc<Live<Trust>>>, String> {
        let name = &secret.name;
        match self.place(secret)? {
            Place::Feed(feed) => feed.trust(name.as_str()),
            Place::Fixed => self.fixed_trust(secret).map(Some),
            Place::Named => self.named_roots(name).map(Some),
            Place::StandIn if self.origins.fixed.contains_key(name) => self.fixed_trust(secret).map(Some),
            Place::StandIn if name.as_str() == MESH_ROOTS => self.workload(name).map(|own| Some(own.trust.clone())),
            Place::StandIn => Err(unknown(name, "ROOTCA, file-root:system or file-root:<path>")),
        }
    }

    /// Names that say a file of this host are read here, whoever is to be asked: an agent would read the same file. A static
    /// secret of that name comes first.
    fn place(&self, secret: &SecretRef) -> Result<Place, String> {
        let SecretRef { name, source } = secret;
        let says_files = [FILE_CERTIFICATE, FILE_ROOTS]
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
        match source {
            SecretSource::Static => Ok(Place::Fixed),
            SecretSource::Ads => Ok(Place::Feed(self.control.clone())),
            SecretSource::File(file) => self.open_file(source, file).map(Place::Feed),
            SecretSource::Service { .. } if says_files && !self.origins.fixed.contains_key(name) => Ok(Place::Named),
            SecretSource::Service { cluster, delta } => match self.origins.services.get(cluster) {
                Some(server) => self.open_service(source, server, *delta).map(Place::Feed),
                None if cluster.as_str() == AGENT_CLUSTER => Ok(Place::StandIn),
                None => Err(format!(
                    "secret {name}: cluster {cluster} cannot be asked for secrets; expected a static cluster of one endpoint, at a \
                     pipe or a loopback address, without TLS"
                )),
            },
        }
    }

    fn open_service(&self, source: &SecretSource, server: &str, delta: bool) -> Result<Arc<Feed>, String> {
        self.open(source, |feed| {
            let following = ads::follow_secrets(server, delta, &self.origins.node, feed);
            let following = following.map_err(|error| error.to_string())?;
            let mut begun = self.begun.subscribe();
            Ok(self.tools.runtime.spawn(async move {
                if begun.wait_for(|begun| *begun).await.is_ok() {
                    following.await;
                }
            }))
        })
    }

    fn open_file(&self, source: &SecretSource, file: &FileSource) -> Result<Arc<Feed>, String> {
        self.open(source, |feed| {
            let text = self.tools.files.text(&file.path, file.watched_directory.as_deref());
            let text = text.map_err(|error| error.to_string())?;
            Ok(self.tools.runtime.spawn(file::follow(text, feed)))
        })
    }

    fn open(
        &self,
        source: &SecretSource,
        follow: impl FnOnce(Arc<Feed>) -> Result<Background, String>,
    ) -> Result<Arc<Feed>, String> {
        let mut feeds = self.feeds();
        if let Some(open) = feeds.get(source) {
            return Ok(open.feed.clone());
        }
        let feed = Arc::new(Feed::new(source.clone(), self.tools.clone()));
        let open = Open {
            _following: follow(feed.clone())?,
            feed: feed.clone(),
        };
        feeds.insert(source.clone(), open);
        Ok(feed)
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<SecretSource, Open>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workload(&self, name: &SecretName) -> Result<&Workload, String> {
        self.origins
            .workload
            .as_ref()
            .ok_or_else(|| format!("secret {name}: this proxy was started without a workload identity"))
    }

    fn fixed_certificate(&self, secret: &SecretRef) -> Result<Arc<Live<Identity>>, String> {
        let name = &secret.name;
        match self.fixed(name)? {
            SecretContent::Trust(_) => Err(format!("secret {name} is not a certificate")),
            SecretContent::Certificate { chain, key } => match (chain, key) {
                (Material::File(chain), Material::File(key)) => self.certificate_files(chain, key),
                (Material::Inline(chain), Material::Inline(key)) => {
                    let identity = Identity::from_pem(chain, key).map_err(|error| format!("secret {name}: {error}"))?;
                    Ok(Arc::new(Live::new(identity)))
                }
                _ => Err(format!(
                    "secret {name}: expected certificate and key both in place or both in files"
                )),
            },
        }
    }

    fn fixed_trust(&self, secret: &SecretRef) -> Result<Arc<Live<Trust>>, String> {
        let name = &secret.name;
        match self.fixed(name)? {
            SecretContent::Certificate { .. } => Err(format!("secret {name} is not a set of roots")),
            SecretContent::Trust(Material::File(path)) => self.root_file(path),
            SecretContent::Trust(Material::Inline(text)) => {
                let roots = Roots::from_pem(text).map_err(|error| format!("secret {name}: {error}"))?;
                Ok(Arc::new(Live::new(Trust::Roots(roots))))
            }
        }
    }

    fn fixed(&self, name: &SecretName) -> Result<&SecretContent, String> {
        let missing =
            || format!("secret {name} is not in static_resources.secrets; add it, or say in sds_config who has it");
        self.origins.fixed.get(name).ok_or_else(missing)
    }

    fn named_certificate(&self, name: &SecretName) -> Result<Arc<Live<Identity>>, String> {
        let files = name.as_str().strip_prefix(FILE_CERTIFICATE);
        match files.and_then(|files| files.split_once('~')) {
            Some((chain, key)) => self.certificate_files(Path::new(chain), Path::new(key)),
            None => Err(format!("secret {name}: expected {FILE_CERTIFICATE}<chain>~<key>")),
        }
    }

    fn named_roots(&self, name: &SecretName) -> Result<Arc<Live<Trust>>, String> {
        match name.as_str().strip_prefix(FILE_ROOTS) {
            Some(_) if name.as_str() == SYSTEM_ROOTS => self.system(),
            Some(path) => self.root_file(Path::new(path)),
            None => Err(format!("secret {name}: expected {SYSTEM_ROOTS} or {FILE_ROOTS}<path>")),
        }
    }

    fn certificate_files(&self, chain: &Path, key: &Path) -> Result<Arc<Live<Identity>>, String> {
        let mut known = self.known();
        let place = (chain.to_owned(), key.to_owned());
        if let Some(cell) = known.certificates.get(&place) {
            return Ok(cell.clone());
        }
        let cell = self
            .tools
            .files
            .identity(chain, key)
            .map_err(|error| error.to_string())?;
        known.certificates.insert(place, cell.clone());
        Ok(cell)
    }

    fn root_file(&self, path: &Path) -> Result<Arc<Live<Trust>>, String> {
        let mut known = self.known();
        if let Some(cell) = known.roots.get(path) {
            return Ok(cell.clone());
        }
        let cell = self.tools.files.roots(path).map_err(|error| error.to_string())?;
        known.roots.insert(path.to_owned(), cell.clone());
        Ok(cell)
    }

    fn system(&self) -> Result<Arc<Live<Trust>>, String> {
        if let Some(path) = &self.origins.system_roots {
            return self.root_file(path);
        }
        let mut known = self.known();
        if let Some(cell) = &known.system {
            return Ok(cell.clone());
        }
        let roots = Roots::system().map_err(|error| error.to_string())?;
        let cell = Arc::new(Live::new(Trust::Roots(roots)));
        known.system = Some(cell.clone());
        Ok(cell)
    }
}

/// Names by source.
type Needed<'a> = BTreeMap<&'a SecretSource, BTreeSet<&'a str>>;

fn need<'a>(needed: &mut Needed<'a>, secret: &'a SecretRef) {
    needed.entry(&secret.source).or_default().insert(secret.name.as_str());
}

fn not_there(secret: &SecretRef) -> String {
    format!("secret {secret} has not arrived")
}

fn unknown(name: &SecretName, accepted: &str) -> String {
    format!("secret {name} is not available here, accepted: {accepted}")
}
