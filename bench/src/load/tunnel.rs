//! Connections through the passthrough listener.

use std::{sync::Arc, time::Instant};

use anyhow::ensure;
use certs::{ServerVerifier, Versions};
use rustix::net::{RecvFlags, recv};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::TcpStream,
};

use super::{Client, bulk::mebibytes};
use crate::stage::{ENDLESS, SECURE};

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

    /// Has the kernel drop what comes. A unit is a MiB.
    pub(super) async fn endless(&self) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.passthrough).await?;
        stream.write_all(&hello(ENDLESS)?).await?;
        let mut room = vec![0; 1 << 20];
        let (mut got, mut began) = (0, Instant::now());
        while self.tally.goes_on() {
            let mut discard = || Ok(recv(&stream, &mut room[..], RecvFlags::TRUNC)?.1);
            let count = stream.async_io(Interest::READABLE, &mut discard).await?;
            ensure!(count > 0, "a stream without end ends");
            let whole = mebibytes(got + count) - mebibytes(got);
            if whole > 0 {
                self.tally.done(whole, began);
                began = Instant::now();
            }
            got += count;
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
