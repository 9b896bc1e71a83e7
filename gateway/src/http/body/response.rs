//! The body of a response, with which the request's record ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    error::ProxyError,
    http::{timers::BodyTimers, trail::Trail},
    upstream::pool::Lease,
};

/// What an upstream sends.
pub(crate) struct Download {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease,
    pub(crate) timers: BodyTimers,
    /// Over HTTP/1, on either side, there are none by default, as in Envoy.
    pub(crate) pass_trailers: bool,
}

/// A response's body on its way to the client.
pub(crate) struct ResponseBody {
    source: Source,
    /// `None`: the connection leaves HTTP, and the record goes with it.
    trail: Option<Trail>,
    /// Bytes still to come of the length that the upstream has announced. `None`: it has announced none.
    owed: Option<u64>,
    /// The length that a 304 gives although nothing follows. hyper keeps such a header only with a body that seems to have
    /// that length; it never asks for it.
    announced: Option<u64>,
}

enum Source {
    Ended,
    Local(Bytes),
    Upstream(Box<Download>),
}

/// A response that cannot be completed; the connection is closed or the stream reset.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut short: {0}")]
pub(crate) struct Cut(ProxyError);

impl ResponseBody {
    /// An upstream's.
    pub(crate) fn upstream(download: Download, trail: Trail) -> Self {
        Self {
            owed: download.incoming.size_hint().exact(),
            source: Source::Upstream(Box::new(download)),
            trail: Some(trail),
            announced: None,
        }
    }

    /// Seems to be of this length, of which nothing is sent.
    pub(crate) fn announce(&mut self, length: u64) {
        self.announced = Some(length);
    }

    /// Our own.
    pub(crate) fn local(body: Bytes, trail: Trail) -> Self {
        let source = if body.is_empty() {
            Source::Ended
        } else {
            Source::Local(body)
        };
        Self {
            source,
            trail: Some(trail),
            owed: None,
            announced: None,
        }
    }

    /// None, for a connection that leaves HTTP.
    pub(crate) fn switching() -> Self {
        Self {
            source: Source::Ended,
            trail: None,
            owed: None,
            announced: None,
        }
    }

    /// Whether the connection leaves HTTP with this response.
    pub(crate) fn is_switching(&self) -> bool {
        self.trail.is_none()
    }

    /// The upstream has sent all: its connection may serve the next request.
    fn end(&mut self) {
        if let (Source::Upstream(download), Some(trail)) =
            (std::mem::replace(&mut self.source, Source::Ended), &self.trail)
        {
            download
                .lease
                .release(trail.request_ended(), &trail.session().worker.drain);
        }
    }

    fn cut(&mut self, error: ProxyError) -> Cut {
        self.source = Source::Ended;
        if let Some(trail) = &mut self.trail {
            trail.error(&error);
            trail.settle();
        }
        Cut(error)
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Source::Upstream(download) = &mut self.source else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut download.incoming).poll_frame(cx) else {
            let expired = ready!(download.timers.poll_expired(cx));
            return Poll::Ready(Some(Err(self.cut(expired))));
        };
        download.timers.touch();
        match frame {
            None => self.end(),
            Some(Err(error)) => {
                let error = ProxyError::Reset {
                    reset: download.lease.cut(&error),
                    started: true,
                };
                return Poll::Ready(Some(Err(self.cut(error))));
            }
            Some(Ok(frame)) => return Poll::Ready(self.pass(frame).map(Ok)),
        }
        Poll::Ready(None)
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let (Source::Upstream(download), Some(trail)) = (&self.source, &mut self.trail) else {
            return None;
        };
        let (ended, pass_trailers) = (download.incoming.is_end_stream(), download.pass_trailers);
        if let Some(data) = frame.data_ref() {
            trail.sent(data.len());
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.owed = self.owed.map(|owed| owed.saturating_sub(length));
        }
        let trailers = frame.trailers_ref();
        if let Some(trailers) = trailers {
            trail.trailers(trailers);
        }
        let (is_trailers, wanted) = (trailers.is_some(), trailers.is_none() || pass_trailers);
        if ended || is_trailers {
            self.end();
        }
        wanted.then_some(frame)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.announced = None;
        match &mut self.source {
            Source::Ended => Poll::Ready(None),
            Source::Local(body) => {
                let body = std::mem::take(body);
                self.source = Source::Ended;
                if let Some(trail) = &mut self.trail {
                    trail.sent(body.len());
                }
                Poll::Ready(Some(Ok(Frame::data(body))))
            }
            Source::Upstream(_) => self.poll_upstream(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            _ if self.announced.is_some() => false,
            Source::Ended => true,
            Source::Local(_) => false,
            Source::Upstream(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(length) = self.announced {
            return SizeHint::with_exact(length);
        }
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::Local(body) => SizeHint::with_exact(u64::try_from(body.len()).unwrap_or(u64::MAX)),
            Source::Upstream(download) => download.incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.announced = None;
        if self.is_end_stream() {
            self.end();
        } else if self.owed != Some(0) {
            return;
        }
        // An HTTP/1 client has all there is with the last announced byte, which over HTTP/2 may come before the stream's end.
        if let Some(trail) = &mut self.trail {
            trail.settle();
        }
    }
}
