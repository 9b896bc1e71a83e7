//! Forwards a request: attempts, one after another, until one of them stands.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, HOST},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use mesh::{cluster::UpstreamHttp, host::Host as HostName, route::Forward};
use smallvec::SmallVec;
use tokio::time::{Instant, sleep};

use super::{
    Answer, Context, Resolved,
    body::{Download, RequestBody, Upload},
    head::Head,
    hop, lines, mirror,
    retry::{Decision, Retries},
    rewrite,
    timers::Timers,
    trail::Trail,
    upgrade::{self, Terms, Tunnel},
};
use crate::{
    error::{BadRequest, ProxyError, UpstreamReset},
    flags::Flag,
    limits,
    upstream::{
        cluster::Cluster,
        connect::Purpose,
        pool::{Lease, Target},
        send::{Failed, send, within},
    },
};

/// Methods whose requests have no body unless they say so (RFC 9110 section 9.3).
const BODYLESS: [Method; 5] = [
    Method::GET,
    Method::HEAD,
    Method::DELETE,
    Method::CONNECT,
    Method::TRACE,
];
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request that is being forwarded.
struct Exchange<'a> {
    context: &'a Context<'a>,
    resolved: Resolved<'a>,
    cluster: &'a Arc<Cluster>,
    to: &'a Forward,
    /// The request's head as the upstream gets it. `None` once it was sent and nothing could make us send it again.
    parts: Option<Parts>,
    upload: Option<Rc<Upload>>,
    /// The last attempt has, or may have, sent some of the request.
    sent: bool,
    timers: Timers,
    purpose: Purpose,
    http2: bool,
    is_grpc: bool,
    client: Version,
}

/// An attempt that has brought response headers.
struct Attempt {
    response: Response<Incoming>,
    lease: Lease,
    took: Duration,
}

/// Forwards a request as its route says.
pub(super) async fn forward(
    context: &Context<'_>,
    resolved: Resolved<'_>,
    to: &Forward,
    mut head: Head,
    incoming: Incoming,
    switch: Option<OnUpgrade>,
    trail: &mut Trail,
) -> Result<Answer, ProxyError> {
    let Some(cluster) = resolved.cluster.and_then(|name| context.snapshot.cluster(name)) else {
        trail.request(&head);
        return Err(ProxyError::ClusterNotFound);
    };
    let idle = Timers::idle(to, &context.chain.settings.timeouts);
    if to.terminate_connect {
        trail.request(&head);
        let terms = Terms { asked: head, idle };
        return Box::pin(upgrade::terminate_connect(context, cluster, terms, switch, trail)).await;
    }
    let terms = head.upgrade.is_some().then(|| Terms {
        asked: head.clone(),
        idle,
    });
    let rewritten = rewrite::request(&mut head, resolved.route, to);
    trail.request(&head);
    rewritten?;
    let http2 = speaks_http2(cluster, &head);
    if terms.is_some() && http2 {
        return Err(ProxyError::Request(BadRequest::Upgrade));
    }
    let keep = to.retry.is_some().then(|| buffer_limit(cluster));
    let upload = Upload::new(incoming, keep);
    trail.upload(upload.as_ref());
    let timers = Timers::new(
        trail.started().instant,
        to,
        &context.chain.settings.timeouts,
        upload.clone(),
    );
    mirror::send_copies(context, to, &head, upload.as_ref());
    let purpose = purpose(cluster, &head, http2);
    let (is_grpc, client) = (head.is_grpc(), head.version);
    let parts = Some(outbound(head, http2, upload.is_some())?);
    let mut exchange = Exchange {
        context,
        resolved,
        cluster,
        to,
        parts,
        upload,
        sent: false,
        timers,
        purpose,
        http2,
        is_grpc,
        client,
    };
    let attempt = exchange.run(trail).await?;
    if attempt.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return exchange.switch(attempt, terms, switch);
    }
    Ok(Answer::Upstream(exchange.finish(attempt, terms.is_some())))
}

impl<'a> Exchange<'a> {
    /// The attempts.
    async fn run(&mut self, trail: &mut Trail) -> Result<Attempt, ProxyError> {
        let mut retries = Retries::new(self.to.retry.as_ref());
        let mut tried = SmallVec::<[SocketAddr; 2]>::new();
        let mut retrying = None;
        loop {
            let outcome = self.attempt(&retries, &mut tried, trail).await;
            match self.judge(&outcome, &mut retries) {
                Decision::Again(delay) if self.can_resend() => {
                    retrying = retrying.or_else(|| self.cluster.breakers().retries.acquire());
                    if retrying.is_none() {
                        trail.flag(Flag::Uo);
                        return outcome;
                    }
                    outcome.into_iter().for_each(|attempt| self.leave(attempt));
                    Box::pin(self.pause(delay)).await?;
                }
                Decision::Exhausted => {
                    trail.flag(Flag::Urx);
                    return outcome;
                }
                Decision::Keep | Decision::Again(_) => return outcome,
            }
        }
    }

