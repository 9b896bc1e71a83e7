//! Authorization in the shape of Envoy's RBAC filter: the expressions, and the plain evaluation that defines what they mean.
//!
//! [`Rbac::decide`] walks every policy. The data plane answers the same question from an index and is tested against it.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    PolicyName,
    matcher::{HeaderMatcher, StringMatcher},
    path_template::PathTemplate,
};

/// An RBAC filter, of HTTP or of the network, as `extensions.filters.{http,network}.rbac.v3.RBAC`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RbacFilter {
    /// What is enforced. `None`: nothing is.
    pub rules: Option<Arc<Rbac>>,
    /// What is only evaluated and reported (dry run).
    pub shadow_rules: Option<Arc<Rbac>>,
    /// Prefix of the metadata keys and counters of the shadow rules.
    pub shadow_prefix: String,
    /// Prefix of the counters of a network filter.
    pub stat_prefix: String,
}

/// One action and the policies it applies to, as `config.rbac.v3.RBAC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rbac {
    /// What a match means.
    pub action: RbacAction,
    /// By name; the first in byte order that matches is the one that is reported.
    pub policies: BTreeMap<PolicyName, Arc<Policy>>,
}

/// What it means that a policy matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RbacAction {
    /// Let through what matches, refuse the rest.
    Allow,
    /// Refuse what matches, let the rest through.
    Deny,
    /// Mark what matches, refuse nothing.
    Log,
}

/// Matches when one permission and one principal match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What may be done. At least one.
    pub permissions: Vec<Permission>,
    /// By whom. At least one.
    pub principals: Vec<Principal>,
}

/// A condition on what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    Any,
    /// All of these. At least one.
    And(Vec<Permission>),
    /// One of these. At least one.
    Or(Vec<Permission>),
    /// Not this.
    Not(Box<Permission>),
    /// A request header. Never matches a TCP connection.
    Header(HeaderMatcher),
    /// The path without query and fragment. Never matches a TCP connection.
    Path(StringMatcher),
    /// The path, by URI template. Never matches a TCP connection.
    PathTemplate(PathTemplate),
    /// The address the connection arrived at.
    DestinationIp(IpNet),
    /// The port the connection arrived at.
    DestinationPort(u16),
    /// The server name of the `ClientHello`; without one, the empty text.
    RequestedServerName(StringMatcher),
    /// Dynamic metadata of an earlier filter.
    Metadata(MetadataMatcher),
}

/// A condition on who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Everybody, known or not.
    Any,
    /// All of these. At least one.
    And(Vec<Principal>),
    /// One of these. At least one.
    Or(Vec<Principal>),
    /// Not this.
    Not(Box<Principal>),
    /// A peer that came over TLS and one of whose names ([`Facts::peer_names`]) matches; `None`: any whom the TLS context lets in,
    /// even one without a certificate if it asks for none. Never matches a connection in plaintext.
    Authenticated(Option<StringMatcher>),
    /// The address of the directly connected peer.
    DirectRemoteIp(IpNet),
    /// The address of the client, after `x-forwarded-for`.
    RemoteIp(IpNet),
    /// A request header. Never matches a TCP connection.
    Header(HeaderMatcher),
    /// The path without query and fragment. Never matches a TCP connection.
    Path(StringMatcher),
    /// Dynamic metadata of an earlier filter.
    Metadata(MetadataMatcher),
}

/// A condition on dynamic metadata (`type.matcher.v3.MetadataMatcher`).
///
/// No filter of ours writes metadata, so a value is never there; Envoy without that filter sees the same. The matcher is kept
/// so that its meaning (no match, or a match if inverted) is decided here rather than by dropping a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataMatcher {
    /// The filter that would write it: `envoy.filters.http.jwt_authn`.
    pub filter: String,
    /// Keys from the outermost inwards. At least one.
    pub path: Vec<String>,
    /// What the value must be.
    pub value: MetadataValueMatch,
    /// Negates the outcome.
    pub invert: bool,
}

/// What a metadata matcher asks of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataValueMatch {
    /// A text that matches.
    Text(StringMatcher),
    /// A list one of whose texts matches.
    ListWithText(StringMatcher),
}

