//! One rule of a policy: from and to and when.

use ipnet::IpNet;
use mesh::{
    authz::{MetadataMatcher, MetadataValueMatch, Permission, Policy, Principal},
    id::TrustDomain,
    matcher::StringMatcher,
    path_template::PathTemplate,
};

use super::{
    Layer, Setting,
    expression::{All, Expression, Unusable},
    text,
};
use crate::istio::{
    authorization_policy::{Condition, Key, Operation, Rule, Source},
    scalar::IpBlock,
};

/// Where a rule stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleContext<'a> {
    /// The policy's namespace.
    pub(super) namespace: &'a str,
    /// The proxy's setting.
    pub(super) setting: Setting<'a>,
    /// Whether a condition that cannot be judged takes the rule with it, instead of only itself.
    pub(super) all_or_nothing: bool,
}

/// The filter that would verify tokens and write what they say.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const JWT_PAYLOAD: &str = "payload";

/// Compiles a rule. `None`: it can let nothing through here. Malformed values are reported.
pub(super) fn compile(rule: &Rule, context: RuleContext<'_>, malformed: &mut Vec<String>) -> Option<Policy> {
    let sources = rule.from.iter().flatten().map(|from| Some(&from.source));
    let operations = rule.to.iter().flatten().map(|to| Some(&to.operation));
    let principals = each(sources, |source| principal(source, &rule.when, context));
    let permissions = each(operations, |operation| permission(operation, &rule.when, context));
    let unusable: Vec<_> = principals.1.into_iter().chain(permissions.1).collect();
    let dropped = context.all_or_nothing && !unusable.is_empty();
    malformed.extend(unusable.into_iter().filter_map(|reason| match reason {
        Unusable::HttpOnly => None,
        Unusable::Malformed(message) => Some(message),
    }));
    (!dropped).then_some(Policy {
        permissions: permissions.0,
        principals: principals.0,
    })
}

/// One expression per entry, or one for an absent list.
fn each<'a, T: 'a, E: Expression>(
    entries: impl Iterator<Item = Option<&'a T>>,
    compile: impl Fn(Option<&'a T>) -> All<E>,
) -> (Vec<E>, Vec<Unusable>) {
    let mut entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        entries.push(None);
    }
    let (mut expressions, mut unusable) = (Vec::new(), Vec::new());
    for entry in entries {
        let (expression, missing) = compile(entry).finish();
        expressions.push(expression);
        unusable.extend(missing);
    }
    (expressions, unusable)
}

fn principal(source: Option<&Source>, when: &[Condition], context: RuleContext<'_>) -> All<Principal> {
    let mut all = All::new();
    if let Some(source) = source {
        add_source(&mut all, source, context);
    }
    for condition in when {
        add_principal_condition(&mut all, condition, context);
    }
    all
}

fn add_source(all: &mut All<Principal>, source: &Source, context: RuleContext<'_>) {
    let domains = context.setting.trust_domains;
    all.field(
        &in_all_trust_domains(&source.principals, domains),
        &in_all_trust_domains(&source.not_principals, domains),
        |value| identity(text::prefixed("spiffe://", value)),
    );
    all.field(&source.request_principals, &source.not_request_principals, |value| {
        context.http_only(token_subject(value))
    });
    all.field(&source.namespaces, &source.not_namespaces, |value| {
        identity(text::namespace(value))
    });
    all.field(&source.service_accounts, &source.not_service_accounts, |value| {
        identity(text::service_account(value, context.namespace))
    });
    all.field(&source.trust_domains, &source.not_trust_domains, |value| {
        identity(text::trust_domain(value))
    });
    all.field(&source.ip_blocks, &source.not_ip_blocks, |block| {
        Ok(Principal::DirectRemoteIp(block.net()))
    });
    all.field(&source.remote_ip_blocks, &source.not_remote_ip_blocks, |block| {
        Ok(Principal::RemoteIp(block.net()))
    });
}

