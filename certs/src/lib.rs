//! Identity: who we are, whom we trust, and how a peer proves who it is.
//!
//! Invariants: chains are verified by webpki, never here; every check that depends on time takes `now`; private keys
//! never reach `Debug` output, errors or logs; what is current is read at each handshake, so that a rotation needs no new
//! configuration and ends no connection. The only user of the certificate-writing and -reading libraries.

mod bundle;
mod ca;
mod certificate;
mod config;
mod crypto;
pub mod files;
mod identity;
mod issue;
mod pem;
mod renewal;
pub mod rotate;
pub mod sds;
mod sessions;
mod store;
mod svid;
mod verify;
mod watch;

pub use bundle::{MAX_ROOTS, Roots, RootsError, Trust, TrustBundle};
pub use ca::CertificateAuthority;
pub use certificate::{Certificate, CertificateError, KeyUsage};
pub use config::{Versions, client_config, server_config};
pub use crypto::provider;
pub use identity::{Identity, IdentityError, MAX_CHAIN};
pub use issue::{BACKDATE, CaRequest, DEFAULT_CA_LIFETIME, DEFAULT_LIFETIME, IssueError, LeafRequest, MAX_CSR, San};
pub use pem::certificate_pem;
pub use renewal::{MIN_LIFETIME, Renewal, RenewalError};
pub use store::{Live, Workload};
pub use svid::{Svid, SvidError};
pub use verify::{
    ClientVerifier, Names, Peer, PeerError, ServerVerifier, ended_by_alert, tls_error, tls_failure_reason,
};
pub use watch::FileWatcher;