    fn judge(&self, outcome: &Result<Attempt, ProxyError>, retries: &mut Retries<'_>) -> Decision {
        let mut rng = self.context.session.worker.rng.borrow_mut();
        match outcome {
            Ok(attempt) => {
                let response = &attempt.response;
                retries.after_response(response.status(), response.headers(), &mut *rng)
            }
            Err(error) => retries.after_error(error, self.sent, &mut *rng),
        }
    }

    fn can_resend(&self) -> bool {
        self.parts.is_some() && self.upload.as_ref().is_none_or(|upload| upload.is_replayable())
    }

    /// A response that nobody gets. Its connection serves on if there is nothing more to read on it.
    fn leave(&self, attempt: Attempt) {
        if attempt.response.body().is_end_stream() {
            let drain = &self.context.session.worker.drain;
            attempt.lease.release(self.is_upload_complete(), drain);
        }
    }

    fn is_upload_complete(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_complete())
    }

    /// The route's timeout covers the time between attempts too.
    async fn pause(&self, delay: Duration) -> Result<(), ProxyError> {
        tokio::select! {
            () = sleep(delay) => Ok(()),
            error = self.timers.expired() => Err(error),
        }
    }

    async fn attempt(
        &mut self,
        retries: &Retries<'_>,
        tried: &mut SmallVec<[SocketAddr; 2]>,
        trail: &mut Trail,
    ) -> Result<Attempt, ProxyError> {
        trail.attempt();
        self.sent = false;
        let worker = &self.context.session.worker;
        let host = self
            .cluster
            .pick(&self.context.session.conn, tried, &mut *worker.rng.borrow_mut())?;
        if self.to.retry.as_ref().is_some_and(|retry| retry.avoid_previous_hosts) {
            tried.push(host.address);
        }
        trail.host(&host);
        let protocol = if self.http2 { "HTTP/2" } else { "HTTP/1.1" };
        let request = self.request(retries, trail.attempts())?;
        let target = Target {
            cluster: self.cluster,
            host: &host,
            http2: self.http2,
            purpose: self.purpose.clone(),
        };
        let began = Instant::now();
        let sending = send(
            &worker.pools,
            &worker.shared.network,
            &target,
            request,
            |local| trail.connected(local, protocol),
            async || self.try_expired().await,
        );
        let sent = within(pin!(sending), pin!(self.timers.expired())).await;
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => Err(Failed { error, unsent: None }),
        };
        match sent {
            Ok((response, _)) if !hop::has_one_end(response.headers(), response.version()) => {
                let reset = UpstreamReset::Protocol;
                Err(ProxyError::Reset { reset, started: false })
            }
            Ok((response, lease)) => Ok(Attempt {
                response,
                lease,
                took: began.elapsed(),
            }),
            Err(Failed { error, unsent }) => {
                match unsent {
                    Some(request) => self.parts = Some(request.into_parts().0),
                    None => self.sent = true,
                }
                // A client that stopped sending is the cause, whatever the upstream made of it.
                Err(self
                    .upload
                    .as_ref()
                    .and_then(|upload| upload.failure())
                    .unwrap_or(error))
            }
        }
    }

    /// The request of this attempt. Its head is copied only if a later attempt may need it.
    fn request(&mut self, retries: &Retries<'_>, attempt: u32) -> Result<Request<RequestBody>, ProxyError> {
        let resend = retries.may_resend(self.http2, self.is_grpc);
        let parts = if resend { self.parts.clone() } else { self.parts.take() };
        let mut parts = parts.ok_or(ProxyError::ClusterNotFound)?;
        // As in Envoy, the first attempt has all of the time.
        let elapsed = if attempt > 1 {
            self.timers.elapsed()
        } else {
            Duration::ZERO
        };
        rewrite::expected_timeout(&mut parts.headers, self.to, elapsed);
        if self.resolved.host.include_attempt_count {
            parts.headers.insert(ATTEMPT_COUNT, attempt.into());
        }
        let pass_trailers = self.http2 && self.client == Version::HTTP_2;
        let body = self.upload.as_ref().map(|upload| upload.reader(pass_trailers));
        Ok(Request::from_parts(parts, body.unwrap_or_default()))
    }

    async fn try_expired(&self) -> ProxyError {
        let Some(timeout) = self.to.retry.as_ref().and_then(|retry| retry.per_try_timeout) else {
            return std::future::pending().await;
        };
        if let Some(upload) = &self.upload {
            upload.completed().await;
        }
        sleep(timeout).await;
        ProxyError::TryTimeout
    }

    /// The response as the client gets it.
    fn finish(self, attempt: Attempt, declined_upgrade: bool) -> Response<Download> {
        if let Some(upload) = &self.upload {
            upload.forget();
        }
        let (mut parts, incoming) = attempt.response.into_parts();
        hop::strip(&mut parts.headers, parts.version);
        lines::join_response(&mut parts.headers);
        parts.version = self.client;
        // A response that comes before the request has ended says nothing of the upstream's speed.
        let took = (self.is_upload_complete() && !declined_upgrade).then_some(attempt.took);
        self.rewrite(&mut parts.headers, took);
        if declined_upgrade || (!self.is_upload_complete() && self.client < Version::HTTP_2) {
            // What the client sends next could be of either protocol, or belong to this request.
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let download = Download {
            incoming,
            lease: attempt.lease,
            timers: self.timers.for_body(),
            pass_trailers: self.http2 && self.client == Version::HTTP_2,
        };
        Response::from_parts(parts, download)
    }

    /// The upstream switches protocols.
    fn switch(
        self,
        mut attempt: Attempt,
        terms: Option<Terms>,
        switch: Option<OnUpgrade>,
    ) -> Result<Answer, ProxyError> {
        let unasked = ProxyError::Reset {
            reset: UpstreamReset::Protocol,
            started: false,
        };
        let (Some(terms), Some(downstream)) = (terms, switch) else {
            return Err(unasked);
        };
        let upstream = hyper::upgrade::on(&mut attempt.response);
        let (mut parts, _) = attempt.response.into_parts();
        let consent = hop::strip(&mut parts.headers, parts.version);
        if let Some(upgrade) = consent.or_else(|| terms.asked.upgrade.as_deref().cloned()) {
            hop::set_upgrade(&mut parts.headers, upgrade);
        }
        self.rewrite(&mut parts.headers, None);
        let tunnel = Tunnel::upgraded(downstream, upstream, attempt.lease, terms);
        Ok(Answer::Switch(Response::from_parts(parts, ()), tunnel))
    }

    /// What the proxy and the route put into a response's head.
    fn rewrite(&self, headers: &mut HeaderMap, took: Option<Duration>) {
        if let Some(took) = took {
            headers.insert(SERVICE_TIME, rewrite::number(took.as_millis()));
        }
        rewrite::response(
            headers,
            &self.resolved.route.response_headers,
            &self.context.chain.settings,
        );
    }
}

