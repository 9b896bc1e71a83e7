//! A copy of a request's body on its way to a mirror.
//!
//! Invariant: a copy never delays the request. What waits in it is bounded; one that is not read fast enough breaks.

use std::{
    cell::RefCell,
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::Notify;

/// The pieces that were read of the body and not yet by the mirror.
#[derive(Debug)]
pub(crate) struct Tap {
    state: RefCell<State>,
    limit: usize,
    broken: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Open,
    Complete,
    Broken,
}

impl Tap {
    /// At most `limit` bytes wait.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: RefCell::default(),
            limit,
            broken: Notify::new(),
        }
    }

    pub(super) fn push(&self, data: &Bytes) {
        let mut state = self.state.borrow_mut();
        if state.bytes + data.len() > self.limit {
            drop(state);
            return self.end(End::Broken);
        }
        state.bytes += data.len();
        state.waiting.push_back(data.clone());
        state.wake();
    }

    /// All of the body came.
    pub(super) fn complete(&self) {
        self.end(End::Complete);
    }

    /// The rest of the body will not come.
    pub(super) fn give_up(&self) {
        self.end(End::Broken);
    }

    /// Waits until the copy cannot be completed any more.
    pub(crate) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Whether all was read.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.state.borrow();
        state.end == End::Complete && state.waiting.is_empty()
    }

    /// The next piece. A broken copy waits for ever, lest its upstream take a part for the whole.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.borrow_mut();
        if let Some(data) = state.waiting.pop_front() {
            state.bytes -= data.len();
            return Poll::Ready(Some(data));
        }
        if state.end == End::Complete {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn end(&self, end: End) {
        let mut state = self.state.borrow_mut();
        if state.end != End::Open {
            return;
        }
        state.end = end;
        if end == End::Broken {
            state.waiting.clear();
            state.bytes = 0;
            self.broken.notify_one();
        }
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(tap: &Tap) -> Poll<Option<Bytes>> {
        tap.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn passes_what_is_pushed_and_then_the_end() {
        let tap = Tap::new(4);
        assert!(poll(&tap).is_pending());
        tap.push(&Bytes::from_static(b"ab"));
        tap.complete();
        tap.give_up();
        assert!(!tap.is_drained());
        assert_eq!(poll(&tap), Poll::Ready(Some(Bytes::from_static(b"ab"))));
        assert!(tap.is_drained());
        assert_eq!(poll(&tap), Poll::Ready(None));
    }

    #[tokio::test]
    async fn breaks_when_more_waits_than_may() {
        let tap = Tap::new(4);
        tap.push(&Bytes::from_static(b"abc"));
        tap.push(&Bytes::from_static(b"de"));
        tap.complete();
        tap.broken().await;
        assert!(poll(&tap).is_pending() && !tap.is_drained());
    }
}
