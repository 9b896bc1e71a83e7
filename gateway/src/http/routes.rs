//! Which route serves a request: a route configuration compiled for look-up.
//!
//! The cost of finding a virtual host does not depend on how many there are: an exact name is one hash look-up, a wildcard at
//! most one per distinct length of the configured suffixes. Within a virtual host the first route that matches is taken.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, HeaderValue, Method, uri::Scheme};
use mesh::{
    host::HostPattern,
    matcher::QueryMatcher,
    route::{self as model, PathMatch, RouteAction},
};

use super::{
    head::{Head, without_port},
    rewrite,
};
use crate::map::Map;

/// A route configuration, compiled.
#[derive(Debug)]
pub(crate) struct RouteTable {
    virtual_hosts: Vec<Arc<VirtualHost>>,
    names: Arc<Names>,
    ignore_port: bool,
}

/// Which virtual host an authority belongs to, by its place.
#[derive(Debug, Default)]
struct Names {
    exact: Map<Box<str>, usize>,
    suffixes: Map<Box<str>, usize>,
    /// Distinct lengths of `suffixes`, longest first.
    suffix_lengths: Vec<usize>,
    any: Option<usize>,
}

/// A route configuration and what it was compiled to.
#[derive(Clone, Copy)]
pub(crate) struct Former<'a> {
    /// The configuration.
    pub(crate) config: &'a model::RouteConfig,
    /// The table.
    pub(crate) table: &'a RouteTable,
}

/// The routes of some hosts.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    /// What serves requests that did not come over TLS, if TLS is required.
    to_https: Option<Route>,
    /// Sends `x-envoy-attempt-count` upstream.
    pub(crate) include_attempt_count: bool,
    routes: Vec<Route>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    /// `%ROUTE_NAME%`.
    pub(crate) name: Option<Arc<str>>,
    /// What becomes of the request.
    pub(crate) action: RouteAction,
    /// Changes on the way up.
    pub(crate) request_headers: HeaderChanges,
    /// Changes on the way down.
    pub(crate) response_headers: HeaderChanges,
    /// The conditions.
    pub(crate) matches: model::RouteMatch,
}

/// Header changes with names and values checked.
#[derive(Debug, Default)]
pub(crate) struct HeaderChanges {
    /// Names to remove.
    pub(crate) remove: Vec<HeaderName>,
    /// Lines to write, in order.
    pub(crate) add: Vec<HeaderChange>,
    /// The new authority, if `host` or `:authority` is written.
    pub(crate) authority: Option<HeaderValue>,
}

/// One line to write.
#[derive(Debug)]
pub(crate) struct HeaderChange {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
    /// Add a line instead of replacing.
    pub(crate) append: bool,
}

/// Longest authority that is looked up: a host name, a port, brackets.
const MAX_AUTHORITY: usize = 264;

impl RouteTable {
    /// Compiles a route configuration. Off the data path.
    ///
    /// # Errors
    /// Names the route and the header that cannot be written.
    pub(crate) fn build(config: &model::RouteConfig) -> Result<Self, String> {
        Self::build_after(config, None)
    }

    /// The same, sharing what did not change since a former version.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub(crate) fn build_after(config: &model::RouteConfig, former: Option<Former<'_>>) -> Result<Self, String> {
        let known = former.map(Former::by_address).unwrap_or_default();
        let build = |host: &Arc<model::VirtualHost>| match known.get(&Arc::as_ptr(host).addr()) {
            Some(same) => Ok(Arc::clone(same)),
            None => VirtualHost::build(host).map(Arc::new).map_err(|error| {
                format!(
                    "route configuration {}: virtual host {}: {error}",
                    config.name, host.name
                )
            }),
        };
        let same_names = former.filter(|former| former.has_names_of(config));
        Ok(Self {
            virtual_hosts: config.virtual_hosts.iter().map(build).collect::<Result<_, _>>()?,
            names: same_names.map_or_else(
                || Arc::new(Names::index(&config.virtual_hosts)),
                |former| Arc::clone(&former.table.names),
            ),
            ignore_port: config.ignore_port_in_host_matching,
        })
    }

    /// The virtual host and route of a request.
    pub(crate) fn find(&self, head: &Head) -> Option<(&VirtualHost, &Route)> {
        let host = self.virtual_host(head.authority())?;
        let to_https = host.to_https.as_ref().filter(|_| head.scheme != Scheme::HTTPS);
        let route = to_https.or_else(|| host.routes.iter().find(|route| route.matches(head)))?;
        Some((host, route))
    }

    fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        let authority = if self.ignore_port {
            without_port(authority)
        } else {
            authority
        };
        let mut lower = [0; MAX_AUTHORITY];
        let at = lowercase(authority, &mut lower)
            .and_then(|name| self.names.find(name))
            .or(self.names.any);
        self.virtual_hosts.get(at?).map(|host| &**host)
    }
}

impl<'a> Former<'a> {
    /// Compiled virtual hosts by the address of what they were compiled from, which cannot be another one's while that is held.
    fn by_address(self) -> HashMap<usize, &'a Arc<VirtualHost>> {
        let sources = self.config.virtual_hosts.iter();
        sources
            .map(|host| Arc::as_ptr(host).addr())
            .zip(&self.table.virtual_hosts)
            .collect()
    }

    /// Whether the same domains lead to the same places.
    fn has_names_of(self, config: &model::RouteConfig) -> bool {
        let (known, new) = (&self.config.virtual_hosts, &config.virtual_hosts);
        let mut pairs = known.iter().zip(new);
        known.len() == new.len() && pairs.all(|(a, b)| Arc::ptr_eq(a, b) || a.domains == b.domains)
    }
}

