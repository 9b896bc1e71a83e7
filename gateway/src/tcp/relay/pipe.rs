//! Bytes on their way from socket to socket that never leave the kernel: splice(2) into a pipe and out of it. It moves references to
//! pages where reading and writing copies each byte twice.
//!
//! Invariants: there are at most [`limits::PIPES`] pipes with something in them per thread, and [`limits::IDLE_PIPES`] without; one
//! that is given back is empty, so that no byte of a connection can reach another.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::limits;

thread_local! {
    static OPEN: Cell<usize> = const { Cell::new(0) };
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, which closes when dropped.
#[derive(Debug)]
pub(super) struct Pipe {
    input: OwnedFd,
    output: OwnedFd,
    /// Bytes in it.
    holds: usize,
    _place: Place,
}

/// A place among the pipes of a thread.
#[derive(Debug)]
struct Place;

impl Pipe {
    /// An empty one. `None`: too many are in use, or the kernel gives no more.
    pub(super) fn take() -> Option<Self> {
        IDLE.with_borrow_mut(Vec::pop).or_else(Self::open)
    }

    fn open() -> Option<Self> {
        let place = Place::enter()?;
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A smaller one serves as well, in more calls.
        let _ = fcntl_setpipe_size(&input, limits::PIPE_BYTES);
        Some(Self {
            input,
            output,
            holds: 0,
            _place: place,
        })
    }

    /// Keeps it for the next who needs one.
    pub(super) fn give_back(self) {
        IDLE.with_borrow_mut(|idle| {
            if self.holds == 0 && idle.len() < limits::IDLE_PIPES {
                idle.push(self);
            }
        });
    }

    /// Fills it, which is empty, with what the socket has. Returns how many bytes that were; zero at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || shift(from, &self.input, limits::PIPE_BYTES)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => {
                    self.holds = *filled.as_ref().unwrap_or(&0);
                    return Poll::Ready(filled);
                }
            }
        }
    }

    /// Empties it into the socket.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while self.holds > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || shift(&self.output, to, self.holds)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.holds = self.holds.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn shift(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(
        from,
        None,
        to,
        None,
        most,
        SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
    )?)
}

impl Place {
    fn enter() -> Option<Self> {
        let open = OPEN.get();
        (open < limits::PIPES).then(|| {
            OPEN.set(open + 1);
            Self
        })
    }
}

/// Pipes that nobody uses.
#[cfg(test)]
pub(super) fn idle() -> usize {
    IDLE.with_borrow(Vec::len)
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}
