//! `config.rbac.v3` and the RBAC filters.
//!
//! The expressions are recursive, so their depth is bounded here.

use std::sync::Arc;

use crate::{
    PolicyName,
    authz::{Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    path_template::PathTemplate,
    xds::{
        decode::matcher,
        pb::{
            core, http_rbac, network_rbac,
            rbac::{self, permission, principal},
            uri_template::UriTemplateMatchConfig,
        },
        scope::{Decoded, Reported, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of authorization.
    MESSAGES:
    http_rbac::Rbac {
        supported { rules, rules_stat_prefix, shadow_rules, shadow_rules_stat_prefix }
        ignored { track_per_rule_stats = "a statistic" }
        rejected { matcher = "use rules", shadow_matcher = "use shadow_rules" }
    }
    network_rbac::Rbac {
        supported {
            rules, shadow_rules, shadow_rules_stat_prefix, stat_prefix, enforcement_type = "ONE_TIME_ON_FIRST_BYTE",
        }
        rejected { matcher = "use rules", shadow_matcher = "use shadow_rules", delay_deny }
    }
    rbac::Rbac {
        supported { action, policies }
        rejected { audit_logging_options }
    }
    rbac::Policy {
        supported { permissions, principals }
        rejected { condition, checked_condition, cel_config }
    }
    rbac::Permission {
        supported {
            rule = "any, and_rules, or_rules, not_rule, header, url_path, uri_template, destination_ip, destination_port, \
                requested_server_name, metadata",
        }
    }
    permission::Set {
        supported { rules }
    }
    rbac::Principal {
        supported {
            identifier = "any, and_ids, or_ids, not_id, authenticated, direct_remote_ip, remote_ip, header, url_path, metadata",
        }
    }
    principal::Set {
        supported { ids }
    }
    principal::Authenticated {
        supported { principal_name }
    }
    UriTemplateMatchConfig {
        supported { path_template = "segments that are literal, * or (last operator) **" }
    }
}

/// Deepest nesting of an expression. Istio's have about six levels.
const MAX_DEPTH: usize = 32;

/// An HTTP filter.
pub(super) fn http_filter(scope: &Scope<'_>, message: &http_rbac::Rbac) -> Decoded<RbacFilter> {
    scope.check(message);
    Ok(RbacFilter {
        rules: optional_rules(&scope.field("rules"), message.rules.as_ref())?,
        shadow_rules: optional_rules(&scope.field("shadow_rules"), message.shadow_rules.as_ref())?,
        shadow_prefix: message.shadow_rules_stat_prefix.clone(),
        stat_prefix: message.rules_stat_prefix.clone(),
    })
}

/// A network filter.
pub(super) fn network_filter(scope: &Scope<'_>, message: &network_rbac::Rbac) -> Decoded<RbacFilter> {
    scope.check(message);
    if message.enforcement_type != i32::from(network_rbac::rbac::EnforcementType::OneTimeOnFirstByte) {
        scope
            .field("enforcement_type")
            .refuse("CONTINUOUS", "only ONE_TIME_ON_FIRST_BYTE is supported");
    }
    Ok(RbacFilter {
        rules: optional_rules(&scope.field("rules"), message.rules.as_ref())?,
        shadow_rules: optional_rules(&scope.field("shadow_rules"), message.shadow_rules.as_ref())?,
        shadow_prefix: message.shadow_rules_stat_prefix.clone(),
        stat_prefix: message.stat_prefix.clone(),
    })
}

fn optional_rules(scope: &Scope<'_>, message: Option<&rbac::Rbac>) -> Decoded<Option<Arc<Rbac>>> {
    message.map(|message| rules(scope, message).map(Arc::new)).transpose()
}

fn rules(scope: &Scope<'_>, message: &rbac::Rbac) -> Decoded<Rbac> {
    scope.check(message);
    let action = match scope.field("action").enumeration(message.action)? {
        rbac::rbac::Action::Allow => RbacAction::Allow,
        rbac::rbac::Action::Deny => RbacAction::Deny,
        rbac::rbac::Action::Log => RbacAction::Log,
    };
    let policies: Vec<Decoded<_>> = message
        .policies
        .iter()
        .map(|(name, message)| {
            let scope = scope.key("policies", name);
            Ok((
                scope.parse(name, PolicyName::parse)?,
                Arc::new(policy(&scope, message)?),
            ))
        })
        .collect();
    Ok(Rbac {
        action,
        policies: policies.into_iter().collect::<Decoded<_>>()?,
    })
}

fn policy(scope: &Scope<'_>, message: &rbac::Policy) -> Decoded<Policy> {
    scope.check(message);
    Ok(Policy {
        permissions: some(scope, "permissions", &message.permissions, |scope, m| {
            permission(scope, m, 0)
        })?,
        principals: some(scope, "principals", &message.principals, |scope, m| {
            principal(scope, m, 0)
        })?,
    })
}

/// A list of at least one: an empty one would silently mean "never" or "always".
fn some<T, U>(
    scope: &Scope<'_>,
    name: &'static str,
    items: &[T],
    decode: impl Fn(&Scope<'_>, &T) -> Decoded<U>,
) -> Decoded<Vec<U>> {
    if items.is_empty() {
        return Err(scope.field(name).refuse("empty", "at least one item"));
    }
    scope.list(name, items, decode)
}

fn deeper(scope: &Scope<'_>, depth: usize) -> Decoded<usize> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(scope.refuse(
            "nested too deeply",
            format_args!("at most {MAX_DEPTH} levels are accepted"),
        ))
    }
}

fn unsupported(scope: &Scope<'_>, name: &'static str, accepted: &'static str) -> Reported {
    scope.field(name).refuse("not supported", accepted)
}

fn any(scope: &Scope<'_>, value: bool) -> Decoded<()> {
    if value {
        Ok(())
    } else {
        Err(scope.field("any").refuse("false", "only true is accepted"))
    }
}

#[allow(deprecated)] // `metadata` is what istiod writes
fn permission(scope: &Scope<'_>, message: &rbac::Permission, depth: usize) -> Decoded<Permission> {
    use permission::Rule;

    const ACCEPTED: &str = "any, and_rules, or_rules, not_rule, header, url_path, uri_template, destination_ip, \
        destination_port, requested_server_name or metadata";
    let depth = deeper(scope, depth)?;
    let set = |name: &'static str, set: &permission::Set| {
        some(&scope.field(name), "rules", &set.rules, |scope, m| {
            permission(scope, m, depth)
        })
    };
    Ok(match scope.required("rule", &message.rule)? {
        Rule::Any(value) => {
            any(scope, *value)?;
            Permission::Any
        }
        Rule::AndRules(rules) => Permission::And(set("and_rules", rules)?),
        Rule::OrRules(rules) => Permission::Or(set("or_rules", rules)?),
        Rule::NotRule(rule) => Permission::Not(Box::new(permission(&scope.field("not_rule"), rule, depth)?)),
        Rule::Header(header) => Permission::Header(matcher::header(&scope.field("header"), header)?),
        Rule::UrlPath(path) => Permission::Path(matcher::path(&scope.field("url_path"), path)?),
        Rule::UriTemplate(extension) => Permission::PathTemplate(template(&scope.field("uri_template"), extension)?),
        Rule::DestinationIp(range) => Permission::DestinationIp(matcher::cidr(&scope.field("destination_ip"), range)?),
        Rule::DestinationPort(port) => Permission::DestinationPort(scope.port("destination_port", *port)?),
        Rule::RequestedServerName(name) => {
            Permission::RequestedServerName(matcher::string(&scope.field("requested_server_name"), name)?)
        }
        Rule::Metadata(metadata) => Permission::Metadata(matcher::metadata(&scope.field("metadata"), metadata)?),
        Rule::DestinationPortRange(_) => return Err(unsupported(scope, "destination_port_range", ACCEPTED)),
        Rule::Matcher(_) => return Err(unsupported(scope, "matcher", ACCEPTED)),
        Rule::SourcedMetadata(_) => return Err(unsupported(scope, "sourced_metadata", ACCEPTED)),
    })
}

