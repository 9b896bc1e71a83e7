//! A connection with a full mTLS handshake for each request.

use std::time::Instant;

use super::{Client, http1::Asking};
use crate::stage::PLAIN;

impl Client {
    /// Connection, handshake, request, and again.
    pub(super) async fn handshakes(&self) -> anyhow::Result<()> {
        while self.tally.goes_on() {
            let began = Instant::now();
            Asking::new(self.connect(PLAIN).await?, PLAIN).ask(200).await?;
            self.tally.done(1, began);
        }
        Ok(())
    }
}
