//! What is current: our identity and whom we trust, each behind one swap, with notice of every change.
//!
//! TLS configurations hold these cells and read them at each handshake. A rotation therefore takes effect for the next
//! connection, without building anything anew, and ends none that is open.

use std::{fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use mesh::id::{SpiffeId, TrustDomain};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{Identity, SvidError, Trust};

/// A value that is replaced as a whole while it is read.
pub struct Live<T> {
    value: ArcSwap<T>,
    changed: watch::Sender<()>,
}

/// A member of the mesh: its identity and its trust, both kept current by whoever made it.
#[derive(Debug, Clone)]
pub struct Workload {
    id: SpiffeId,
    /// The certificate it shows.
    pub identity: Arc<Live<Identity>>,
    /// Whom it believes.
    pub trust: Arc<Live<Trust>>,
}

impl<T> Live<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self::shared(Arc::new(value))
    }

    /// Starts with a value that others have too.
    pub fn shared(value: Arc<T>) -> Self {
        Self {
            value: ArcSwap::new(value),
            changed: watch::Sender::new(()),
        }
    }

    /// What is current.
    pub fn load(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Replaces the value, then wakes whoever [subscribed](Self::subscribe).
    pub fn replace(&self, value: T) {
        self.share(Arc::new(value));
    }

    /// [Replaces](Self::replace) the value by one that others have too.
    pub fn share(&self, value: Arc<T>) {
        self.value.store(value);
        self.changed.send_replace(());
    }

    /// Resolves `changed()` after each replacement that follows. Several may be seen as one.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Workload {
    /// A member whose credentials are at hand. Whoever renews them replaces them in the cells.
    pub fn new(identity: impl Into<Arc<Identity>>, trust: Trust, now: SystemTime) -> Result<Self, SvidError> {
        let identity = identity.into();
        let id = identity.svid(now)?.id().clone();
        Ok(Self {
            id,
            identity: Arc::new(Live::shared(identity)),
            trust: Arc::new(Live::new(trust)),
        })
    }

    /// Who it is. Renewal never changes this.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }
}

/// The trust domain of an identity.
pub(crate) fn trust_domain(id: &SpiffeId) -> TrustDomain {
    TrustDomain::parse(id.trust_domain()).expect("an identity contains a valid trust domain")
}

impl ResolvesServerCert for Live<Identity> {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.value.load().certified_key().clone())
    }
}

impl ResolvesClientCert for Live<Identity> {
    /// Always the one we have: the issuers that a server hints at are those of its moment, and a wrong guess there must
    /// not turn into a connection without an identity.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.value.load().certified_key().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&*self.value.load()).finish()
    }
}
