//! The head of a request: what a client sent, checked and brought into the form that policies, routes and upstreams see.
//!
//! Two steps, as in Envoy. [`Head::read`] takes what the codec understood and refuses what HTTP does not allow; nothing of
//! such a request is logged. [`Head::sanitize`] is the connection manager's: it refuses what has no meaning here, drops what
//! belongs to one hop, and corrects what only we can know.
//!
//! Invariant: after [`Head::sanitize`] no header speaks for us that we did not write.

use std::{borrow::Cow, net::SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, HOST},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use mesh::listener::{Http, Underscores};

use super::{
    forwarded,
    hop::{self, Upgrade},
    lines,
    path::{Normalized, PathRules},
};
use crate::{access_log::RequestView, connection::Connection, error::BadRequest};

/// A request without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// As the client wrote it, port and case included; several `host` lines are joined. Empty if there is none.
    pub(crate) authority: HeaderValue,
    /// `None`: CONNECT has none.
    pub(crate) target: Option<PathAndQuery>,
    /// Without `host`.
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    /// The protocol the client wants to switch to.
    pub(crate) upgrade: Option<Box<Upgrade>>,
    /// `https` if the client used TLS, as far as we know.
    pub(crate) scheme: Scheme,
    /// The client, which a trusted proxy may have told us; without a port then.
    pub(crate) client: SocketAddr,
}

/// Why a head is not served.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is answered with an error.
    Error(BadRequest),
    /// The client has to ask again, for this path.
    Redirect(String),
}

impl Head {
    /// Takes a request's head from the codec.
    ///
    /// # Errors
    /// What HTTP does not allow.
    pub(crate) fn read(parts: Parts, conn: &Connection, settings: &Http) -> Result<Self, BadRequest> {
        let Parts {
            method,
            uri,
            version,
            mut headers,
            ..
        } = parts;
        if version < Version::HTTP_2 {
            check_target(&uri, &method, conn.tls.is_some(), settings)?;
            hop::check_nominated(&headers)?;
        }
        let pseudo = if version < Version::HTTP_2 {
            0
        } else {
            pseudo_headers(&uri)
        };
        check_count(headers.len() + pseudo, settings)?;
        check_underscores(&mut headers, settings)?;
        let authority = authority(&uri, version, &mut headers)?;
        let is_connect = method == Method::CONNECT;
        Ok(Self {
            target: uri.into_parts().path_and_query.filter(|_| !is_connect),
            method,
            authority,
            headers,
            version,
            upgrade: None,
            scheme: if conn.tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            client: conn.remote,
        })
    }

    /// Brings the head into the form that is matched and forwarded.
    ///
    /// # Errors
    /// What cannot be given a meaning.
    pub(crate) fn sanitize(&mut self, edge: &forwarded::Edge<'_>) -> Result<(), Refusal> {
        let settings = edge.settings;
        let keeps_host = hop::nominates(&self.headers, &HOST);
        self.upgrade = hop::strip(&mut self.headers, self.version).map(Box::new);
        if self.authority.is_empty() || keeps_host {
            self.authority = HeaderValue::from_static("");
            return Err(Refusal::Error(BadRequest::MissingHost));
        }
        self.normalize_path(settings)?;
        if self.method.as_str() == "QUERY" && !self.headers.contains_key(header::CONTENT_TYPE) {
            return Err(Refusal::Error(BadRequest::QueryContent));
        }
        lines::join_request(&mut self.headers, self.version);
        if !settings.proxy_100_continue {
            self.headers.remove(header::EXPECT);
        }
        forwarded::apply(self, edge);
        Ok(())
    }

    fn normalize_path(&mut self, settings: &Http) -> Result<(), Refusal> {
        let Some(target) = &self.target else { return Ok(()) };
        if !target.as_str().starts_with('/') {
            return Err(Refusal::Error(BadRequest::AsteriskPath));
        }
        let rules = PathRules {
            normalize: settings.normalize_path,
            merge_slashes: settings.merge_slashes,
            escaped_slashes: settings.escaped_slashes,
        };
        let invalid = || Refusal::Error(BadRequest::Path);
        match rules.apply(target.as_str()).map_err(|_| invalid())? {
            Normalized::Unchanged => {}
            Normalized::Changed(path) => self.target = Some(path.parse().map_err(|_| invalid())?),
            Normalized::Redirect(path) => return Err(Refusal::Redirect(path)),
        }
        Ok(())
    }

    /// The authority as text; the empty text if it is not ASCII.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The authority's host, without port.
    pub(crate) fn host(&self) -> &str {
        without_port(self.authority())
    }

