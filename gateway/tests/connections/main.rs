//! The connection half of the data plane over real sockets: whole data planes in process, on loopback, ports chosen by the
//! system, identities made by the tests.

mod dns;
mod listeners;
mod passthrough;
mod support;
mod tls;
