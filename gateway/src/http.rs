//! HTTP: one function per request is the data path.

use std::{rc::Rc, sync::Arc};

use mesh::listener::Http;

use crate::{connection::Connection, stream::Downstream, worker::Worker};

/// A filter chain that serves HTTP.
pub(crate) struct HttpChain {
    /// Its settings.
    pub(crate) settings: Http,
}

impl HttpChain {
    /// Compiles the settings.
    ///
    /// # Errors
    /// What of them cannot be served, in words for an operator.
    pub(crate) fn build(settings: &Http) -> Result<Self, String> {
        Ok(Self {
            settings: settings.clone(),
        })
    }
}

/// Serves the requests of one connection until it ends. `chain` is the chain as it was when the connection was accepted;
/// each request is served under the current one of the same id, if there still is one.
pub(crate) async fn serve_connection(worker: Rc<Worker>, chain: Arc<HttpChain>, conn: Arc<Connection>, io: Downstream) {
    drop((worker, chain, conn, io));
}