    /// The path without query; empty for CONNECT.
    pub(crate) fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }

    /// The query without `?`.
    pub(crate) fn query(&self) -> &str {
        self.target.as_ref().and_then(PathAndQuery::query).unwrap_or_default()
    }

    /// Path and query; empty for CONNECT.
    pub(crate) fn path_and_query(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::as_str)
    }

    /// The values of a header, line by line; pseudo headers by their names. A value that is not UTF-8 is matched with its invalid
    /// bytes replaced, so that it is present and equals nothing.
    pub(crate) fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let pseudo = self.pseudo(name).map(Cow::from);
        let lines = (!is_pseudo(name)).then(|| self.headers.get_all(name).into_iter());
        let lines = lines.into_iter().flatten();
        pseudo
            .into_iter()
            .chain(lines.map(|value| String::from_utf8_lossy(value.as_bytes())))
    }

    fn pseudo(&self, name: &str) -> Option<&str> {
        match name {
            ":authority" | "host" => Some(self.authority()),
            ":method" => Some(self.method.as_str()),
            ":path" => self.target.as_ref().map(PathAndQuery::as_str),
            ":scheme" => Some(self.scheme.as_str()),
            _ => None,
        }
    }

    /// Whether this is a gRPC call, which wants its errors in gRPC's form.
    pub(crate) fn is_grpc(&self) -> bool {
        let Some(kind) = self.headers.get(header::CONTENT_TYPE) else {
            return false;
        };
        let rest = kind.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'+'))
    }

    /// What the access log sees.
    pub(crate) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            authority: &self.authority,
            path: self.target.as_ref(),
            scheme: &self.scheme,
            client: self.client,
            protocol: protocol(self.version),
            headers: &self.headers,
        }
    }
}

/// `%PROTOCOL%`.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// Cuts `:port` off an authority; the brackets of an IPv6 address stay.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !is_bare_ipv6(host) => {
            host
        }
        _ => authority,
    }
}

fn is_bare_ipv6(host: &str) -> bool {
    host.contains(':') && !host.ends_with(']')
}

/// Whether a name stands for a part of the request line; `host` stands for the authority.
fn is_pseudo(name: &str) -> bool {
    name.starts_with(':') || name == "host"
}

/// All lines of a header as one text.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut lines = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut text = lines.next()?;
    for line in lines {
        let text = text.to_mut();
        text.push(',');
        text.push_str(&line);
    }
    Some(text)
}

/// RFC 9112 section 3.2, of which CONNECT alone uses the authority form and OPTIONS alone the asterisk.
fn check_target(uri: &Uri, method: &Method, tls: bool, settings: &Http) -> Result<(), BadRequest> {
    match uri.scheme() {
        None if uri.path() == "*" && *method != Method::OPTIONS => Err(BadRequest::Target),
        None if uri.authority().is_some() && *method != Method::CONNECT => Err(BadRequest::Codec),
        None => Ok(()),
        Some(_) if settings.allow_absolute_url == Some(false) => Err(BadRequest::AsteriskPath),
        Some(scheme) if *scheme == Scheme::HTTPS && !tls => Err(BadRequest::HttpsOnPlaintext),
        Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => Ok(()),
        Some(_) => Err(BadRequest::Scheme),
    }
}

/// How many of HTTP/2's pseudo-headers a request had: its method, and what its target consists of.
fn pseudo_headers(uri: &Uri) -> usize {
    let parts = [
        uri.scheme().is_some(),
        uri.authority().is_some(),
        uri.path_and_query().is_some(),
    ];
    1 + parts.into_iter().filter(|part| *part).count()
}

fn check_count(count: usize, settings: &Http) -> Result<(), BadRequest> {
    let limit = settings.limits.header_count.map_or(crate::limits::HEADERS, |count| {
        usize::try_from(count).unwrap_or(usize::MAX)
    });
    if count > limit {
        Err(BadRequest::TooManyHeaders)
    } else {
        Ok(())
    }
}

fn check_underscores(headers: &mut HeaderMap, settings: &Http) -> Result<(), BadRequest> {
    let has_underscore = |name: &HeaderName| name.as_str().contains('_');
    match settings.underscores {
        Underscores::Allow => Ok(()),
        Underscores::RejectRequest if headers.keys().any(has_underscore) => Err(BadRequest::Underscore),
        Underscores::RejectRequest => Ok(()),
        Underscores::DropHeader => {
            let names: Vec<_> = headers.keys().filter(|name| has_underscore(name)).cloned().collect();
            names.iter().for_each(|name| {
                headers.remove(name);
            });
            Ok(())
        }
    }
}

/// The target's authority wins over `host` lines, of which several become one.
fn authority(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<HeaderValue, BadRequest> {
    let value = match uri.authority() {
        Some(authority) => {
            headers.remove(HOST);
            let is_url = version < Version::HTTP_2 && uri.scheme().is_some();
            let text = authority.as_str();
            // Who asks is not a part of whom is asked (RFC 9110 section 4.2.4).
            let host = text.rsplit_once('@').filter(|_| is_url).map_or(text, |(_, host)| host);
            if host.contains('@') && version >= Version::HTTP_2 {
                // RFC 9113 section 8.3.1.
                return Err(BadRequest::Http2Field);
            }
            HeaderValue::from_str(host).map_err(|_| BadRequest::Authority)?
        }
        None if headers.get_all(HOST).iter().nth(1).is_some() => {
            let text = joined(headers, &HOST).unwrap_or_default().into_owned();
            headers.remove(HOST);
            HeaderValue::from_str(&text).map_err(|_| BadRequest::Authority)?
        }
        None => headers.remove(HOST).unwrap_or_else(|| HeaderValue::from_static("")),
    };
    if value.as_bytes().iter().copied().all(is_authority_byte) {
        Ok(value)
    } else {
        Err(BadRequest::Authority)
    }
}

/// RFC 3986 section 3.2, and the comma between joined lines.
fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]%".contains(&byte)
}

#[cfg(test)]
mod tests;
