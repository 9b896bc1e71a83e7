//! The stream below a TLS session, which makes few large system calls of the session's many small ones.
//!
//! rustls reads 4 KiB at a time, so that a record takes five system calls; here, once a read has brought all that was asked for, the
//! next reads ahead. tokio-rustls writes each record as soon as there is one; here a session keeps its records until it is flushed
//! or holds [`limits::TLS_BUFFER`] of them, and they leave in one vectored write.
//!
//! Invariant: buffers belong to a connection only while there is something in them.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use crate::{limits, stream::poll_write_bufs};

thread_local! {
    static IDLE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    ahead: Option<Ahead>,
    /// The last read brought all that was asked for, so that more is to be expected.
    is_bulk: bool,
    /// Nothing is written for now.
    holds: bool,
}

/// What was read ahead.
#[derive(Debug)]
struct Ahead {
    buffer: Box<[u8]>,
    unread: Range<usize>,
}

/// A TLS session whose records can be held back.
pub(crate) trait Gather: AsyncWrite + Unpin {
    /// Until this is called with `false` nothing is written below the session, which takes that for a stream that is not ready.
    fn hold(&mut self, holds: bool);
}

/// Writes into a session, and below it only if the session is full. A flush writes the rest.
pub(crate) fn gather<T: Gather>(
    session: &mut T,
    mut write: impl FnMut(Pin<&mut T>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    session.hold(true);
    let written = write(Pin::new(session));
    session.hold(false);
    match written {
        Poll::Pending => write(Pin::new(session)),
        written @ Poll::Ready(_) => written,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gather for server::TlsStream<Wire<S>> {
    fn hold(&mut self, holds: bool) {
        self.get_mut().0.holds = holds;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gather for client::TlsStream<Wire<S>> {
    fn hold(&mut self, holds: bool) {
        self.get_mut().0.holds = holds;
    }
}

impl<S> Wire<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: None,
            is_bulk: false,
            holds: false,
        }
    }

    /// The stream below.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    fn give(&mut self, mut ahead: Ahead, buf: &mut ReadBuf<'_>) {
        let count = ahead.unread.len().min(buf.remaining());
        let end = ahead.unread.start + count;
        buf.put_slice(&ahead.buffer[ahead.unread.start..end]);
        ahead.unread.start = end;
        match ahead.unread.is_empty() {
            true => ahead.give_back(),
            false => self.ahead = Some(ahead),
        }
    }
}

impl Ahead {
    fn take() -> Self {
        let buffer = IDLE.with_borrow_mut(Vec::pop);
        Self {
            buffer: buffer.unwrap_or_else(|| vec![0; limits::TLS_READ_AHEAD].into_boxed_slice()),
            unread: 0..0,
        }
    }

    fn give_back(self) {
        IDLE.with_borrow_mut(|idle| {
            if idle.len() < limits::TLS_IDLE_BUFFERS {
                idle.push(self.buffer);
            }
        });
    }

    fn poll_fill<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut S) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buf))?;
        self.unread = 0..buf.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if let Some(ahead) = wire.ahead.take() {
            wire.give(ahead, buf);
            return Poll::Ready(Ok(()));
        }
        if !wire.is_bulk {
            let room = buf.remaining();
            ready!(Pin::new(&mut wire.stream).poll_read(cx, buf))?;
            wire.is_bulk = room > 0 && buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        let mut ahead = Ahead::take();
        let Poll::Ready(()) = ahead.poll_fill(cx, &mut wire.stream)? else {
            ahead.give_back();
            return Poll::Pending;
        };
        wire.is_bulk = ahead.unread.len() >= buf.remaining();
        wire.give(ahead, buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        match wire.holds {
            // Nobody is woken for it: `gather`, which asked for it, goes on at once.
            true => Poll::Pending,
            false => Pin::new(&mut wire.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        match wire.holds {
            true => Poll::Pending,
            false => poll_write_bufs(Pin::new(&mut wire.stream), cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
