//! Session resumption that ends with the credentials it began under.
//!
//! Both sides keep what they need to resume in an epoch: as long as our own identity and the roots we trust stay the same
//! values. When either is replaced, all older sessions are forgotten and the next handshake is a full one: the new
//! identity is shown, and the new roots decide. That is a matter of prompt rotation. What bounds a session for certain is
//! that the peer's certificate is checked again at each resumption (see [`crate::verify`]): it also covers a ticket that a
//! server sends late, into the epoch after the one its connection was opened in. Each TLS configuration has keys of its own, so that a session of one listener
//! is worth nothing at another. No early data, hence no replay.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    NamedGroup,
    client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    crypto::aws_lc_rs::Ticketer,
    pki_types::ServerName,
    server::ProducesTickets,
};

use crate::{Identity, Live, Trust};

/// Sessions that a client configuration remembers; the library keeps eight tickets per server name.
const MAX_CLIENT_SESSIONS: usize = 1024;

/// The tickets of one server configuration. Keys change every six hours; a ticket lives twelve at most.
pub(crate) struct ServerTickets(PerEpoch<Option<Arc<dyn ProducesTickets>>>);

/// The remembered sessions of one client configuration.
pub(crate) struct ClientSessions(PerEpoch<ClientSessionMemoryCache>);

/// A value that is made anew when the credentials change.
struct PerEpoch<T> {
    identity: Option<Arc<Live<Identity>>>,
    trust: Option<Arc<Live<Trust>>>,
    make: fn() -> T,
    current: ArcSwap<Epoch<T>>,
}

struct Epoch<T> {
    credentials: Credentials,
    value: T,
}

/// Holding them keeps their addresses from being used again, so that same address means same credentials.
struct Credentials(Option<Arc<Identity>>, Option<Arc<Trust>>);

impl ServerTickets {
    pub(crate) fn new(identity: Arc<Live<Identity>>, trust: Option<Arc<Live<Trust>>>) -> Self {
        // Without random numbers there are no tickets, and handshakes that need none fail for the same reason.
        Self(PerEpoch::new(Some(identity), trust, || Ticketer::new().ok()))
    }
}

impl ClientSessions {
    pub(crate) fn new(identity: Option<Arc<Live<Identity>>>, trust: Option<Arc<Live<Trust>>>) -> Self {
        Self(PerEpoch::new(identity, trust, || {
            ClientSessionMemoryCache::new(MAX_CLIENT_SESSIONS)
        }))
    }
}

impl<T> PerEpoch<T> {
    fn new(identity: Option<Arc<Live<Identity>>>, trust: Option<Arc<Live<Trust>>>, make: fn() -> T) -> Self {
        let credentials = Credentials::load(identity.as_ref(), trust.as_ref());
        let current = ArcSwap::from_pointee(Epoch {
            credentials,
            value: make(),
        });
        Self {
            identity,
            trust,
            make,
            current,
        }
    }

    /// Two threads that see a change at once may both begin an epoch; what the first one kept in it is lost, nothing more.
    fn current(&self) -> Arc<Epoch<T>> {
        let credentials = Credentials::load(self.identity.as_ref(), self.trust.as_ref());
        let current = self.current.load_full();
        if current.credentials.same(&credentials) {
            return current;
        }
        let next = Arc::new(Epoch {
            credentials,
            value: (self.make)(),
        });
        self.current.store(next.clone());
        next
    }
}

impl Credentials {
    fn load(identity: Option<&Arc<Live<Identity>>>, trust: Option<&Arc<Live<Trust>>>) -> Self {
        Self(identity.map(|cell| cell.load()), trust.map(|cell| cell.load()))
    }

    fn same(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
            && self.1.as_ref().map(Arc::as_ptr) == other.1.as_ref().map(Arc::as_ptr)
    }
}

impl ProducesTickets for ServerTickets {
    fn enabled(&self) -> bool {
        self.0.current().value.is_some()
    }

    fn lifetime(&self) -> u32 {
        self.0.current().value.as_ref().map_or(0, |tickets| tickets.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.current().value.as_ref()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.current().value.as_ref()?.decrypt(cipher)
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.current().value.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.current().value.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.current().value.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.current().value.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.current().value.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.current().value.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.current().value.take_tls13_ticket(server)
    }
}

impl fmt::Debug for ServerTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTickets")
    }
}

impl fmt::Debug for ClientSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSessions")
    }
}
