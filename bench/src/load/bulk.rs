//! Long bodies. A unit is a MiB.

use std::{future::poll_fn, time::Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use h2::{SendStream, client::SendRequest};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Client, http2::get};
use crate::stage::SECURE;

/// Bytes read or written at a time.
const PIECE: usize = 64 << 10;
/// What is sent, piece by piece.
static BODY: [u8; PIECE] = [b'x'; PIECE];

impl Client {
    /// Downloads over HTTP/2, one after the other.
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
                got = self.moved(got, length);
            }
            ensure!(got == bytes, "{got} of {bytes} bytes arrive");
            self.tally.took(began);
        }
        Ok(())
    }

    /// Downloads over HTTP/1.1.
    pub(super) async fn downloads_http1(&self, host: &'static str, bytes: usize) -> anyhow::Result<()> {
        self.download_over(self.connect(host).await?, host, bytes).await
    }

    /// Downloads inside TLS that the proxy does not end.
    pub(super) async fn secure_tunnel(&self, bytes: usize) -> anyhow::Result<()> {
        let stream = TcpStream::connect(self.passthrough).await?;
        stream.set_nodelay(true)?;
        let stream = self.mesh.connect(ServerName::try_from(SECURE)?, stream).await?;
        self.download_over(stream, SECURE, bytes).await
    }

    async fn download_over<S>(&self, mut stream: S, host: &str, bytes: usize) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let request = format!("GET /{bytes} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\n\r\n");
        let mut piece = vec![0; PIECE];
        while self.tally.goes_on() {
            let began = Instant::now();
            stream.write_all(request.as_bytes()).await?;
            let mut got = begin(&mut stream, &mut piece).await?;
            while got < bytes {
                let count = stream.read(&mut piece).await?;
                ensure!(count > 0, "a body is cut off after {got} of {bytes} bytes");
                got = self.moved(got, count);
            }
            self.tally.took(began);
        }
        Ok(())
    }

    /// Uploads over HTTP/2, one after the other.
    pub(super) async fn uploads(&self, host: &'static str, bytes: usize) -> anyhow::Result<()> {
        let mut connection = self.http2_connection(host).await?;
        while self.tally.goes_on() {
            let began = Instant::now();
            self.upload(&mut connection.sender, host, bytes).await?;
            self.tally.took(began);
        }
        Ok(())
    }

    async fn upload(&self, sender: &mut SendRequest<Bytes>, host: &str, bytes: usize) -> anyhow::Result<()> {
        *sender = sender.clone().ready().await?;
        let request = Request::post(format!("https://{host}/")).header("content-length", bytes);
        let (response, mut body) = sender.send_request(request.body(())?, false)?;
        let mut sent = 0;
        while sent < bytes {
            let count = capacity(&mut body, (bytes - sent).min(PIECE)).await?;
            body.send_data(Bytes::from_static(&BODY[..count]), sent + count == bytes)?;
            sent = self.moved(sent, count);
        }
        let status = response.await?.status();
        ensure!(status == 200, "an upload is answered with {status}");
        Ok(())
    }

    /// Counts whole MiB. Returns all bytes so far.
    fn moved(&self, before: usize, more: usize) -> usize {
        self.tally.count(mebibytes(before + more) - mebibytes(before));
        before + more
    }
}

/// Reads a response's head. Returns how much of the body came with it.
async fn begin(stream: &mut (impl AsyncRead + Unpin), piece: &mut [u8]) -> anyhow::Result<usize> {
    let mut read = 0;
    loop {
        let count = stream.read(&mut piece[read..]).await?;
        ensure!(count > 0, "a response is cut off in its head");
        read += count;
        if let Some(end) = piece[..read].windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&piece[..end]);
            ensure!(head.get(9..12) == Some("200"), "the answer is {head:?}, not 200");
            return Ok(read - end - 4);
        }
    }
}

/// Waits until the peer takes some of so many bytes. Returns how many.
async fn capacity(body: &mut SendStream<Bytes>, wanted: usize) -> anyhow::Result<usize> {
    body.reserve_capacity(wanted);
    while body.capacity() == 0 {
        let more = poll_fn(|cx| body.poll_capacity(cx)).await;
        more.context("an upload is answered before its end")??;
    }
    Ok(body.capacity().min(wanted))
}

/// Whole MiB in so many bytes.
pub(super) fn mebibytes(bytes: usize) -> u64 {
    u64::try_from(bytes >> 20).unwrap_or(u64::MAX)
}
