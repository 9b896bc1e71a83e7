//! The HTTP data path, seen from outside: real listeners, real clients and upstreams on loopback, and the log lines.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod proxy;
mod upstream;

mod connections;
mod errors;
mod http2;
mod requests;
