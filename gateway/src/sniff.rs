//! Looking at the first bytes of a connection without taking them.
//!
//! Invariant: whatever was read to look at is read again by whoever serves the connection, in order, exactly once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
