//! The connection half of the data plane over real sockets: whole data planes in process, on loopback, ports chosen by the
//! system, identities made by the tests.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod dns;
mod listeners;
mod passthrough;
mod secrets;
mod support;
mod tls;
