//! HTTP/1.1 by hand: one request after the other, whole responses.

use std::io;

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{Client, pace::Pace};

/// Bytes read at a time.
const READ: usize = 64 << 10;

/// A connection that asks for the same again and again.
pub(super) struct Asking {
    stream: TlsStream<TcpStream>,
    request: String,
    read: Vec<u8>,
}

impl Client {
    /// Requests on one connection.
    pub(super) async fn http1(&self, host: &'static str, status: u16, mut pace: Pace) -> anyhow::Result<()> {
        let mut asking = Asking::new(self.connect(host).await?, host);
        while self.tally.goes_on() {
            let began = pace.due().await;
            asking.ask(status).await?;
            self.tally.done(1, began);
        }
        Ok(())
    }
}

impl Asking {
    pub(super) fn new(stream: TlsStream<TcpStream>, host: &str) -> Self {
        Self {
            stream,
            request: format!("GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\n\r\n"),
            read: Vec::with_capacity(READ),
        }
    }

    /// One request, and its response to the end.
    pub(super) async fn ask(&mut self, status: u16) -> anyhow::Result<()> {
        self.stream.write_all(self.request.as_bytes()).await?;
        response(&mut self.stream, &mut self.read, status).await
    }
}

/// Reads one response with a length.
async fn response(stream: &mut TlsStream<TcpStream>, read: &mut Vec<u8>, status: u16) -> anyhow::Result<()> {
    read.clear();
    loop {
        if stream.read_buf(read).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = str::from_utf8(&read[..end])?;
        ensure!(
            head.get(9..12) == Some(&status.to_string()),
            "the answer is {head:?}, not {status}"
        );
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.context("a response without a length")?.1.parse()?;
        while read.len() < end + 4 + length {
            ensure!(stream.read_buf(read).await? > 0, "a response is cut off");
        }
        return Ok(());
    }
}
