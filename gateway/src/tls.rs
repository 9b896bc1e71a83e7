//! TLS: looking at it (`client_hello`), ending it (`accept`), beginning it (`connect`).

pub(crate) mod client_hello;