/// What a decision looks at. HTTP facts are `None` for a TCP connection.
pub trait Facts {
    /// What the peer's verified certificate calls it: URI SANs, DNS SANs, the subject, which is there even if it is empty. A peer
    /// without a certificate has an empty subject only. `None` without TLS.
    fn peer_names(&self) -> Option<&[String]>;
    /// Address of the directly connected peer.
    fn direct_remote_ip(&self) -> IpAddr;
    /// Address of the client after `x-forwarded-for`.
    fn remote_ip(&self) -> IpAddr;
    /// Address and port the connection arrived at.
    fn destination(&self) -> (IpAddr, u16);
    /// Lower-cased server name of the `ClientHello`, empty without one.
    fn sni(&self) -> &str;
    /// Whether this is an HTTP request; if not, the following are not asked.
    fn is_http(&self) -> bool;
    /// The values of a header, line by line; pseudo headers included. Never joined: a line that a client adds must not hide
    /// another from a policy.
    fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>>;
    /// The normalised path without query and fragment.
    fn path(&self) -> &str;
}

impl Rbac {
    /// The first policy in byte order of its name that matches.
    pub fn first_match<F: Facts + ?Sized>(&self, facts: &F) -> Option<&PolicyName> {
        self.policies
            .iter()
            .find(|(_, policy)| policy.matches(facts))
            .map(|(name, _)| name)
    }

    /// Whether the request may pass, and the policy that decided, if one did.
    pub fn decide<F: Facts + ?Sized>(&self, facts: &F) -> (bool, Option<&PolicyName>) {
        let matched = self.first_match(facts);
        (self.action.allows(matched.is_some()), matched)
    }
}

impl RbacAction {
    /// Whether a request may pass, given that one of the action's policies matched it or none did.
    pub fn allows(self, matched: bool) -> bool {
        match self {
            Self::Allow => matched,
            Self::Deny => !matched,
            Self::Log => true,
        }
    }
}

impl Policy {
    /// Whether one permission and one principal match.
    pub fn matches<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        self.permissions.iter().any(|p| p.matches(facts)) && self.principals.iter().any(|p| p.matches(facts))
    }
}

impl Permission {
    /// Whether the condition holds.
    pub fn matches<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|p| p.matches(facts)),
            Self::Or(any) => any.iter().any(|p| p.matches(facts)),
            Self::Not(not) => !not.matches(facts),
            Self::Header(matcher) => header_matches(matcher, facts),
            Self::Path(matcher) => facts.is_http() && matcher.matches(facts.path()),
            Self::PathTemplate(template) => facts.is_http() && template.matches(facts.path()),
            Self::DestinationIp(net) => net.contains(&facts.destination().0),
            Self::DestinationPort(port) => facts.destination().1 == *port,
            Self::RequestedServerName(matcher) => matcher.matches(facts.sni()),
            Self::Metadata(matcher) => matcher.invert,
        }
    }
}

impl Principal {
    /// Whether the condition holds.
    pub fn matches<F: Facts + ?Sized>(&self, facts: &F) -> bool {
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|p| p.matches(facts)),
            Self::Or(any) => any.iter().any(|p| p.matches(facts)),
            Self::Not(not) => !not.matches(facts),
            Self::Authenticated(None) => facts.peer_names().is_some(),
            Self::Authenticated(Some(matcher)) => facts
                .peer_names()
                .is_some_and(|names| names.iter().any(|name| matcher.matches(name))),
            Self::DirectRemoteIp(net) => net.contains(&facts.direct_remote_ip()),
            Self::RemoteIp(net) => net.contains(&facts.remote_ip()),
            Self::Header(matcher) => header_matches(matcher, facts),
            Self::Path(matcher) => facts.is_http() && matcher.matches(facts.path()),
            Self::Metadata(matcher) => matcher.invert,
        }
    }
}

/// A TCP connection has no headers: Envoy evaluates the matcher on an empty header map, so that only an inverted or absence matcher
/// can hold.
fn header_matches<F: Facts + ?Sized>(matcher: &HeaderMatcher, facts: &F) -> bool {
    if !facts.is_http() {
        return matcher.matches(None);
    }
    matcher.matches_lines(facts.header_lines(&matcher.name))
}