/// Whether the cluster's hosts are spoken to over HTTP/2.
pub(super) fn speaks_http2(cluster: &Cluster, head: &Head) -> bool {
    match cluster.settings().http {
        UpstreamHttp::Http1 => false,
        UpstreamHttp::Http2 => true,
        UpstreamHttp::AsDownstream => head.version == Version::HTTP_2,
    }
}

/// Bytes of a body that are kept at most.
pub(super) fn buffer_limit(cluster: &Cluster) -> usize {
    cluster
        .settings()
        .buffer_limit
        .map_or(limits::BUFFER, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// A cluster with `auto_sni` asks for the host that the request is for. As in Envoy, the version that will be spoken is what is
/// offered if the cluster does not say what to offer.
pub(super) fn purpose(cluster: &Cluster, head: &Head, http2: bool) -> Purpose {
    let Some(tls) = &cluster.settings().tls else {
        return Purpose::default();
    };
    let version = if http2 { "h2" } else { "http/1.1" };
    let wanted = cluster.settings().auto_sni;
    Purpose {
        host: wanted.then(|| HostName::parse(head.host()).ok()).flatten(),
        alpn: tls.alpn.is_empty().then(|| vec![version.to_owned()]),
    }
}

/// The head in the form of the upstream's HTTP version.
pub(super) fn outbound(head: Head, http2: bool, has_body: bool) -> Result<Parts, ProxyError> {
    let Head {
        method,
        authority,
        target,
        mut headers,
        scheme,
        upgrade,
        ..
    } = head;
    let says_length = headers.contains_key(header::CONTENT_LENGTH);
    let may_have_body = !http2 && upgrade.is_none() && !BODYLESS.contains(&method);
    if !has_body && (says_length || may_have_body) {
        // Many servers want a length where a body could be. A route can write any header, and a length that nothing follows
        // would make the upstream take the next request on the connection, which may be somebody else's, for this one's body.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = if http2 {
        absolute(&scheme, &authority, target)?
    } else {
        Uri::from(target)
    };
    if !http2 {
        headers.insert(HOST, authority);
        if has_body && !headers.contains_key(header::CONTENT_LENGTH) {
            // Without this hyper takes a body of unknown length that comes with GET for none.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(upgrade) = upgrade {
            hop::set_upgrade(&mut headers, *upgrade);
        }
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    Ok(request.into_parts().0)
}

fn absolute(scheme: &Scheme, authority: &HeaderValue, target: PathAndQuery) -> Result<Uri, ProxyError> {
    let invalid = || ProxyError::Request(BadRequest::Authority);
    let authority = Authority::try_from(authority.as_bytes()).map_err(|_| invalid())?;
    let builder = Uri::builder()
        .scheme(scheme.clone())
        .authority(authority)
        .path_and_query(target);
    builder.build().map_err(|_| invalid())
}
