//! Gathers what an HTTP/2 connection writes while it is polled, so that it leaves in one TLS record and one system call.
//!
//! h2 writes and flushes after every DATA frame: the answers to eight streams, ready at the same moment, would be eight records
//! and eight system calls, which cost more than all that is computed for a request. So the stream that h2 is given keeps small
//! writes and takes a flush for granted; whoever polls the connection calls [`Cork::release`] after each poll.
//!
//! Invariants: nothing is kept over the end of a poll but what the socket does not take; what is kept is bounded by [`LIMIT`].

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are kept: what a TLS record holds (RFC 8446 section 5.1).
const LIMIT: usize = 16 << 10;
/// A write of so many bytes is worth a record of its own: it goes out at once, without being copied.
const LARGE: usize = 4 << 10;

/// The stream that h2 reads and writes.
pub(super) struct Corked<S>(Rc<RefCell<Gathered<S>>>);

/// Lets go of what a [`Corked`] stream has gathered.
pub(super) struct Cork<S>(Rc<RefCell<Gathered<S>>>);

struct Gathered<S> {
    stream: S,
    /// Allocated only while there is something to keep, so that an idle connection costs nothing.
    kept: Vec<u8>,
    /// How many of `kept` the stream has taken.
    written: usize,
    /// Something was written and not flushed.
    is_dirty: bool,
    /// Why [`Cork::release`] failed, until h2 asks.
    failure: Option<io::Error>,
}

/// A stream, and what lets go of its writes.
pub(super) fn cork<S>(stream: S) -> (Corked<S>, Cork<S>) {
    let gathered = Rc::new(RefCell::new(Gathered {
        stream,
        kept: Vec::new(),
        written: 0,
        is_dirty: false,
        failure: None,
    }));
    (Corked(gathered.clone()), Cork(gathered))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Writes what was gathered. What the stream does not take wakes the task when it can.
    pub(super) fn release(&self, cx: &mut Context<'_>) {
        let mut gathered = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = gathered.poll_flush(cx) {
            gathered.failure = Some(error);
            // h2 learns of it when it is polled again.
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn check(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.kept.capacity() == 0 {
            self.kept.reserve_exact(LIMIT);
        }
        self.kept.extend_from_slice(bytes);
        self.is_dirty = true;
    }

    /// Makes room for a write of `length` bytes. True: it is to be kept.
    fn poll_room(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<bool>> {
        self.check()?;
        let keep = length < LARGE;
        if !keep || self.kept.len() + length > LIMIT {
            ready!(self.poll_drain(cx))?;
        }
        Poll::Ready(Ok(keep))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.kept = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_dirty {
            ready!(self.poll_drain(cx))?;
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.0.borrow_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if ready!(gathered.poll_room(cx, length))? {
            bufs.iter().for_each(|buf| gathered.keep(buf));
            return Poll::Ready(Ok(length));
        }
        gathered.is_dirty = true;
        Pin::new(&mut gathered.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }

    /// Done by [`Cork::release`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow_mut().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.borrow_mut();
        gathered.check()?;
        ready!(gathered.poll_flush(cx))?;
        Pin::new(&mut gathered.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