impl Names {
    fn index(hosts: &[Arc<model::VirtualHost>]) -> Self {
        let mut names = Self::default();
        for (at, host) in hosts.iter().enumerate() {
            host.domains.iter().for_each(|domain| names.add(domain, at));
        }
        names.suffix_lengths = names.suffixes.keys().map(|suffix| suffix.len()).collect();
        names.suffix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        names.suffix_lengths.dedup();
        names
    }

    /// The first virtual host to claim a domain keeps it.
    fn add(&mut self, domain: &model::Domain, at: usize) {
        let port = domain.port.map_or_else(String::new, |port| format!(":{port}"));
        match &domain.host {
            HostPattern::Exact(host) if host.as_str().contains(':') => {
                self.exact.entry(format!("[{host}]{port}").into()).or_insert(at);
            }
            HostPattern::Exact(host) => {
                self.exact.entry(format!("{host}{port}").into()).or_insert(at);
            }
            HostPattern::Suffix(suffix) => {
                self.suffixes.entry(format!("{suffix}{port}").into()).or_insert(at);
            }
            HostPattern::Any => {
                self.any.get_or_insert(at);
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        let by_suffix = |length: &usize| {
            let start = name.len().checked_sub(*length).filter(|start| *start > 0)?;
            self.suffixes.get(name.get(start..)?)
        };
        self.exact
            .get(name)
            .or_else(|| self.suffix_lengths.iter().find_map(by_suffix))
            .copied()
    }
}

/// Lower-cases ASCII into a buffer. `None`: longer than any name we have.
fn lowercase<'a>(text: &str, buffer: &'a mut [u8; MAX_AUTHORITY]) -> Option<&'a str> {
    let lower = buffer.get_mut(..text.len())?;
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

impl VirtualHost {
    fn build(host: &model::VirtualHost) -> Result<Self, String> {
        Ok(Self {
            to_https: host.require_tls.then(Route::to_https),
            include_attempt_count: host.include_attempt_count,
            routes: host.routes.iter().map(Route::build).collect::<Result<_, _>>()?,
        })
    }
}

impl Route {
    fn build(route: &model::Route) -> Result<Self, String> {
        Ok(Self {
            name: route.name.as_deref().map(Arc::from),
            action: route.action.clone(),
            request_headers: HeaderChanges::build(&route.request_headers)?,
            response_headers: HeaderChanges::build(&route.response_headers)?,
            matches: route.matches.clone(),
        })
    }

    /// Sends everybody to the same place, over TLS.
    fn to_https() -> Self {
        Self {
            name: None,
            action: RouteAction::Redirect(rewrite::to_https()),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            matches: model::RouteMatch {
                path: PathMatch::Prefix("/".to_owned()),
                case_sensitive: true,
                headers: Vec::new(),
                query: Vec::new(),
            },
        }
    }

    fn matches(&self, head: &Head) -> bool {
        let conditions = &self.matches;
        self.matches_path(head)
            && conditions
                .headers
                .iter()
                .all(|header| header.matches_lines(head.header_lines(&header.name)))
            && conditions
                .query
                .iter()
                .all(|parameter| query_matches(parameter, head.query()))
    }

    /// A CONNECT request has no path, so that only a CONNECT route can be meant for it.
    fn matches_path(&self, head: &Head) -> bool {
        let is_connect = head.method == Method::CONNECT;
        let (path, case) = (head.path(), self.matches.case_sensitive);
        match &self.matches.path {
            PathMatch::Connect => is_connect,
            _ if is_connect => false,
            PathMatch::Exact(exact) if case => path == exact,
            PathMatch::Exact(exact) => path.eq_ignore_ascii_case(exact),
            PathMatch::Prefix(prefix) if case => path.starts_with(prefix.as_str()),
            PathMatch::Prefix(prefix) => path
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            PathMatch::Regex(regex) => regex.matches(path),
        }
    }
}

/// The first parameter of that name decides; escapes are compared as they are written, as in Envoy.
fn query_matches(matcher: &QueryMatcher, query: &str) -> bool {
    let mut parameters = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = parameters.find(|(name, _)| *name == matcher.name) else {
        return false;
    };
    matcher.value.as_ref().is_none_or(|wanted| wanted.matches(value))
}

impl HeaderChanges {
    fn build(changes: &model::HeaderChanges) -> Result<Self, String> {
        let mut built = Self::default();
        for name in &changes.remove {
            built.remove.push(header_name(name)?);
        }
        for change in &changes.add {
            let value = HeaderValue::from_str(&change.value).map_err(|_| {
                format!(
                    "header {}: the value {:?} has control characters",
                    change.name, change.value
                )
            })?;
            match change.name.as_str() {
                ":authority" | "host" => built.authority = Some(value),
                name => built.add.push(HeaderChange {
                    name: header_name(name)?,
                    value,
                    append: change.append,
                }),
            }
        }
        Ok(built)
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{name:?} is not the name of a header that a route may change"))
}

#[cfg(test)]
mod tests;
