//! Copies of requests for other clusters (`request_mirror_policies`). Nobody sees what becomes of them: they are not retried, leave
//! no record, and their answers are thrown away.
//!
//! Invariant: the request does not wait for a copy.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Request};
use http_body::Body as _;
use mesh::route::Forward;
use rand::RngExt;
use tokio::time::sleep;

use super::{
    Context,
    body::{RequestBody, Tap, Upload},
    forward::{buffer_limit, outbound, purpose, speaks_http2},
    head::Head,
    rewrite,
};
use crate::{
    error::ProxyError,
    limits,
    upstream::{balance::Host, cluster::Cluster, connect::Purpose, pool::Target, send::send},
    worker::Worker,
};

/// A copy on its way.
struct Copy {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    http2: bool,
    purpose: Purpose,
    tap: Option<Rc<Tap>>,
}

/// Sends the copies that a route asks for. `head` is the request's as its upstream gets it.
pub(super) fn send_copies(context: &Context<'_>, to: &Forward, head: &Head, upload: Option<&Rc<Upload>>) {
    for mirror in &to.mirrors {
        let random = context.session.worker.rng.borrow_mut().random();
        let cluster = context.snapshot.cluster(&mirror.cluster);
        if let Some(cluster) = cluster.filter(|_| mirror.takes(random) && head.upgrade.is_none()) {
            // Without a host there is no copy.
            let _ = begin(context, to, cluster, head.clone(), upload);
        }
    }
}

fn begin(
    context: &Context<'_>,
    to: &Forward,
    cluster: &Arc<Cluster>,
    mut head: Head,
    upload: Option<&Rc<Upload>>,
) -> Result<(), ProxyError> {
    let worker = context.session.worker.clone();
    let host = cluster.pick(&context.session.conn, &[], &mut *worker.rng.borrow_mut())?;
    head.authority = shadow(&head);
    let http2 = speaks_http2(cluster, &head);
    let purpose = purpose(cluster, &head, http2);
    let mut parts = outbound(head, http2, upload.is_some())?;
    rewrite::expected_timeout(&mut parts.headers, to, Duration::ZERO);
    let tap = upload.map(|upload| upload.tap(buffer_limit(cluster)));
    let body = tap.as_ref().zip(upload);
    let body = body.map_or_else(RequestBody::default, |(tap, upload)| RequestBody::copy(tap, upload));
    let copy = Copy {
        worker: worker.clone(),
        cluster: cluster.clone(),
        host,
        http2,
        purpose,
        tap,
    };
    let limit = to.timeout.unwrap_or(limits::ROUTE_TIMEOUT);
    worker.drain.spawn(copy.run(Request::from_parts(parts, body), limit));
    Ok(())
}

/// `site.test-shadow`: how Envoy tells the upstream that it gets a copy.
fn shadow(head: &Head) -> HeaderValue {
    let (authority, host) = (head.authority(), head.host());
    let port = authority.strip_prefix(host).unwrap_or_default();
    HeaderValue::from_str(&format!("{host}-shadow{port}")).unwrap_or_else(|_| head.authority.clone())
}

impl Copy {
    async fn run(self, request: Request<RequestBody>, limit: Duration) {
        tokio::select! {
            () = self.exchange(request) => {}
            () = self.broken() => {}
            () = expiry(limit) => {}
        }
    }

    async fn exchange(&self, request: Request<RequestBody>) {
        let target = Target {
            cluster: &self.cluster,
            host: &self.host,
            http2: self.http2,
            purpose: self.purpose.clone(),
        };
        let (pools, network) = (&self.worker.pools, &self.worker.shared.network);
        let Ok((response, lease)) = send(pools, network, &target, request, |_| {}, async || pending().await).await
        else {
            return;
        };
        let mut body = response.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if frame.is_err() {
                return;
            }
        }
        let sent = self.tap.as_ref().is_none_or(|tap| tap.is_drained());
        lease.release(sent, &self.worker.drain);
    }

    async fn broken(&self) {
        match &self.tap {
            Some(tap) => tap.broken().await,
            None => pending().await,
        }
    }
}

async fn expiry(limit: Duration) {
    if limit.is_zero() {
        return pending().await;
    }
    sleep(limit).await;
}
