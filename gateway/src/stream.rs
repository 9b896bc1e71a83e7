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

use crate::{
    sniff::Replay,
    tls::wire::{Gather, Wire, gather},
};

/// A stream from a client.
pub(crate) type Downstream = Maybe<Replay<TcpStream>, server::TlsStream<Wire<Replay<TcpStream>>>>;
/// A stream to an upstream host.
pub(crate) type Upstream = Maybe<TcpStream, client::TlsStream<Wire<TcpStream>>>;

/// One side of a relay.
pub(crate) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if all that is read and written of the stream is what passes through that.
    fn bare(&self) -> Option<&TcpStream> {
        None
    }
}

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
            Self::Tls(stream) => stream.get_ref().0.get_ref().get_ref(),
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
            Self::Tls(stream) => stream.get_ref().0.get_ref(),
        }
    }

    /// Makes the end a reset instead of an orderly close.
    pub(crate) fn reset(&self) {
        reset_on_close(self.socket());
    }
}

impl Side for Downstream {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) if stream.seen().is_empty() => Some(stream.get_ref()),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }
}

impl Side for Upstream {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
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

impl<P: AsyncWrite + Unpin, T: Gather> AsyncWrite for Maybe<P, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(session) => gather(&mut **session, |session| session.poll_write(cx, buf)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_write_bufs(Pin::new(stream), cx, bufs),
            Self::Tls(session) => gather(&mut **session, |session| poll_write_bufs(session, cx, bufs)),
        }
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
