//! The secrets of one source: which are wanted of it, and what it last delivered.
//!
//! Invariants: a secret that cannot be used changes nothing and is refused; what was delivered once stays until it is
//! replaced, whatever becomes of its source; nobody is asked for what nothing points at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use certs::{FileWatcher, Identity, Live, Roots, Trust};
use mesh::{
    secret::{Material, Secret, SecretContent, SecretSource},
    xds::ads::Name,
};
use tokio::sync::{Notify, watch};

use crate::drain::{Background, Runtime};

/// What is wanted of one source, and what it delivered.
pub(crate) struct Feed {
    source: SecretSource,
    tools: Tools,
    wanted: watch::Sender<BTreeSet<Name>>,
    held: Mutex<BTreeMap<Name, Held>>,
}

/// What all feeds have in common.
#[derive(Clone)]
pub(crate) struct Tools {
    /// Follows the files that secrets name.
    pub(crate) files: Arc<FileWatcher>,
    /// Where tasks run.
    pub(crate) runtime: Runtime,
    /// Told when a secret is there for the first time.
    pub(crate) arrivals: Arc<Notify>,
}

#[derive(Default)]
struct Held {
    certificate: Option<Cell<Identity>>,
    trust: Option<Cell<Trust>>,
}

/// A value for those who use it.
struct Cell<T> {
    live: Arc<Live<T>>,
    /// Keeps it as current as the files it is from, if any.
    following: Option<Background>,
}

/// A value that was delivered.
enum Delivered<T> {
    Value(Arc<T>),
    /// A reference to files, which are followed.
    Files(Arc<Live<T>>),
}

/// What a delivery did.
enum Change {
    Arrived,
    Replaced,
    /// It was there already, as after each reconnect.
    None,
}

impl Feed {
    pub(crate) fn new(source: SecretSource, tools: Tools) -> Self {
        Self {
            source,
            tools,
            wanted: watch::Sender::default(),
            held: Mutex::default(),
        }
    }

    /// Who has its secrets.
    pub(crate) fn source(&self) -> &SecretSource {
        &self.source
    }

    /// The names that are wanted, now and after each change.
    pub(crate) fn wanted(&self) -> watch::Receiver<BTreeSet<Name>> {
        self.wanted.subscribe()
    }

    /// A certificate, which is wanted from now on; `None`: it has not arrived.
    ///
    /// # Errors
    /// Something else of this name has.
    pub(crate) fn certificate(&self, name: &str) -> Result<Option<Arc<Live<Identity>>>, String> {
        self.want(name);
        match self.held().get(name) {
            Some(Held {
                certificate: Some(cell),
                ..
            }) => Ok(Some(cell.live.clone())),
            Some(Held { trust: Some(_), .. }) => Err(format!("secret {name} of {} is not a certificate", self.source)),
            Some(_) | None => Ok(None),
        }
    }

    /// A set of roots, which is wanted from now on; `None`: it has not arrived.
    ///
    /// # Errors
    /// Something else of this name has.
    pub(crate) fn trust(&self, name: &str) -> Result<Option<Arc<Live<Trust>>>, String> {
        self.want(name);
        match self.held().get(name) {
            Some(Held { trust: Some(cell), .. }) => Ok(Some(cell.live.clone())),
            Some(Held {
                certificate: Some(_), ..
            }) => Err(format!("secret {name} of {} is not a set of roots", self.source)),
            Some(_) | None => Ok(None),
        }
    }

    /// Takes what was delivered.
    ///
    /// # Errors
    /// It cannot be used; what was there stays. In words that show nothing of it.
    pub(crate) fn take(&self, secret: &Secret) -> Result<(), String> {
        let name = secret.name.as_str();
        let change = match &secret.content {
            SecretContent::Certificate { chain, key } => {
                let delivered = self.certificate_of(chain, key)?;
                let mut held = self.held();
                self.put(&mut held.entry(name.into()).or_default().certificate, delivered)
            }
            SecretContent::Trust(roots) => {
                let delivered = self.roots_of(roots)?;
                let mut held = self.held();
                self.put(&mut held.entry(name.into()).or_default().trust, delivered)
            }
        };
        match change {
            Change::Arrived => {
                tracing::info!(secret = name, source = %self.source, "a secret has arrived");
                self.tools.arrivals.notify_one();
            }
            Change::Replaced => tracing::info!(secret = name, source = %self.source, "a secret was replaced"),
            Change::None => {}
        }
        Ok(())
    }