fn add_principal_condition(all: &mut All<Principal>, condition: &Condition, context: RuleContext<'_>) {
    let (values, not_values) = (condition.values.as_slice(), condition.not_values.as_slice());
    let mut add = |judge: &dyn Fn(&String) -> Result<Principal, Unusable>| all.field(values, not_values, judge);
    match &condition.key {
        Key::RequestHeader(name) => {
            add(&|value| context.http_only(text::header(name, value).map(Principal::Header)));
        }
        Key::SourceIp => add(&|value| ip_block(value).map(Principal::DirectRemoteIp)),
        Key::RemoteIp => add(&|value| ip_block(value).map(Principal::RemoteIp)),
        Key::SourceNamespace => add(&|value| identity(text::namespace(value))),
        Key::SourceServiceAccount => add(&|value| identity(text::service_account(value, context.namespace))),
        Key::SourceTrustDomain => add(&|value| identity(text::trust_domain(value))),
        Key::SourcePrincipal => {
            let domains = context.setting.trust_domains;
            let (values, not_values) = (
                in_all_trust_domains(values, domains),
                in_all_trust_domains(not_values, domains),
            );
            all.field(&values, &not_values, |value| {
                identity(text::prefixed("spiffe://", value))
            });
        }
        Key::RequestPrincipal => add(&|value| context.http_only(token_subject(value))),
        Key::RequestAudiences => add(&|value| context.http_only(claim_list(&["aud"], value))),
        Key::RequestPresenter => add(&|value| context.http_only(claim_text("azp", text::form(value)))),
        Key::RequestClaims(names) => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            add(&|value| context.http_only(claim(&names, value)));
        }
        Key::DestinationIp | Key::DestinationPort | Key::ConnectionSni | Key::Metadata { .. } => {}
    }
}

fn permission(operation: Option<&Operation>, when: &[Condition], context: RuleContext<'_>) -> All<Permission> {
    let mut all = All::new();
    if let Some(operation) = operation {
        add_operation(&mut all, operation, context);
    }
    for condition in when {
        add_permission_condition(&mut all, condition);
    }
    all
}

fn add_operation(all: &mut All<Permission>, operation: &Operation, context: RuleContext<'_>) {
    all.field(&operation.hosts, &operation.not_hosts, |value| {
        context.http_only(text::authority(value).map(Permission::Header))
    });
    all.field(&operation.ports, &operation.not_ports, |port| {
        Ok(Permission::DestinationPort(port.0.get()))
    });
    all.field(&operation.methods, &operation.not_methods, |value| {
        context.http_only(text::header(":method", value).map(Permission::Header))
    });
    all.field(&operation.paths, &operation.not_paths, |value| {
        context.http_only(path(value))
    });
}

fn add_permission_condition(all: &mut All<Permission>, condition: &Condition) {
    let (values, not_values) = (condition.values.as_slice(), condition.not_values.as_slice());
    match &condition.key {
        Key::DestinationIp => all.field(values, not_values, |value| {
            ip_block(value).map(Permission::DestinationIp)
        }),
        Key::DestinationPort => all.field(values, not_values, |value| port(value).map(Permission::DestinationPort)),
        Key::ConnectionSni => all.field(values, not_values, |value| {
            text::form(value).map(Permission::RequestedServerName)
        }),
        Key::Metadata { filter, key } => all.field(values, not_values, |value| {
            let list = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
            let value = match list {
                Some(member) => MetadataValueMatch::ListWithText(text::form(member)?),
                None => MetadataValueMatch::Text(text::form(value)?),
            };
            Ok(Permission::Metadata(metadata(filter, &[key], value)))
        }),
        Key::RequestHeader(_)
        | Key::SourceIp
        | Key::RemoteIp
        | Key::SourceNamespace
        | Key::SourcePrincipal
        | Key::SourceServiceAccount
        | Key::SourceTrustDomain
        | Key::RequestPrincipal
        | Key::RequestAudiences
        | Key::RequestPresenter
        | Key::RequestClaims(_) => {}
    }
}

