//! Stands between a client's bytes and hyper's HTTP/1 parser, and holds back what Envoy would refuse.
//!
//! hyper accepts, or answers without telling us, several things that must be refused, and refused in Envoy's words: both
//! lengths at once, equal duplicates of `content-length`, old versions, too many headers. The guard follows the framing of the
//! stream ([`Scanner`]). A head reaches hyper only once it is complete and found good. In place of a bad one hyper is given a
//! harmless request, so that the refusal is answered in turn, behind the responses that pipelined requests still wait for;
//! nothing after it is read.
//!
//! Invariant: guard and hyper agree where each message ends. The guard is never the more lenient of the two.

mod scanner;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use mesh::listener::Http;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    error::{BadRequest, ProxyError},
    limits,
};
use scanner::{Scanner, Stop};

/// A stream whose reads are guarded.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    scanner: Scanner,
    /// A head that is not complete.
    held: BytesMut,
    /// What hyper may read, before anything new.
    released: BytesMut,
    status: Arc<Status>,
    /// Bound on the time that a head may stay incomplete.
    head_timeout: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    mode: Mode,
    /// How long a client is listened to after our last byte.
    linger: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// HTTP.
    Guard,
    /// Behind this request, which wants to leave HTTP: nothing is passed on before it is answered.
    Wait(u64),
    /// No longer HTTP.
    Raw,
    /// Behind a violation.
    Stopped,
    /// Behind our own last byte.
    Lingering,
}

/// What the guard and the requests of its connection tell each other. Shared within one thread; atomic because hyper wants
/// streams that could be sent to another.
#[derive(Debug, Default)]
pub(crate) struct Status {
    violation: OnceLock<(u64, ProxyError)>,
    answered: AtomicU64,
    switched: AtomicBool,
}

/// What hyper reads in place of a bad request.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";

impl Status {
    /// What is wrong with the request of this number, counted from 1.
    pub(crate) fn violation(&self, request: u64) -> Option<&ProxyError> {
        self.violation
            .get()
            .filter(|(number, _)| *number == request)
            .map(|(_, error)| error)
    }

    /// The request of this number has its response. `switched`: and the connection leaves HTTP.
    pub(crate) fn answered(&self, request: u64, switched: bool) {
        self.switched.store(switched, Ordering::Relaxed);
        self.answered.store(request, Ordering::Relaxed);
    }
}

impl<S> Guarded<S> {
    /// Guards a stream of which nothing was read.
    pub(crate) fn new(stream: S, settings: &Http) -> Self {
        Self {
            stream,
            scanner: Scanner::new(settings),
            held: BytesMut::new(),
            released: BytesMut::new(),
            status: Arc::default(),
            head_timeout: settings.timeouts.request_headers.filter(|timeout| !timeout.is_zero()),
            timer: None,
            mode: Mode::Guard,
            linger: settings.timeouts.delayed_close.unwrap_or(limits::DELAYED_CLOSE),
        }
    }

    /// Where violations are told.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Leaves [`Mode::Wait`] once the request that is waited for is answered.
    fn resume(&mut self) {
        let Mode::Wait(request) = self.mode else { return };
        if self.status.answered.load(Ordering::Relaxed) < request {
            return;
        }
        if self.status.switched.load(Ordering::Relaxed) {
            self.mode = Mode::Raw;
            self.released.unsplit(self.held.split());
        } else {
            self.mode = Mode::Guard;
            self.judge_held();
        }
    }

    /// Judges what was just read into `buf` behind `start`; takes out of it what may not be passed on yet.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        match self.mode {
            Mode::Raw => {}
            Mode::Stopped | Mode::Lingering => buf.set_filled(start),
            Mode::Guard if self.held.is_empty() => {
                let read = &buf.filled()[start..];
                let (passed, stop) = self.scanner.scan(read);
                self.held.extend_from_slice(&read[passed..]);
                buf.set_filled(start + passed);
                self.stop(stop);
            }
            Mode::Guard | Mode::Wait(_) => {
                self.held.extend_from_slice(&buf.filled()[start..]);
                buf.set_filled(start);
                if self.mode == Mode::Guard {
                    self.judge_held();
                }
            }
        }
    }

    fn judge_held(&mut self) {
        let (passed, stop) = self.scanner.scan(&self.held);
        self.released.unsplit(self.held.split_to(passed));
        self.stop(stop);
    }

    fn stop(&mut self, stop: Option<Stop>) {
        match stop {
            None if self.scanner.in_head() => {}
            None => self.timer = None,
            Some(Stop::Switch(request)) => {
                self.timer = None;
                self.mode = Mode::Wait(request);
            }
            Some(Stop::Refused(request, bad)) => self.refuse(request, ProxyError::Request(bad)),
        }
    }

    fn refuse(&mut self, request: u64, error: ProxyError) {
        // A target with a fragment is one that hyper reads, but not whole; the request itself stays.
        if error != ProxyError::Request(BadRequest::Path) {
            self.released.extend_from_slice(PLACEHOLDER);
        }
        // The first violation is the only one: nothing is scanned after it.
        let _ = self.status.violation.set((request, error));
        self.held.clear();
        self.timer = None;
        self.mode = Mode::Stopped;
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let Some(timeout) = self
            .head_timeout
            .filter(|_| self.mode == Mode::Guard && !self.held.is_empty())
        else {
            return;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if timer.as_mut().poll(cx).is_ready() {
            self.refuse(self.scanner.next_request(), ProxyError::HeadersTimeout);
        }
    }

    /// Gives hyper what was released.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.released.len().min(buf.remaining());
        buf.put_slice(&self.released[..count]);
        self.released.advance(count);
        if self.released.is_empty() {
            self.released = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.resume();
        loop {
            this.poll_timer(cx);
            if !this.released.is_empty() {
                this.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            if matches!(this.mode, Mode::Stopped | Mode::Lingering) {
                // Not the end of the stream, which hyper would take for a client that is gone.
                return Poll::Pending;
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            this.judge(buf, start);
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.mode, Mode::Wait(_)) && this.held.len() > limits::BUFFER {
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.mode != Mode::Lingering {
            self.mode = Mode::Lingering;
            self.timer = Some(Box::pin(sleep(self.linger)));
        }
        if self
            .timer
            .as_mut()
            .is_none_or(|timer| timer.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(());
        }
        let mut scratch = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
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

    /// Says that nothing more comes, then reads on for a while: closing at once with unread bytes would reset the connection,
    /// and the client could lose the response that tells it why. What a client sends through a tunnel is not ours to read.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.resume();
        if self.mode == Mode::Raw {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests;
