//! TLS: looking at it (`client_hello`), ending it (`accept`), beginning it (`connect`, `failure`), the certificates and roots both
//! need (`secrets`), and the stream below a session (`wire`).

pub(crate) mod accept;
pub(crate) mod client_hello;
pub(crate) mod connect;
pub(crate) mod control;
mod failure;
pub(crate) mod secrets;
pub(crate) mod wire;

/// Protocol names as the TLS library takes them.
fn protocol_names(names: &[String]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.clone().into_bytes()).collect()
}
