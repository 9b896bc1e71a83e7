//! A connection with a full mTLS handshake for each request, and handshakes that come to nothing.

use std::{io, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Client, http1::Asking, tunnel::hello};
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

    /// Costs the client next to nothing, and the proxy a key exchange and a signature.
    pub(super) async fn hellos(&self) -> anyhow::Result<()> {
        let hello = hello(PLAIN)?;
        while self.tally.goes_on() {
            let began = Instant::now();
            // A proxy may refuse a flood; what it does not answer is not counted.
            if self.begin(&hello).await.is_ok_and(|answer| answer > 0) {
                self.tally.done(1, began);
            }
        }
        Ok(())
    }

    async fn begin(&self, hello: &[u8]) -> io::Result<usize> {
        let mut stream = TcpStream::connect(self.mutual).await?;
        stream.write_all(hello).await?;
        stream.read(&mut [0; 4096]).await
    }
}
