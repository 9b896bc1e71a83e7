//! The record of a request, from its first byte to the last of the response or whatever ends it before.
//!
//! Invariant: a [`Trail`] that is dropped before the response has ended says that the client went away, for nothing else
//! drops one.

use std::{borrow::Cow, net::SocketAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version, header};

use super::{
    Context, Session,
    body::{Download, ResponseBody, Upload},
    head::{Head, protocol},
    routes::Route,
    upgrade::Tunnel,
};
use crate::{
    access_log::AccessRecord,
    clock::Moment,
    error::{ConnectError, ProxyError},
    flags::Flag,
    upstream::{balance::Host, cluster::Cluster},
};

/// A record that knows how its request ends.
pub(crate) struct Trail {
    /// Boxed, since a trail moves with the request, and then with the response.
    record: Box<AccessRecord>,
    session: Rc<Session>,
    upload: Option<Rc<Upload>>,
    settled: bool,
}

impl Trail {
    /// Begins a record, and counts the request among the connection's.
    pub(super) fn open(context: &Context<'_>, version: Version) -> Self {
        let session = context.session.clone();
        session.begin();
        Self {
            record: Box::new(AccessRecord::http(
                context.chain.logs.clone(),
                session.conn.clone(),
                Moment::now(),
                protocol(version),
            )),
            session,
            upload: None,
            settled: false,
        }
    }

    /// The request as it stands.
    pub(super) fn request(&mut self, head: &Head) {
        self.record.request(&head.view());
    }

    /// Where the bytes of the request are counted. `None`: it has no body.
    pub(super) fn upload(&mut self, upload: Option<&Rc<Upload>>) {
        self.upload = upload.cloned();
        if upload.is_none() {
            self.record.request_complete();
        }
    }

    /// The route, and the cluster if there is one of that name.
    pub(super) fn route(&mut self, route: &Route, cluster: Option<&Arc<Cluster>>) {
        self.record.route.clone_from(&route.name);
        if let Some(cluster) = cluster {
            self.record.upstream.cluster = Some(cluster.name().clone());
            self.record.upstream.alt_stat_name = cluster.alt_stat_name().cloned();
        }
    }

    /// An attempt begins, wherever it may lead.
    pub(super) fn attempt(&mut self) {
        let upstream = &mut self.record.upstream;
        upstream.attempts += 1;
        upstream.host = None;
        upstream.host_name = None;
        upstream.protocol = None;
        upstream.local = None;
        upstream.failure = None;
    }

    /// It leads to this host.
    pub(super) fn host(&mut self, host: &Host) {
        let upstream = &mut self.record.upstream;
        upstream.host = Some(host.address);
        upstream.host_name = Some(host.hostname.clone());
    }

    /// The attempt has a connection, over which that protocol is spoken.
    pub(super) fn connected(&mut self, local: Option<SocketAddr>, protocol: &'static str) {
        self.record.upstream.local = local;
        self.record.upstream.protocol = Some(protocol);
    }

    /// Whether this is not the first attempt.
    pub(super) fn was_retried(&self) -> bool {
        self.record.upstream.attempts > 1
    }

    /// Attempts so far.
    pub(super) fn attempts(&self) -> u32 {
        self.record.upstream.attempts
    }

    pub(super) fn metadata(&mut self, metadata: Vec<(String, String)>) {
        self.record.metadata = metadata;
    }

    pub(super) fn details(&mut self, details: impl Into<Cow<'static, str>>) {
        self.record.details(details);
    }

    pub(super) fn flag(&mut self, flag: Flag) {
        self.record.flag(flag);
    }

    /// The request failed.
    pub(super) fn error(&mut self, error: &ProxyError) {
        match error {
            ProxyError::Connect(ConnectError::Io(reason) | ConnectError::Tls(reason)) => {
                self.record.upstream.failure = Some(reason.clone());
            }
            ProxyError::PendingOverflow => {
                // Nothing was asked of the host.
                self.record.upstream.host = None;
                self.record.upstream.host_name = None;
            }
            _ => {}
        }
        self.record.error(error);
    }

    /// Milliseconds since the request began.
    pub(super) fn started(&self) -> Moment {
        self.record.started()
    }

    /// The client gets an upstream's response.
    pub(super) fn follow(mut self, response: Response<Download>) -> Response<ResponseBody> {
        self.record.details("via_upstream");
        self.record.response_began();
        self.response(&response);
        let announced = announced_length(&response);
        let mut response = response.map(|download| ResponseBody::upstream(download, self));
        if let Some(length) = announced {
            response.body_mut().announce(length);
        }
        response
    }

    /// The client gets a response of ours.
    pub(super) fn local(mut self, response: Response<Bytes>) -> Response<ResponseBody> {
        self.response(&response);
        response.map(|body| ResponseBody::local(body, self))
    }

    /// There is nobody to answer, so that the record has no response.
    pub(super) fn unheard(self, response: Response<Bytes>) -> Response<ResponseBody> {
        response.map(|body| ResponseBody::local(body, self))
    }

    /// The connection leaves HTTP; the record ends with the tunnel.
    pub(super) fn switch(mut self, response: Response<()>, tunnel: Tunnel) -> Response<ResponseBody> {
        self.record.details("via_upstream");
        self.record.response_began();
        self.response(&response);
        let session = self.session.clone();
        session.worker.drain.spawn(tunnel.run(self));
        response.map(|()| ResponseBody::switching())
    }

    fn response<B>(&mut self, response: &Response<B>) {
        self.record.response(response.status().as_u16(), response.headers());
    }

    /// Bytes to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.record.bytes_sent += u64::try_from(bytes).unwrap_or(0);
    }

    /// Bytes from the client that were not an [`Upload`]'s.
    pub(super) fn received(&mut self, bytes: u64) {
        self.record.bytes_received += bytes;
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.record.trailers(trailers);
    }

    /// The connection the request came over.
    pub(super) fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Whether all of the request has come.
    pub(super) fn request_ended(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_complete())
    }

    /// The request has no body, so that all of it is here.
    pub(super) fn request_is_whole(&mut self) {
        self.record.request_complete();
    }

    /// Whether a body of the request has been read to its end.
    pub(super) fn has_read_request(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.is_complete())
    }

    /// The request's end is known; what is dropped from here on is complete.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }
}

/// The length that a 304 over HTTP/1 gives, of the body that a 200 would have had (RFC 9110 section 15.4.5).
fn announced_length<B>(response: &Response<B>) -> Option<u64> {
    let announces = response.status() == StatusCode::NOT_MODIFIED && response.version() < Version::HTTP_2;
    let length = response.headers().get(header::CONTENT_LENGTH).filter(|_| announces)?;
    length.to_str().ok()?.parse().ok()
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            self.record.bytes_received += upload.received();
            if upload.is_complete() {
                self.record.request_complete();
            }
        }
        if !self.settled {
            self.record.error(&self.session.gone());
        }
        self.session.end();
    }
}
