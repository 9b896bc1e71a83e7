//! Long bodies.

use std::time::Instant;

use anyhow::ensure;

use super::{Client, http2::get};

impl Client {
    /// A unit is a MiB.
    pub(super) async fn downloads(&self, host: &'static str, bytes: usize) -> anyhow::Result<()> {
        let mut connection = self.http2_connection(host).await?;
        let uri = format!("https://{host}/{bytes}");
        while self.tally.goes_on() {
            let began = Instant::now();
            let mut body = get(&mut connection.sender, &uri, 200).await?;
            let mut got = 0;
            while let Some(chunk) = body.data().await {
                let length = chunk?.len();
                body.flow_control().release_capacity(length)?;
                self.tally.count(mebibytes(got + length) - mebibytes(got));
                got += length;
            }
            ensure!(got == bytes, "{got} of {bytes} bytes arrive");
            self.tally.took(began);
        }
        Ok(())
    }
}

/// Whole MiB in so many bytes.
fn mebibytes(bytes: usize) -> u64 {
    u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
}
