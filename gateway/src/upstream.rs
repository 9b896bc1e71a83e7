//! Upstream clusters: where requests and connections go.
//!
//! `cluster` finds a cluster's hosts and keeps them, `balance` chooses one, `breaker` bounds what is in flight, `connect`
//! dials. Invariant: no address is dialled that no accepted resource names.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod cluster;
pub(crate) mod connect;