impl RuleContext<'_> {
    /// What only a request has.
    fn http_only<E>(&self, condition: Result<E, Unusable>) -> Result<E, Unusable> {
        match self.setting.layer {
            Layer::Http => condition,
            Layer::Tcp => Err(Unusable::HttpOnly),
        }
    }
}

fn identity(uri: Result<StringMatcher, Unusable>) -> Result<Principal, Unusable> {
    uri.map(|uri| Principal::Authenticated(Some(uri)))
}

fn path(value: &str) -> Result<Permission, Unusable> {
    if PathTemplate::is_template(value) {
        let template = PathTemplate::parse(value).map_err(|error| Unusable::Malformed(error.to_string()))?;
        return Ok(Permission::PathTemplate(template));
    }
    text::form(value).map(Permission::Path)
}

/// Istio expands an identity of one of the mesh's trust domains, or of `cluster.local`, to all of them. What is not a full
/// identity stays as it is.
fn in_all_trust_domains(values: &[String], domains: &[&TrustDomain]) -> Vec<String> {
    let mut all = Vec::new();
    for value in values {
        let parts: Vec<_> = value.split('/').collect();
        let known = |domain: &str| domain == "cluster.local" || domains.iter().any(|known| known.as_str() == domain);
        match parts.as_slice() {
            [domain, rest @ ..] if parts.len() == 5 && known(domain) => {
                let rest = rest.join("/");
                all.extend(domains.iter().map(|domain| format!("{domain}/{rest}")));
            }
            _ => all.push(value.clone()),
        }
    }
    all
}

/// Issuer and subject of a token, split at the last slash; a star at either end leaves that end open.
fn token_subject(value: &str) -> Result<Principal, Unusable> {
    let anything = || text::form("*");
    let (issuer, subject) = match value.rsplit_once('/') {
        Some((issuer, subject)) => (text::form(issuer), text::form(subject)),
        None if value.starts_with('*') => (anything(), text::form(value)),
        None if value.ends_with('*') => (text::form(value), anything()),
        None => {
            return Err(Unusable::Malformed(format!(
                "{value:?} is not a token's issuer/subject"
            )));
        }
    };
    Ok(Principal::And(vec![
        claim_text("iss", issuer)?,
        claim_text("sub", subject)?,
    ]))
}

/// A claim that is a text or a list of texts.
fn claim(names: &[&str], value: &str) -> Result<Principal, Unusable> {
    let text = token_claim(names, MetadataValueMatch::Text(text::form(value)?));
    Ok(Principal::Or(vec![text, claim_list(names, value)?]))
}

fn claim_text(name: &str, value: Result<StringMatcher, Unusable>) -> Result<Principal, Unusable> {
    value.map(|value| token_claim(&[name], MetadataValueMatch::Text(value)))
}

fn claim_list(names: &[&str], value: &str) -> Result<Principal, Unusable> {
    text::form(value).map(|value| token_claim(names, MetadataValueMatch::ListWithText(value)))
}

fn token_claim(names: &[&str], value: MetadataValueMatch) -> Principal {
    let path: Vec<_> = std::iter::once(JWT_PAYLOAD).chain(names.iter().copied()).collect();
    Principal::Metadata(metadata(JWT_FILTER, &path, value))
}

fn metadata(filter: &str, path: &[impl AsRef<str>], value: MetadataValueMatch) -> MetadataMatcher {
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path.iter().map(|part| part.as_ref().to_owned()).collect(),
        value,
        invert: false,
    }
}

fn ip_block(value: &str) -> Result<IpNet, Unusable> {
    value.parse::<IpBlock>().map(IpBlock::net).map_err(Unusable::Malformed)
}

fn port(value: &str) -> Result<u16, Unusable> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Unusable::Malformed(format!("{value:?} is not a port: 1 to 65535")))
}