    /// Forgets what is neither in `needed` nor in use.
    pub(crate) fn retain(&self, needed: &BTreeSet<&str>) {
        let kept: BTreeSet<Name> = {
            let mut held = self.held();
            held.retain(|name, held| needed.contains(&**name) || held.is_in_use());
            held.keys().cloned().collect()
        };
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.len();
            wanted.retain(|name| needed.contains(&**name) || kept.contains(name));
            wanted.len() != before
        });
    }

    /// What is wanted and has not arrived.
    pub(crate) fn awaited(&self) -> Vec<Name> {
        let held = self.held();
        let wanted = self.wanted.borrow();
        wanted
            .iter()
            .filter(|name| !held.contains_key(*name))
            .cloned()
            .collect()
    }

    /// Whether nothing is wanted of it.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.borrow().is_empty()
    }

    fn want(&self, name: &str) {
        let added = self
            .wanted
            .send_if_modified(|wanted| !wanted.contains(name) && wanted.insert(name.into()));
        if added {
            tracing::info!(secret = name, source = %self.source, "asking for a secret; what needs it is not served before it is there");
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Name, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn certificate_of(&self, chain: &Material, key: &Material) -> Result<Delivered<Identity>, String> {
        match (chain, key) {
            (Material::Inline(chain), Material::Inline(key)) => {
                let identity = Identity::from_pem(chain, key).map_err(|error| error.to_string())?;
                if !identity.leaf().is_valid_at(SystemTime::now()) {
                    let serial = &identity.leaf().serial;
                    return Err(format!(
                        "the certificate (serial {serial}) is not valid now: renew it, or compare the clocks"
                    ));
                }
                Ok(Delivered::Value(Arc::new(identity)))
            }
            (Material::File(chain), Material::File(key)) => {
                let cell = self.tools.files.identity(chain, key);
                cell.map(Delivered::Files).map_err(|error| error.to_string())
            }
            _ => Err("expected certificate and key both in place or both in files".to_owned()),
        }
    }

    fn roots_of(&self, roots: &Material) -> Result<Delivered<Trust>, String> {
        match roots {
            Material::Inline(text) => {
                let roots = Roots::from_pem(text).map_err(|error| error.to_string())?;
                Ok(Delivered::Value(Arc::new(Trust::Roots(roots))))
            }
            Material::File(path) => {
                let cell = self.tools.files.roots(path);
                cell.map(Delivered::Files).map_err(|error| error.to_string())
            }
        }
    }

    fn put<T: PartialEq + Send + Sync + 'static>(
        &self,
        place: &mut Option<Cell<T>>,
        delivered: Delivered<T>,
    ) -> Change {
        let (value, files) = match delivered {
            Delivered::Value(value) => (value, None),
            Delivered::Files(cell) => (cell.load(), Some(cell)),
        };
        // Whoever followed files into it stops here.
        let known = place.take().map(|cell| cell.live);
        let (live, change) = match known {
            Some(live) if *live.load() == *value => (live, Change::None),
            Some(live) => {
                live.share(value);
                (live, Change::Replaced)
            }
            None => (Arc::new(Live::shared(value)), Change::Arrived),
        };
        let following = files.map(|files| self.tools.runtime.spawn(follow(files, live.clone())));
        *place = Some(Cell { live, following });
        change
    }
}

impl Held {
    fn is_in_use(&self) -> bool {
        /// Who follows its files holds it too.
        fn is_used<T>(cell: &Cell<T>) -> bool {
            let ours = 1 + usize::from(cell.following.is_some());
            Arc::strong_count(&cell.live) > ours
        }
        self.certificate.as_ref().is_some_and(is_used) || self.trust.as_ref().is_some_and(is_used)
    }
}

/// Copies each change, for ever.
async fn follow<T: Send + Sync>(from: Arc<Live<T>>, to: Arc<Live<T>>) {
    let mut changes = from.subscribe();
    loop {
        let value = from.load();
        if !Arc::ptr_eq(&to.load(), &value) {
            to.share(value);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
