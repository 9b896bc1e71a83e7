//! What integration tests share: upstreams that misbehave on purpose, and the real Envoy.

use std::{env, path::PathBuf, sync::LazyLock};

use sallyport::lab::envoy;

pub mod upstream;

/// The real Envoy, if there is one; looked for once, since pip's script has to be asked.
///
/// # Panics
/// `SALLYPORT_ENVOY` names what is no Envoy: nothing is left out for a typing error.
pub fn envoy() -> Option<PathBuf> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| match envoy::find(None) {
        Ok(found) => Some(found),
        Err(error) if env::var_os(envoy::VARIABLE).is_some() => panic!("{error:#}"),
        Err(_) => None,
    });
    FOUND.clone()
}
