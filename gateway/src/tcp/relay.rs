//! Carries bytes between two streams until both directions have ended.
//!
//! Invariants: each direction ends on its own, so that a half-closed connection stays useful; what was read is written in
//! full before the end is passed on. Data is read into a buffer that all connections of a thread share; a connection holds
//! memory only for what its receiver did not take yet.

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

use crate::limits;

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
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
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
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_write_waiting(cx, writer)).map_err(Failed::Writing)?;
            match self.phase {
                Phase::Done => return Poll::Ready(Ok(())),
                Phase::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Failed::Writing)?;
                    self.phase = Phase::Done;
                }
                Phase::Open => {
                    let Poll::Ready(read) = self.poll_read(cx, reader, writer)? else {
                        return self.poll_flush(cx, writer);
                    };
                    moved.set(Instant::now());
                    count.set(count.get() + u64::try_from(read).unwrap_or(u64::MAX));
                    if read == 0 {
                        self.phase = Phase::Ending;
                    }
                }
            }
        }
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

    fn poll_write_waiting<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A client, an upstream, and the relay between them with buffers of `size` bytes.
    fn topology(size: usize) -> (DuplexStream, DuplexStream, DuplexStream, DuplexStream) {
        let (client, downstream) = duplex(size);
        let (upstream, server) = duplex(size);
        (client, downstream, upstream, server)
    }

    #[tokio::test]
    async fn each_half_closes_on_its_own() {
        let (mut client, mut downstream, mut upstream, mut server) = topology(8);
        let counts = Counts::default();
        let ends = async {
            client
                .write_all(b"a long question, much longer than the buffers")
                .await
                .unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "an answer given after the question had ended");
        };
        let serving = async {
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            assert_eq!(question, "a long question, much longer than the buffers");
            server
                .write_all(b"an answer given after the question had ended")
                .await
                .unwrap();
            server.shutdown().await.unwrap();
        };
        let (relayed, (), ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, None), ends, serving);
        relayed.unwrap();
        assert_eq!((counts.received.get(), counts.sent.get()), (45, 44));
    }

    #[tokio::test]
    async fn the_upstream_may_close_its_half_first() {
        let (mut client, mut downstream, mut upstream, mut server) = topology(64);
        let counts = Counts::default();
        let ends = async {
            server.shutdown().await.unwrap();
            let mut nothing = Vec::new();
            client.read_to_end(&mut nothing).await.unwrap();
            client.write_all(b"still talking").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "still talking");
        };
        let (relayed, ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, None), ends);
        relayed.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_in_both_directions_ends_it() {
        let (mut client, mut downstream, mut upstream, _server) = topology(64);
        let (counts, idle) = (Counts::default(), Duration::from_secs(10));
        let start = Instant::now();
        let talk = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            client.write_all(b"x").await.unwrap();
        };
        let (relayed, ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, Some(idle)), talk);
        assert!(matches!(relayed, Err(Broken::Idle)));
        assert_eq!(start.elapsed(), Duration::from_secs(17));
    }

    #[tokio::test]
    async fn a_slow_receiver_holds_the_sender_back() {
        let (mut client, mut downstream, mut upstream, server) = topology(16);
        let counts = Counts::default();
        let flood = async {
            for _ in 0..1000 {
                client.write_all(&[0; 1024]).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            _ = relay(&mut downstream, &mut upstream, &counts, None) => panic!("nobody closed"),
            () = flood => panic!("nobody reads"),
            () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
        }
        assert!(counts.received.get() <= 64, "{}", counts.received.get());
        drop(server);
    }

    #[tokio::test]
    async fn a_broken_side_is_named() {
        let (mut client, mut downstream, mut upstream, server) = topology(16);
        drop(server);
        client.write_all(b"anybody there?").await.unwrap();
        let relayed = relay(&mut downstream, &mut upstream, &Counts::default(), None).await;
        assert!(matches!(relayed, Err(Broken::Upstream(_))), "{relayed:?}");
    }
}
