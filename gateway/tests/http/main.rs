//! The HTTP data path, seen from outside: real listeners, real clients and upstreams on loopback, and the log lines.

mod proxy;
mod upstream;

mod errors;
mod requests;
