//! Upstream clusters: where requests and connections go.
//!
//! `cluster` finds a cluster's hosts and keeps them, `balance` chooses one, `breaker` bounds what is in flight, `connect`
//! dials.
//! `discovery` and `dns` keep the hosts of DNS clusters current. Invariant: no address is dialled that no accepted resource names.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod cluster;
pub(crate) mod connect;
pub(crate) mod discovery;
pub(crate) mod dns;
pub(crate) mod pool;
pub(crate) mod send;
