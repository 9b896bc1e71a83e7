//! The body of a request: counted as it passes, kept while another attempt may need it.
//!
//! Invariant: at most the buffer limit is kept; what is longer can be sent once. Only the newest reader gets frames: one
//! left over from a failed attempt waits for ever, so that its upstream never takes a part for the whole.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::Notify, time::Instant};

use super::Tap;
use crate::error::{BadRequest, ProxyError};

/// The body a client sends, over all attempts.
#[derive(Debug)]
pub(crate) struct Upload {
    source: RefCell<Source>,
    length: Option<u64>,
    received: Cell<u64>,
    complete: Cell<bool>,
    completed: Notify,
    failure: RefCell<Option<ProxyError>>,
    last_frame: Cell<Instant>,
    reader: Cell<u32>,
    taps: RefCell<Vec<Rc<Tap>>>,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// How much may be kept. `None`: nothing is, or no longer.
    keep: Option<usize>,
    trailers: Option<HeaderMap>,
}

/// What an upstream gets of the body.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    /// Nothing.
    #[default]
    None,
    /// One attempt's reader.
    Reader(Reader),
    /// A mirror's copy.
    Copy {
        tap: Rc<Tap>,
        /// Bytes still to come, if that is known.
        left: Option<u64>,
    },
}

#[derive(Debug)]
pub(crate) struct Reader {
    upload: Rc<Upload>,
    number: u32,
    next: usize,
    read: u64,
    /// HTTP/1 loses them by default, as in Envoy.
    pass_trailers: bool,
    ended: bool,
}

impl Upload {
    /// Takes a body. `keep`: bytes kept for another attempt. `None`: there is no body.
    pub(crate) fn new(incoming: Incoming, keep: Option<usize>) -> Option<Rc<Self>> {
        if incoming.is_end_stream() {
            return None;
        }
        Some(Rc::new(Self {
            length: incoming.size_hint().exact(),
            source: RefCell::new(Source {
                incoming,
                kept: Vec::new(),
                kept_bytes: 0,
                keep,
                trailers: None,
            }),
            received: Cell::new(0),
            complete: Cell::new(false),
            completed: Notify::new(),
            failure: RefCell::new(None),
            last_frame: Cell::new(Instant::now()),
            reader: Cell::new(0),
            taps: RefCell::default(),
        }))
    }

    /// A copy of what will come. Before anything is read. At most `limit` bytes wait in it.
    pub(crate) fn tap(&self, limit: usize) -> Rc<Tap> {
        let tap = Rc::new(Tap::new(limit));
        self.taps.borrow_mut().push(tap.clone());
        tap
    }

    /// A reader from the beginning; earlier ones get nothing any more. Only while [`Self::is_replayable`].
    pub(crate) fn reader(self: &Rc<Self>, pass_trailers: bool) -> RequestBody {
        let number = self.reader.get().wrapping_add(1);
        self.reader.set(number);
        let upload = self.clone();
        RequestBody::Reader(Reader {
            upload,
            number,
            next: 0,
            read: 0,
            pass_trailers,
            ended: false,
        })
    }

    /// Whether everything that was read so far can be read again.
    pub(crate) fn is_replayable(&self) -> bool {
        self.received.get() == 0 || self.source.borrow().keep.is_some()
    }

    /// There will be no other attempt.
    pub(crate) fn forget(&self) {
        let mut source = self.source.borrow_mut();
        source.keep = None;
    }

    /// Bytes that came so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether all of it came.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Waits until all of it came.
    pub(crate) async fn completed(&self) {
        while !self.complete.get() {
            self.completed.notified().await;
        }
    }

    /// Why it could not be read to its end.
    pub(crate) fn failure(&self) -> Option<ProxyError> {
        self.failure.borrow().clone()
    }

    /// When something of it last came.
    pub(crate) fn last_frame(&self) -> Instant {
        self.last_frame.get()
    }

    fn complete(&self) {
        self.complete.set(true);
        self.completed.notify_waiters();
        self.taps.borrow().iter().for_each(|tap| tap.complete());
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut source = self.source.borrow_mut();
        let frame = ready!(Pin::new(&mut source.incoming).poll_frame(cx));
        self.last_frame.set(Instant::now());
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.received
                        .set(self.received.get() + u64::try_from(data.len()).unwrap_or(0));
                    source.keep(data);
                    self.taps.borrow().iter().for_each(|tap| tap.push(data));
                }
                source.trailers = frame.trailers_ref().cloned();
                if source.trailers.is_some() || source.incoming.is_end_stream() {
                    self.complete();
                }
            }
            Some(Err(error)) => *self.failure.borrow_mut() = Some(failure(error)),
            None => self.complete(),
        }
        Poll::Ready(frame)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.taps.borrow().iter().for_each(|tap| tap.give_up());
    }
}

impl Source {
    fn keep(&mut self, data: &Bytes) {
        let Some(limit) = self.keep else { return };
        if self.kept_bytes + data.len() <= limit {
            self.kept_bytes += data.len();
            self.kept.push(data.clone());
        } else {
            self.keep = None;
        }
    }
}

/// A client that breaks the framing of its body has made a bad request; any other error means that it is gone.
fn failure(error: &hyper::Error) -> ProxyError {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => ProxyError::Request(BadRequest::Codec),
        _ => ProxyError::DownstreamGone,
    }
}

impl Reader {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.number != self.upload.reader.get() {
            return Poll::Pending;
        }
        if let Some(data) = self.kept() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if self.upload.is_complete() {
            self.ended = true;
            let trailers = self
                .upload
                .source
                .borrow()
                .trailers
                .clone()
                .filter(|_| self.pass_trailers);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(self.upload.poll_source(cx));
        self.next = self.upload.source.borrow().kept.len();
        self.ended = self.upload.is_complete();
        Poll::Ready(frame.filter(|frame| {
            frame
                .as_ref()
                .map_or(true, |frame| self.pass_trailers || !frame.is_trailers())
        }))
    }

    /// What an earlier reader has read.
    fn kept(&mut self) -> Option<Bytes> {
        let data = self.upload.source.borrow().kept.get(self.next).cloned()?;
        self.next += 1;
        Some(data)
    }
}

impl RequestBody {
    /// The copy that goes by way of a tap of this body.
    pub(crate) fn copy(tap: &Rc<Tap>, upload: &Upload) -> Self {
        Self::Copy {
            tap: tap.clone(),
            left: upload.length,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let length = |data: Option<&Bytes>| u64::try_from(data.map_or(0, Bytes::len)).unwrap_or(0);
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Reader(reader) => {
                let frame = reader.poll(cx);
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    reader.read += length(frame.data_ref());
                }
                frame
            }
            Self::Copy { tap, left } => {
                let data = ready!(tap.poll(cx));
                *left = left.map(|left| left.saturating_sub(length(data.as_ref())));
                Poll::Ready(data.map(|data| Ok(Frame::data(data))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Reader(reader) => reader.ended && reader.upload.source.borrow().kept.len() <= reader.next,
            Self::Copy { tap, .. } => tap.is_drained(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match self {
            Self::None => Some(0),
            Self::Reader(reader) => reader.upload.length.map(|length| length.saturating_sub(reader.read)),
            Self::Copy { left, .. } => *left,
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
