//! HTTP: [`serve_request`] is the data path, in the order a request takes.
//!
//! Invariants: a request sees exactly one snapshot; authorization is asked before anything is sent or said about where a
//! request would go, but for an upgrade that its route does not allow; every request leaves exactly one record, however it ends.

pub(crate) mod body;
mod cork;
mod forward;
mod forwarded;
mod guard;
mod head;
mod hop;
mod lines;
mod mirror;
mod path;
mod reply;
mod retry;
mod rewrite;
mod routes;
mod serve;
mod timers;
mod trail;
mod upgrade;

use std::{borrow::Cow, net::IpAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use mesh::{
    ClusterName,
    authz::Facts,
    listener::{Http, RouteSource},
    route::RouteAction,
};
use rand::RngExt;

use crate::{
    access_log::{Loggers, Sinks},
    authz::{Engine, Verdict},
    connection::Connection,
    error::{BadRequest, ProxyError},
    snapshot::{RoutesKey, Snapshot},
};
use body::ResponseBody;
pub(crate) use head::Head;
use head::Refusal;
use reply::Client;
pub(crate) use routes::{Former, RouteTable};
use routes::{Route, VirtualHost};
use serve::Session;
pub(crate) use serve::serve_connection;
use trail::Trail;

/// A filter chain that serves HTTP.
pub(crate) struct HttpChain {
    settings: Http,
    logs: Arc<Loggers>,
    authz: Engine,
    routes: Routes,
}

/// Where the routes are.
enum Routes {
    /// In the snapshot.
    Named(RoutesKey),
    /// Here.
    Inline(Arc<RouteTable>),
}

/// What a request is served with.
struct Context<'a> {
    session: &'a Rc<Session>,
    snapshot: &'a Snapshot,
    chain: &'a HttpChain,
}

/// The route of a request and, if that leads to a cluster, which.
#[derive(Clone, Copy)]
struct Resolved<'a> {
    host: &'a VirtualHost,
    route: &'a Route,
    cluster: Option<&'a ClusterName>,
}

impl HttpChain {
    /// Compiles the settings. Off the data path.
    ///
    /// # Errors
    /// What of them cannot be served, in words for an operator.
    pub(crate) fn build(settings: &Http, sinks: &Sinks) -> Result<Self, String> {
        if settings.http2.allow_connect {
            return Err("http2_protocol_options.allow_connect is not supported: leave it unset".to_owned());
        }
        if let Some(token) = settings
            .upgrades
            .iter()
            .find(|token| !["websocket", "connect"].contains(&token.as_str()))
        {
            return Err(format!(
                "upgrade_configs: {token:?} is not supported, only websocket and CONNECT are"
            ));
        }
        Ok(Self {
            settings: settings.clone(),
            logs: Arc::new(Loggers::build(&settings.access_logs, sinks).map_err(|error| error.to_string())?),
            authz: Engine::build(&settings.rbac),
            routes: match &settings.routes {
                RouteSource::Rds(name, source) => Routes::Named((name.clone(), source.clone())),
                RouteSource::Inline(config) => Routes::Inline(Arc::new(RouteTable::build(config)?)),
            },
        })
    }

    fn authorize(&self, conn: &Connection, head: &Head) -> Result<(), ProxyError> {
        match self.authz.check(&RequestFacts { conn, head }) {
            Verdict::Allow => Ok(()),
            Verdict::Deny(policy) => Err(ProxyError::Denied(policy.cloned())),
        }
    }

    fn routes<'a>(&'a self, snapshot: &'a Snapshot) -> Option<&'a RouteTable> {
        match &self.routes {
            Routes::Named(key) => snapshot.routes(key).map(|routes| &**routes),
            Routes::Inline(routes) => Some(routes),
        }
    }
}

/// Serves one request: the HTTP data path.
async fn serve_request(session: &Rc<Session>, request: Request<Incoming>) -> Response<ResponseBody> {
    let snapshot = session.worker.shared.snapshot.load_full();
    let context = Context::new(session, &snapshot);
    let mut trail = Trail::open(&context, request.version());
    let mut client = Client::unknown(request.version());
    match answer(&context, request, &mut trail, &mut client).await {
        Ok(Answer::Upstream(response)) => trail.follow(response),
        Ok(Answer::Local(response)) => trail.local(response),
        Ok(Answer::Switch(response, tunnel)) => trail.switch(response, tunnel),
        Err(error) => {
            trail.error(&error);
            let client = client.having_sent(trail.has_read_request());
            let reply = reply::refuse(&error, trail.was_retried(), client, &context.chain.settings);
            if error.status().is_some() {
                trail.local(reply)
            } else {
                trail.unheard(reply)
            }
        }
    }
}

/// What a client gets.
enum Answer {
    /// From an upstream.
    Upstream(Response<body::Download>),
    /// From us.
    Local(Response<Bytes>),
    /// The end of HTTP on its connection.
    Switch(Response<()>, upgrade::Tunnel),
}

