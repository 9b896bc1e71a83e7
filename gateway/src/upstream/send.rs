//! Sends one request to one host and waits for the response's headers.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use http::{Request, Response};
use hyper::body::Incoming;

use super::pool::{Lease, Pools, SendError, Target};
use crate::{error::ProxyError, http::body::RequestBody, network::Network};

/// An attempt that failed.
pub(crate) struct Failed {
    pub(crate) error: ProxyError,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

/// Sends a request. `connected` learns our address as soon as there is a connection; `expired` bounds the time from then
/// on.
///
/// A pooled connection that turns out to be closed before anything was sent over it does not count: another is taken.
///
/// # Errors
/// Why there is no response, and the request if it can be sent again unchanged.
pub(crate) async fn send(
    pools: &Pools,
    network: &Arc<dyn Network>,
    target: &Target<'_>,
    mut request: Request<RequestBody>,
    mut connected: impl FnMut(Option<SocketAddr>),
    expired: impl AsyncFn() -> ProxyError,
) -> Result<(Response<Incoming>, Lease), Failed> {
    loop {
        let mut lease = match pools.checkout(network, target).await {
            Ok(lease) => lease,
            Err(error) => {
                return Err(Failed {
                    error,
                    unsent: Some(request),
                });
            }
        };
        connected(lease.local());
        let sent = within(pin!(lease.send(request)), pin!(expired())).await;
        match sent {
            Ok(Ok(response)) => return Ok((response, lease)),
            Ok(Err(SendError {
                unsent: Some(unsent), ..
            })) if lease.is_reused() => request = unsent,
            Ok(Err(SendError { reset, unsent })) => {
                return Err(Failed {
                    error: ProxyError::Reset { reset, started: false },
                    unsent,
                });
            }
            Err(error) => return Err(Failed { error, unsent: None }),
        }
    }
}

/// Waits for the work, unless its time expires before. Both are pinned where they were made: `select!` would move them twice, and
/// they are large.
pub(crate) async fn within<T>(
    mut work: Pin<&mut impl Future<Output = T>>,
    mut expired: Pin<&mut impl Future<Output = ProxyError>>,
) -> Result<T, ProxyError> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => expired.as_mut().poll(cx).map(Err),
    })
    .await
}
