//! Connections through the passthrough listener.

use std::{sync::Arc, time::Instant};

use anyhow::ensure;
use certs::{ServerVerifier, Versions};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Client;
use crate::stage::SECURE;

impl Client {
    /// Ends without crypto beyond the hello: the upstream's answer to it is all that is waited for.
    pub(super) async fn tunnels(&self) -> anyhow::Result<()> {
        let hello = hello(SECURE)?;
        let mut answer = [0; 4096];
        while self.tally.goes_on() {
            let began = Instant::now();
            let mut stream = TcpStream::connect(self.passthrough).await?;
            stream.write_all(&hello).await?;
            ensure!(stream.read(&mut answer).await? > 0, "a tunnel ends without an answer");
            drop(stream);
            self.tally.done(1, began);
        }
        Ok(())
    }
}

/// A `ClientHello` for a host.
pub(super) fn hello(host: &'static str) -> anyhow::Result<Vec<u8>> {
    let config = certs::client_config(None, Arc::new(ServerVerifier::insecure()), Versions::ALL)?;
    let mut connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(host)?)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