/// The phases of a request.
async fn answer(
    context: &Context<'_>,
    request: Request<Incoming>,
    trail: &mut Trail,
    client: &mut Client,
) -> Result<Answer, ProxyError> {
    context.session.violation()?;
    let (mut parts, incoming) = request.into_parts();
    let switch = upgrade::take(&mut parts);
    let mut head = Head::read(parts, &context.session.conn, &context.chain.settings).map_err(ProxyError::Request)?;
    let is_whole = incoming.is_end_stream();
    *client = Client::of(&head).sending(!is_whole);
    if is_whole {
        trail.request_is_whole();
    }
    let sanitized = context.session.misread().and_then(|()| head.sanitize(&context.edge()));
    if let Err(refusal) = sanitized {
        trail.request(&head);
        return refuse_head(refusal, trail, *client, &context.chain.settings);
    }
    let decided = context.decide(&head, trail);
    if !matches!(
        &decided,
        Ok(Resolved {
            route: Route {
                action: RouteAction::Forward(_),
                ..
            },
            ..
        })
    ) {
        // Forwarding records the request once the route's changes are made.
        trail.request(&head);
    }
    let resolved = decided?;
    match &resolved.route.action {
        RouteAction::Redirect(to) => {
            let redirect = rewrite::redirect(&head, to).ok_or(ProxyError::Request(BadRequest::Path))?;
            Ok(context.answer(resolved.route, redirect, Bytes::new(), *client, trail))
        }
        RouteAction::Direct(direct) => {
            let body = Bytes::copy_from_slice(direct.body.as_bytes());
            let own = rewrite::direct_response(&head, direct.status);
            Ok(context.answer(resolved.route, own, body, *client, trail))
        }
        RouteAction::Forward(to) => {
            Box::pin(forward::forward(context, resolved, to, head, incoming, switch, trail)).await
        }
    }
}

impl<'a> Context<'a> {
    /// Under the current configuration of the connection's filter chain; without one, under that which the connection was
    /// accepted with, while it is coming to its end.
    fn new(session: &'a Rc<Session>, snapshot: &'a Snapshot) -> Self {
        Self {
            session,
            snapshot,
            chain: snapshot.http_chain(session.conn.chain).unwrap_or(&session.chain),
        }
    }

    fn edge(&self) -> forwarded::Edge<'_> {
        forwarded::Edge {
            settings: &self.chain.settings,
            conn: &self.session.conn,
            rng: &self.session.worker.rng,
            peer: &self.session.peer,
        }
    }

    /// Where the request goes, if it may.
    fn decide(&self, head: &Head, trail: &mut Trail) -> Result<Resolved<'_>, ProxyError> {
        let resolved = self.resolve(head, trail);
        let route = resolved.as_ref().map(|resolved| &resolved.route.action);
        upgrade::check(head, &self.chain.settings, route)?;
        self.authorize(head, trail)?;
        resolved.ok_or(ProxyError::NoRoute)
    }

    /// Finds the route before anything is decided, so that a denied request's record says where it would have gone.
    fn resolve(&self, head: &Head, trail: &mut Trail) -> Option<Resolved<'_>> {
        let (host, route) = self.chain.routes(self.snapshot)?.find(head)?;
        let random = || self.session.worker.rng.borrow_mut().random();
        let cluster = match &route.action {
            RouteAction::Forward(to) if to.clusters.entries().len() == 1 => Some(to.clusters.first()),
            RouteAction::Forward(to) => Some(to.clusters.pick(random())),
            RouteAction::Redirect(_) | RouteAction::Direct(_) => None,
        };
        trail.route(route, cluster.and_then(|name| self.snapshot.cluster(name)));
        Some(Resolved { host, route, cluster })
    }

    fn authorize(&self, head: &Head, trail: &mut Trail) -> Result<(), ProxyError> {
        if self.chain.authz.has_dry_run() {
            let conn = &self.session.conn;
            trail.metadata(self.chain.authz.dry_run(&RequestFacts { conn, head }));
        }
        self.chain.authorize(&self.session.conn, head)
    }

    /// What a route says by itself.
    fn answer(
        &self,
        route: &Route,
        (status, headers): (StatusCode, HeaderMap),
        body: Bytes,
        client: Client,
        trail: &mut Trail,
    ) -> Answer {
        trail.details("direct_response");
        let mut response = reply::local(status, headers, body, client, &self.chain.settings);
        rewrite::response(response.headers_mut(), &route.response_headers, &self.chain.settings);
        Answer::Local(response)
    }
}

fn refuse_head(refusal: Refusal, trail: &mut Trail, client: Client, settings: &Http) -> Result<Answer, ProxyError> {
    match refusal {
        Refusal::Error(bad) => Err(ProxyError::Request(bad)),
        Refusal::Redirect(path) => {
            let error = ProxyError::Request(BadRequest::Path);
            trail.details(error.details());
            let location = HeaderValue::from_str(&path).map_err(|_| error)?;
            let (status, headers) = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]);
            let reply = reply::local(status, headers.into_iter().collect(), Bytes::new(), client, settings);
            Ok(Answer::Local(reply))
        }
    }
}

/// What authorization knows of a request.
struct RequestFacts<'a> {
    conn: &'a Connection,
    head: &'a Head,
}

impl Facts for RequestFacts<'_> {
    fn peer_names(&self) -> Option<&[String]> {
        self.conn.peer_names()
    }

    fn direct_remote_ip(&self) -> IpAddr {
        self.conn.direct_remote_ip()
    }

    fn remote_ip(&self) -> IpAddr {
        self.head.client.ip()
    }

    fn destination(&self) -> (IpAddr, u16) {
        self.conn.destination()
    }

    fn sni(&self) -> &str {
        Facts::sni(self.conn)
    }

    fn is_http(&self) -> bool {
        true
    }

    fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        self.head.header_lines(name)
    }

    fn path(&self) -> &str {
        self.head.path()
    }
}

#[cfg(test)]
mod tests;
