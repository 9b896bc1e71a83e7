//! How long an exchange may take, as a route and its connection manager say.
//!
//! The route's timeout runs from the end of the request, as in Envoy: a slow upload is not the upstream's fault.

use std::{
    future::{Future, pending},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use mesh::{listener::HttpTimeouts, route::Forward};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::Upload;
use crate::{error::ProxyError, limits};

/// The bounds of one exchange.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    began: Instant,
    route: Option<Duration>,
    idle: Option<Duration>,
    request: Option<Duration>,
    upload: Option<Rc<Upload>>,
}

/// The same while the response's body is on its way.
#[derive(Debug)]
pub(crate) struct BodyTimers {
    timers: Timers,
    last_frame: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// For a request that began then.
    pub(super) fn new(began: Instant, to: &Forward, settings: &HttpTimeouts, upload: Option<Rc<Upload>>) -> Self {
        Self {
            began,
            route: enabled(to.timeout.unwrap_or(limits::ROUTE_TIMEOUT)),
            idle: Self::idle(to, settings),
            request: settings.request.and_then(enabled),
            upload,
        }
    }

    /// The bound on silence of a route's streams, if there is one.
    pub(super) fn idle(to: &Forward, settings: &HttpTimeouts) -> Option<Duration> {
        enabled(to.idle_timeout.or(settings.stream_idle).unwrap_or(limits::STREAM_IDLE))
    }

    /// Waits until the exchange has taken too long without a response.
    pub(super) async fn expired(&self) -> ProxyError {
        tokio::select! {
            error = self.route_expired() => error,
            error = self.idle_expired() => error,
            error = self.request_expired() => error,
        }
    }

    /// For the time after the response's headers.
    pub(super) fn for_body(self) -> BodyTimers {
        BodyTimers {
            timers: self,
            last_frame: Instant::now(),
            sleep: None,
        }
    }

    async fn route_expired(&self) -> ProxyError {
        let Some(timeout) = self.route else {
            return pending().await;
        };
        if let Some(upload) = &self.upload {
            upload.completed().await;
        }
        sleep_until(self.request_end().unwrap_or(self.began) + timeout).await;
        ProxyError::RouteTimeout { started: false }
    }

    async fn idle_expired(&self) -> ProxyError {
        let Some(timeout) = self.idle else {
            return pending().await;
        };
        let last = || self.upload.as_ref().map_or(self.began, |upload| upload.last_frame());
        while last().elapsed() < timeout {
            sleep_until(last() + timeout).await;
        }
        ProxyError::StreamIdle {
            request_complete: self.request_end().is_some(),
            started: false,
        }
    }

    async fn request_expired(&self) -> ProxyError {
        let (Some(timeout), Some(upload)) = (self.request, &self.upload) else {
            return pending().await;
        };
        tokio::select! {
            () = upload.completed() => pending().await,
            () = sleep_until(self.began + timeout) => ProxyError::RequestTimeout,
        }
    }

    /// How long the upstream has had so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.request_end().map_or(Duration::ZERO, |end| end.elapsed())
    }

    /// When the last byte of the request came, if it did.
    fn request_end(&self) -> Option<Instant> {
        match &self.upload {
            Some(upload) => upload.is_complete().then(|| upload.last_frame()),
            None => Some(self.began),
        }
    }
}

impl BodyTimers {
    /// Something came.
    pub(super) fn touch(&mut self) {
        if self.timers.idle.is_some() {
            self.last_frame = Instant::now();
        }
    }

    /// Ready once the exchange has taken too long.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<ProxyError> {
        while let Some((deadline, error)) = self.next() {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A late frame may have moved the deadline since the timer was set.
            if self.next().is_some_and(|(deadline, _)| deadline <= Instant::now()) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    /// The bound that is reached first.
    fn next(&self) -> Option<(Instant, ProxyError)> {
        let timers = &self.timers;
        let route = timers.route.and_then(|timeout| Some(timers.request_end()? + timeout));
        let upload = timers.upload.as_ref().map(|upload| upload.last_frame());
        let last = upload.map_or(self.last_frame, |upload| upload.max(self.last_frame));
        let idle = timers.idle.map(|timeout| last + timeout);
        let request_complete = timers.request_end().is_some();
        match (route, idle) {
            (Some(route), idle) if idle.is_none_or(|idle| route <= idle) => {
                Some((route, ProxyError::RouteTimeout { started: true }))
            }
            (_, Some(idle)) => Some((
                idle,
                ProxyError::StreamIdle {
                    request_complete,
                    started: true,
                },
            )),
            (_, None) => None,
        }
    }
}

/// Zero disables a timeout.
fn enabled(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}
