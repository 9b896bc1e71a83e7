//! Requests that end HTTP on their connection: protocol upgrades and CONNECT.
//!
//! Once such a request was let through, its connection either becomes a tunnel or is closed: what a client sends behind it
//! is never read as another request.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use http::{Method, Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh::{listener::Http, route::RouteAction};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Answer, Context, head::Head, trail::Trail};
use crate::{
    error::{BadRequest, ProxyError, UpstreamReset},
    stream::Side,
    stream::Upstream,
    tcp::relay::{Broken, Counts, relay},
    upstream::{
        balance::InFlight,
        breaker::Permit,
        cluster::Cluster,
        connect::{Purpose, connect},
        pool::Lease,
    },
};

/// Two ends that will be joined once the client's end has switched.
pub(crate) struct Tunnel {
    downstream: OnUpgrade,
    upstream: End,
    terms: Terms,
}

/// What a tunnel is held to.
pub(super) struct Terms {
    /// What was asked for. A policy that would refuse it now ends the tunnel.
    pub(super) asked: Head,
    /// Bound on silence.
    pub(super) idle: Option<Duration>,
}

enum End {
    /// A connection that speaks HTTP until it has switched too.
    Switching(OnUpgrade, Lease),
    /// A connection that never spoke HTTP.
    Raw(Box<Upstream>, InFlight, Permit),
}

/// Takes the hook by which the connection can leave HTTP, if the request is one that may.
pub(super) fn take(parts: &mut Parts) -> Option<OnUpgrade> {
    parts.extensions.remove::<OnUpgrade>()
}

/// Whether the upgrade that a request wants is one we let through, on this route.
pub(super) fn check(head: &Head, settings: &Http, route: Option<&RouteAction>) -> Result<(), ProxyError> {
    let Some(wish) = &head.upgrade else { return Ok(()) };
    let token = wish.0.as_bytes();
    let is_in = |tokens: &[String]| tokens.iter().any(|known| token.eq_ignore_ascii_case(known.as_bytes()));
    let refused = matches!(route, Some(RouteAction::Forward(to)) if is_in(&to.refused_upgrades));
    if is_in(&settings.upgrades) && !refused {
        Ok(())
    } else {
        Err(ProxyError::Request(BadRequest::Upgrade))
    }
}

/// Ends a CONNECT request here: what comes behind it goes to the cluster as it is.
pub(super) async fn terminate_connect(
    context: &Context<'_>,
    cluster: &Arc<Cluster>,
    terms: Terms,
    switch: Option<OnUpgrade>,
    trail: &mut Trail,
) -> Result<Answer, ProxyError> {
    let enabled = context.chain.settings.upgrades.iter().any(|token| token == "connect");
    let downstream = switch.filter(|_| enabled && terms.asked.method == Method::CONNECT);
    let downstream = downstream.ok_or(ProxyError::Request(BadRequest::Upgrade))?;
    let permit = cluster.breakers().connections.acquire().ok_or(ProxyError::Overflow)?;
    trail.upload(None);
    trail.attempt();
    let worker = &context.session.worker;
    let host = cluster.pick(&context.session.conn, &[], &mut *worker.rng.borrow_mut())?;
    trail.host(&host);
    let connected = connect(&*worker.shared.network, cluster, &host, &Purpose::default()).await;
    let connected = connected.map_err(ProxyError::Connect)?;
    trail.connected(Some(connected.local), "-");
    let upstream = End::Raw(Box::new(connected.io), host.begin(), permit);
    let tunnel = Tunnel {
        downstream,
        upstream,
        terms,
    };
    Ok(Answer::Switch(Response::new(()), tunnel))
}

impl Tunnel {
    /// Between two connections that both leave HTTP.
    pub(super) fn upgraded(downstream: OnUpgrade, upstream: OnUpgrade, lease: Lease, terms: Terms) -> Self {
        Self {
            downstream,
            upstream: End::Switching(upstream, lease),
            terms,
        }
    }

    /// Joins the two ends until both are closed; the record ends with that.
    pub(super) async fn run(self, mut trail: Trail) {
        let Self {
            downstream,
            upstream,
            terms,
        } = self;
        let Ok(downstream) = downstream.await else { return };
        let downstream = TokioIo::new(downstream);
        let session = trail.session().clone();
        let joined = async {
            match upstream {
                End::Raw(upstream, _flight, _permit) => join(downstream, *upstream, terms.idle, &mut trail).await,
                End::Switching(upstream, _lease) => match upstream.await {
                    Ok(upstream) => join(downstream, TokioIo::new(upstream), terms.idle, &mut trail).await,
                    Err(_) => UPSTREAM_CLOSED,
                },
            }
        };
        let ended = tokio::select! {
            biased;
            ended = joined => ended,
            refused = session.refuses(&terms.asked) => refused,
        };
        trail.error(&ended);
        trail.settle();
    }
}

const UPSTREAM_CLOSED: ProxyError = ProxyError::Reset {
    reset: UpstreamReset::Closed,
    started: true,
};

/// Carries bytes until both sides have closed. Returns what the record says of it: who was first, as in Envoy.
async fn join<D, U>(downstream: D, upstream: U, idle: Option<Duration>, trail: &mut Trail) -> ProxyError
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let tally = Tally {
        trail,
        counts: Counts::default(),
    };
    let first = Cell::new(None);
    let mut downstream = Watched {
        stream: downstream,
        end: ProxyError::DownstreamGone,
        first: &first,
    };
    let mut upstream = Watched {
        stream: upstream,
        end: UPSTREAM_CLOSED,
        first: &first,
    };
    let relayed = relay(&mut downstream, &mut upstream, &tally.counts, idle).await;
    match (first.take(), relayed) {
        (Some(first), _) => first,
        (None, Err(Broken::Idle)) => ProxyError::StreamIdle {
            request_complete: true,
            started: true,
        },
        (None, Err(Broken::Downstream(_))) => ProxyError::DownstreamGone,
        (None, Ok(()) | Err(Broken::Upstream(_))) => UPSTREAM_CLOSED,
    }
}

/// Copies the counts into the record however the tunnel ends, cancelled included.
struct Tally<'a> {
    trail: &'a mut Trail,
    counts: Counts,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.trail.received(self.counts.received.get());
        self.trail
            .sent(usize::try_from(self.counts.sent.get()).unwrap_or(usize::MAX));
    }
}

/// One end of a tunnel, which notes whether it was the first to close.
struct Watched<'a, S> {
    stream: S,
    end: ProxyError,
    first: &'a Cell<Option<ProxyError>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side for Watched<'_, S> {}

impl<S> Watched<'_, S> {
    fn ended(&self) {
        let first = self.first.take().unwrap_or_else(|| self.end.clone());
        self.first.set(Some(first));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if read.is_err() || buf.filled().len() == before {
            self.ended();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