#[allow(deprecated)] // as above
fn principal(scope: &Scope<'_>, message: &rbac::Principal, depth: usize) -> Decoded<Principal> {
    use principal::Identifier;

    const ACCEPTED: &str =
        "any, and_ids, or_ids, not_id, authenticated, direct_remote_ip, remote_ip, header, url_path or metadata";
    let depth = deeper(scope, depth)?;
    let set = |name: &'static str, set: &principal::Set| {
        some(&scope.field(name), "ids", &set.ids, |scope, m| {
            principal(scope, m, depth)
        })
    };
    Ok(match scope.required("identifier", &message.identifier)? {
        Identifier::Any(value) => {
            any(scope, *value)?;
            Principal::Any
        }
        Identifier::AndIds(ids) => Principal::And(set("and_ids", ids)?),
        Identifier::OrIds(ids) => Principal::Or(set("or_ids", ids)?),
        Identifier::NotId(id) => Principal::Not(Box::new(principal(&scope.field("not_id"), id, depth)?)),
        Identifier::Authenticated(authenticated) => match &authenticated.principal_name {
            Some(name) => Principal::Authenticated(Some(matcher::string(
                &scope.field("authenticated.principal_name"),
                name,
            )?)),
            None => Principal::Authenticated(None),
        },
        Identifier::DirectRemoteIp(range) => {
            Principal::DirectRemoteIp(matcher::cidr(&scope.field("direct_remote_ip"), range)?)
        }
        Identifier::RemoteIp(range) => Principal::RemoteIp(matcher::cidr(&scope.field("remote_ip"), range)?),
        Identifier::Header(header) => Principal::Header(matcher::header(&scope.field("header"), header)?),
        Identifier::UrlPath(path) => Principal::Path(matcher::path(&scope.field("url_path"), path)?),
        Identifier::Metadata(metadata) => Principal::Metadata(matcher::metadata(&scope.field("metadata"), metadata)?),
        Identifier::SourceIp(_) => return Err(unsupported(scope, "source_ip", "direct_remote_ip or remote_ip")),
        Identifier::FilterState(_) => return Err(unsupported(scope, "filter_state", ACCEPTED)),
        Identifier::SourcedMetadata(_) => return Err(unsupported(scope, "sourced_metadata", ACCEPTED)),
        Identifier::Custom(_) => return Err(unsupported(scope, "custom", ACCEPTED)),
    })
}

/// Envoy writes the operators without the braces that Istio puts around them.
fn template(scope: &Scope<'_>, message: &core::TypedExtensionConfig) -> Decoded<PathTemplate> {
    scope.check(message);
    let any = scope.required("typed_config", &message.typed_config)?;
    let scope = scope.field("typed_config");
    let config: UriTemplateMatchConfig = scope.unpack(any)?;
    let scope = scope.field("path_template");
    if config.path_template.contains(['{', '}']) {
        return Err(scope.refuse(
            &config.path_template,
            "segments that are literal, * or **; no variables",
        ));
    }
    let operator = |segment| match segment {
        "*" => "{*}",
        "**" => "{**}",
        literal => literal,
    };
    let segments: Vec<_> = config.path_template.split('/').map(operator).collect();
    scope.parse(&segments.join("/"), PathTemplate::parse)
}
