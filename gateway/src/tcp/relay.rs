//! Carries bytes between two streams until both directions have ended.
//!
//! Invariants: each direction ends on its own, so that a half-closed connection stays useful; what was read is written in
//! full before the end is passed on. Data is read into a buffer that all connections of a thread share; a connection holds
//! memory only for what its receiver did not take yet.
//!
//! Where both streams are bare sockets and more comes than the buffer holds, bytes stay in the kernel: see [`pipe`].

mod pipe;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::{limits, stream::Side};
use pipe::Pipe;

/// Payload bytes, readable while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the client.
    pub(crate) received: Cell<u64>,
    /// To the client.
    pub(crate) sent: Cell<u64>,
}

/// Why a relay ended before both directions had.
#[derive(Debug)]
pub(crate) enum Broken {
    /// No byte moved for too long.
    Idle,
    /// The client's stream failed.
    Downstream(io::Error),
    /// The upstream's stream failed.
    Upstream(io::Error),
}

/// Relays until both sides have closed. `idle`: bound on silence in both directions.
///
/// # Errors
/// It was cut short.
pub(crate) async fn relay<D, U>(
    downstream: &mut D,
    upstream: &mut U,
    counts: &Counts,
    idle: Option<Duration>,
) -> Result<(), Broken>
where
    D: Side,
    U: Side,
{
    let moved = Cell::new(Instant::now());
    let (mut up, mut down) = (Pump::default(), Pump::default());
    let pumps = poll_fn(|cx| {
        let up = up.poll(cx, downstream, upstream, &counts.received, &moved);
        let down = down.poll(cx, upstream, downstream, &counts.sent, &moved);
        match (up, down) {
            (Poll::Ready(Err(end)), _) => Poll::Ready(Err(end.seen_from(Broken::Downstream, Broken::Upstream))),
            (_, Poll::Ready(Err(end))) => Poll::Ready(Err(end.seen_from(Broken::Upstream, Broken::Downstream))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        biased;
        ended = pumps => ended,
        () = silence(&moved, idle) => Err(Broken::Idle),
    }
}

/// Resolves when nothing moved for `idle`.
async fn silence(moved: &Cell<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    while moved.get().elapsed() < idle {
        sleep_until(moved.get() + idle).await;
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Pump {
    /// What the receiver did not take yet.
    waiting: Vec<u8>,
    taken: usize,
    /// What the receiver did not take yet, inside the kernel.
    pipe: Option<Pipe>,
    /// The last read brought as much as the buffer holds, so that more is to be expected.
    is_bulk: bool,
    needs_flush: bool,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The sender is done; the receiver is to be told.
    Ending,
    Done,
}

/// Which stream failed, from the point of view of one direction.
enum Failed {
    Reading(io::Error),
    Writing(io::Error),
}

impl Failed {
    fn seen_from(self, reader: fn(io::Error) -> Broken, writer: fn(io::Error) -> Broken) -> Broken {
        match self {
            Self::Reading(error) => reader(error),
            Self::Writing(error) => writer(error),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; limits::RELAY_BUFFER].into_boxed_slice());
}

impl Pump {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &Cell<u64>,
        moved: &Cell<Instant>,
    ) -> Poll<Result<(), Failed>>
    where
        R: Side,
        W: Side,
    {
        loop {
            ready!(self.poll_pass_on(cx, writer)).map_err(Failed::Writing)?;
            match self.phase {
                Phase::Done => return Poll::Ready(Ok(())),
                Phase::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Failed::Writing)?;
                    self.phase = Phase::Done;
                }
                Phase::Open => {
                    let Poll::Ready(read) = self.poll_move(cx, reader, writer)? else {
                        self.let_go();
                        return self.poll_flush(cx, writer);
                    };
                    self.is_bulk = read >= limits::RELAY_BUFFER;
                    moved.set(Instant::now());
                    count.set(count.get() + u64::try_from(read).unwrap_or(u64::MAX));
                    if read == 0 {
                        self.let_go();
                        self.phase = Phase::Ending;
                    }
                }
            }
        }
    }

    /// Nothing is on its way: somebody else may have the pipe.
    fn let_go(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
    }

    /// Reads once. Few bytes are copied, which costs less than a pipe.
    fn poll_move<R: Side, W: Side>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<usize, Failed>> {
        if self.is_bulk
            && let (Some(from), Some(_)) = (reader.bare(), writer.bare())
            && let Some(pipe) = self.pipe.take().or_else(Pipe::take)
        {
            return self.pipe.insert(pipe).poll_fill(cx, from).map_err(Failed::Reading);
        }
        self.poll_read(cx, reader, writer)
    }

    /// Reads once, and passes on at once what the receiver takes.
    fn poll_read<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<usize, Failed>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(reader).poll_read(cx, &mut buffer)) {
                // TLS that ends without saying so. Many peers do; the other side would lose what it has not read if this
                // became a reset.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                read => read.map_err(Failed::Reading)?,
            }
            let filled = buffer.filled();
            let mut written = 0;
            while written < filled.len() {
                match Pin::new(&mut *writer).poll_write(cx, &filled[written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failed::Writing(io::ErrorKind::WriteZero.into()))),
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::Writing(error))),
                    Poll::Pending => break,
                }
            }
            self.needs_flush |= !filled.is_empty();
            self.waiting.extend_from_slice(&filled[written..]);
            Poll::Ready(Ok(filled.len()))
        })
    }

    /// Writes what was read before.
    fn poll_pass_on<W: Side>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        if let (Some(pipe), Some(to)) = (&mut self.pipe, writer.bare()) {
            ready!(pipe.poll_drain(cx, to))?;
        }
        while self.taken < self.waiting.len() {
            match ready!(Pin::new(&mut *writer).poll_write(cx, &self.waiting[self.taken..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
        }
        if !self.waiting.is_empty() {
            (self.waiting, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// While there is nothing to read, what was written must not be held back, as TLS may.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<Result<(), Failed>> {
        if self.needs_flush {
            ready!(Pin::new(writer).poll_flush(cx)).map_err(Failed::Writing)?;
            self.needs_flush = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
