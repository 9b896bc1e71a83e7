//! Requests that end HTTP on their connection: protocol upgrades and CONNECT.
//!
//! Once such a request was let through, its connection either becomes a tunnel or is closed: what a client sends behind it
//! is never read as another request.

use std::sync::Arc;

use http::{Method, Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh::listener::Http;

use super::{Answer, Context, head::Head, trail::Trail};
use crate::{
    error::{BadRequest, ProxyError, UpstreamReset},
    flags::Flag,
    stream::Upstream,
    upstream::{
        balance::InFlight,
        cluster::Cluster,
        connect::{Purpose, connect},
        pool::Lease,
    },
};

/// Two ends that will be joined once the client's end has switched.
pub(crate) struct Tunnel {
    downstream: OnUpgrade,
    upstream: End,
}

enum End {
    /// A connection that speaks HTTP until it has switched too.
    Switching(OnUpgrade, Lease),
    /// A connection that never spoke HTTP.
    Raw(Upstream, InFlight),
}

/// Takes the hook by which the connection can leave HTTP, if the request is one that may.
pub(super) fn take(parts: &mut Parts) -> Option<OnUpgrade> {
    parts.extensions.remove::<OnUpgrade>()
}

/// Whether the upgrade that a request wants is one we let through.
pub(super) fn check(head: &Head, settings: &Http) -> Result<(), ProxyError> {
    let Some(wish) = &head.upgrade else { return Ok(()) };
    let token = wish.0.as_bytes();
    let enabled = settings.upgrades.iter().any(|enabled| token.eq_ignore_ascii_case(enabled.as_bytes()));
    if enabled { Ok(()) } else { Err(ProxyError::Request(BadRequest::Upgrade)) }
}

/// Ends a CONNECT request here: what comes behind it goes to the cluster as it is.
pub(super) async fn terminate_connect(
    context: &Context<'_>,
    cluster: &Arc<Cluster>,
    head: &Head,
    switch: Option<OnUpgrade>,
    trail: &mut Trail,
) -> Result<Answer, ProxyError> {
    let enabled = context.chain.settings.upgrades.iter().any(|token| token == "connect");
    let (Method::CONNECT, true, Some(downstream)) = (head.method.clone(), enabled, switch) else {
        return Err(ProxyError::Request(BadRequest::Upgrade));
    };
    trail.upload(None);
    let worker = &context.session.worker;
    let host = cluster.pick(&context.session.conn, &[], &mut *worker.rng.borrow_mut())?;
    trail.attempt(&host, "-");
    let connected = connect(&*worker.shared.network, cluster, &host, &Purpose::default()).await;
    let connected = connected.map_err(ProxyError::Connect)?;
    trail.connected(Some(connected.local));
    let upstream = End::Raw(connected.io, host.begin());
    Ok(Answer::Switch(Response::new(()), Tunnel { downstream, upstream }))
}

impl Tunnel {
    /// Between two connections that both leave HTTP.
    pub(super) fn upgraded(downstream: OnUpgrade, upstream: OnUpgrade, lease: Lease) -> Self {
        Self { downstream, upstream: End::Switching(upstream, lease) }
    }

    /// Joins the two ends until both are closed; the record ends with that.
    pub(super) async fn run(self, mut trail: Trail) {
        let Self { downstream, upstream } = self;
        let Ok(downstream) = downstream.await else { return };
        let mut downstream = TokioIo::new(downstream);
        let joined = match upstream {
            End::Raw(mut upstream, _flight) => tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await,
            End::Switching(upstream, _lease) => match upstream.await {
                Ok(upstream) => tokio::io::copy_bidirectional(&mut downstream, &mut TokioIo::new(upstream)).await,
                Err(_) => return trail.error(&ProxyError::Reset { reset: UpstreamReset::Closed, started: true }),
            },
        };
        if let Ok((received, sent)) = joined {
            trail.received(received);
            trail.sent(usize::try_from(sent).unwrap_or(usize::MAX));
        }
        trail.flag(Flag::Uc);
        trail.settle();
    }
}
