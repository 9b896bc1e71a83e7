//! Looking at the first bytes of a connection without taking them.
//!
//! Invariant: whatever was read to look at is read again by whoever serves the connection, in order, exactly once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use mesh::{
    host::Sni,
    listener::{Inspectors, Listener, Transport},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::timeout,
};

use crate::{
    limits,
    stream::poll_write_bufs,
    tls::client_hello::{self, ClientHello, Hello},
};
use request_line::Spoken;

mod request_line;

/// A stream whose first bytes can be looked at.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    seen: BytesMut,
    stream: S,
}

impl<S> Replay<S> {
    /// Wraps a stream of which nothing was read.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            seen: BytesMut::new(),
            stream,
        }
    }

    /// What was looked at and not read yet.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// The stream below; bytes that were looked at are no longer in it.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> Replay<S> {
    /// Waits for more bytes and adds them to [`Self::seen`], up to `limit` in all. Returns how many came; zero at the end of
    /// the stream or at the limit.
    ///
    /// # Errors
    /// Those of the stream.
    pub(crate) async fn look(&mut self, limit: usize) -> io::Result<usize> {
        let room = limit.saturating_sub(self.seen.len());
        if room == 0 {
            return Ok(0);
        }
        // A buffer that grows as it is filled would be read into by sixty-four bytes at first.
        self.seen.reserve(room.min(limits::INSPECT_AT_ONCE));
        (&mut self.stream)
            .take(u64::try_from(room).unwrap_or(u64::MAX))
            .read_buf(&mut self.seen)
            .await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.seen.len().min(buf.remaining());
        buf.put_slice(&self.seen[..count]);
        self.seen.advance(count);
        if self.seen.is_empty() {
            self.seen = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_bufs(Pin::new(&mut self.stream), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What was found in the first bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// TLS or not.
    pub(crate) transport: Transport,
    /// The name a TLS client asks for.
    pub(crate) server_name: Option<Sni>,
    /// What a TLS client offers, or the HTTP version found in plaintext.
    pub(crate) protocols: Vec<String>,
}

/// Nothing was found that a filter chain could be chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    /// The peer did not send enough in time.
    #[error("not enough was sent in time to choose a filter chain")]
    Timeout,
    /// The peer closed before it had sent enough.
    #[error("closed before enough was sent to choose a filter chain")]
    Closed,
    /// A `ClientHello` that breaks the rules.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// More than [`limits::INSPECT_BYTES`].
    #[error("the ClientHello or request line is longer than {} bytes", limits::INSPECT_BYTES)]
    TooLong,
}

/// Looks at a connection until the listener's inspectors are satisfied, within its time.
///
/// # Errors
/// The connection has to be closed; why.
pub(crate) async fn inspect<S: AsyncRead + Unpin>(
    stream: &mut Replay<S>,
    settings: &Listener,
) -> Result<Inspected, Unclear> {
    let limit = settings.inspect_timeout.unwrap_or(limits::INSPECT);
    let looking = look(stream, settings.inspectors);
    let found = match limit.is_zero() {
        true => looking.await,
        false => timeout(limit, looking).await.unwrap_or(Err(Unclear::Timeout)),
    };
    match found {
        Err(Unclear::Timeout) if settings.continue_on_inspect_timeout => Ok(Inspected::nothing()),
        found => found,
    }
}

async fn look<S: AsyncRead + Unpin>(stream: &mut Replay<S>, inspectors: Inspectors) -> Result<Inspected, Unclear> {
    loop {
        if let Some(found) = judge(stream.seen(), inspectors)? {
            return Ok(found);
        }
        let before = stream.seen().len();
        match stream.look(limits::INSPECT_BYTES).await {
            Ok(0) if before >= limits::INSPECT_BYTES => return Err(Unclear::TooLong),
            Ok(0) | Err(_) => return Err(Unclear::Closed),
            Ok(_) => {}
        }
    }
}

/// What these bytes are. `None`: more are needed.
fn judge(seen: &[u8], inspectors: Inspectors) -> Result<Option<Inspected>, Unclear> {
    if inspectors.tls {
        match client_hello::read(seen) {
            Hello::Incomplete => return Ok(None),
            Hello::Malformed => return Err(Unclear::Malformed),
            Hello::TooLong => return Err(Unclear::TooLong),
            Hello::Tls(hello) => return Ok(Some(Inspected::tls(hello))),
            Hello::NotTls => {}
        }
    }
    if !inspectors.http {
        return Ok(Some(Inspected::nothing()));
    }
    let version = match request_line::read(seen) {
        Spoken::Incomplete => return Ok(None),
        Spoken::Other => None,
        Spoken::Http(version) => Some(version.to_owned()),
    };
    Ok(Some(Inspected {
        protocols: version.into_iter().collect(),
        ..Inspected::nothing()
    }))
}

impl Inspected {
    /// Bytes that nobody looked at, or that are neither TLS nor HTTP.
    pub(crate) fn nothing() -> Self {
        Self {
            transport: Transport::Plaintext,
            server_name: None,
            protocols: Vec::new(),
        }
    }

    fn tls(hello: ClientHello) -> Self {
        Self {
            transport: Transport::Tls,
            server_name: hello.server_name,
            protocols: hello.protocols,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use mesh::{ListenerName, listener::TrafficDirection};
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    fn listener(inspectors: Inspectors) -> Listener {
        Listener {
            name: ListenerName::parse("l").unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            bind_to_port: true,
            use_original_dst: false,
            direction: TrafficDirection::Unspecified,
            inspectors,
            inspect_timeout: None,
            continue_on_inspect_timeout: false,
            filter_chains: Vec::new(),
            default_filter_chain: None,
            access_logs: Vec::new(),
            buffer_limit: None,
        }
    }

    const TLS: Inspectors = Inspectors {
        tls: true,
        http: false,
        original_dst: false,
    };
    const BOTH: Inspectors = Inspectors { http: true, ..TLS };

    #[tokio::test]
    async fn what_was_looked_at_is_read_again_once() {
        let (mut client, server) = duplex(64);
        let mut stream = Replay::new(server);
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(stream.look(3).await.unwrap(), 3);
        assert_eq!(stream.look(3).await.unwrap(), 0);
        assert_eq!(stream.look(100).await.unwrap(), 5);
        assert_eq!(stream.seen(), b"GET / HT");
        client.write_all(b"TP/1.1").await.unwrap();
        drop(client);
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "GET / HTTP/1.1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hello_that_never_ends_is_given_up_in_time() {
        let (mut client, server) = duplex(64);
        let mut stream = Replay::new(server);
        client.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        let start = tokio::time::Instant::now();
        assert_eq!(inspect(&mut stream, &listener(TLS)).await, Err(Unclear::Timeout));
        assert_eq!(start.elapsed(), limits::INSPECT);
        let patient = Listener {
            continue_on_inspect_timeout: true,
            inspect_timeout: Some(Duration::from_secs(1)),
            ..listener(TLS)
        };
        assert_eq!(inspect(&mut stream, &patient).await, Ok(Inspected::nothing()));
    }

    #[track_caller]
    fn check(bytes: &[u8], inspectors: Inspectors, expect: Result<Option<Transport>, Unclear>) {
        assert_eq!(
            judge(bytes, inspectors).map(|found| found.map(|found| found.transport)),
            expect
        );
    }

    #[test]
    fn each_inspector_looks_for_its_own() {
        check(b"", Inspectors::default(), Ok(Some(Transport::Plaintext)));
        check(b"", TLS, Ok(None));
        check(b"G", TLS, Ok(Some(Transport::Plaintext)));
        check(b"G", BOTH, Ok(None));
        check(&[22, 3, 1, 0, 0], TLS, Err(Unclear::Malformed));
        check(&[22, 3, 1, 0, 4, 1, 0xff, 0, 0], BOTH, Err(Unclear::TooLong));
        let found = judge(b"GET / HTTP/1.1\r\n", BOTH).unwrap().unwrap();
        assert_eq!(found.protocols, ["http/1.1"]);
    }

    #[tokio::test]
    async fn too_much_and_too_little_are_told_apart() {
        let (mut client, server) = duplex(32 * 1024);
        let mut stream = Replay::new(server);
        client.write_all(&[b'A'; 4]).await.unwrap();
        drop(client);
        assert_eq!(inspect(&mut stream, &listener(BOTH)).await, Err(Unclear::Closed));
        let (mut client, server) = duplex(32 * 1024);
        let mut stream = Replay::new(server);
        client.write_all(b"GET /").await.unwrap();
        client.write_all(&[b'a'; 20 * 1024]).await.unwrap();
        assert_eq!(inspect(&mut stream, &listener(BOTH)).await, Err(Unclear::TooLong));
        assert_eq!(stream.seen().len(), limits::INSPECT_BYTES);
    }
}
