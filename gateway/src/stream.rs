//! The byte streams of both sides, with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

use crate::sniff::Replay;

/// A stream from a client.
pub(crate) type Downstream = Maybe<Replay<TcpStream>, server::TlsStream<Replay<TcpStream>>>;
/// A stream to an upstream host.
pub(crate) type Upstream = Maybe<TcpStream, client::TlsStream<TcpStream>>;

/// Plaintext or TLS.
#[derive(Debug)]
pub(crate) enum Maybe<P, T> {
    /// Bytes as they are.
    Plain(P),
    /// Inside TLS. Boxed, since a session is large.
    Tls(Box<T>),
}

impl Downstream {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream.get_ref(),
            Self::Tls(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// Whether something that was looked at has not been read.
    pub(crate) fn has_unread(&self) -> bool {
        match self {
            Self::Plain(stream) => !stream.seen().is_empty(),
            Self::Tls(_) => false,
        }
    }

    /// Makes the end a reset instead of an orderly close.
    pub(crate) fn reset(&self) {
        reset_on_close(self.socket());
    }
}

impl Upstream {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Makes the end a reset instead of an orderly close.
    pub(crate) fn reset(&self) {
        reset_on_close(self.socket());
    }
}

/// A peer that is refused or whose counterpart broke off sees a reset, not an end of data that it could take for complete.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    // The only way to fail is a socket that is gone already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Writes several buffers. One alone goes the shorter way: send(2) costs less than writev(2), which passes through the kernel's
/// file layer first; and most of what hyper and rustls have to write is one buffer.
pub(crate) fn poll_write_bufs<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match bufs {
        [buf] => stream.poll_write(cx, buf),
        _ => stream.poll_write_vectored(cx, bufs),
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Maybe::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Maybe::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl<P: AsyncRead + Unpin, T: AsyncRead + Unpin> AsyncRead for Maybe<P, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(cx, buf))
    }
}

impl<P: AsyncWrite + Unpin, T: AsyncWrite + Unpin> AsyncWrite for Maybe<P, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => poll_write_bufs(stream, cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(cx))
    }
}
