//! `config.rbac.v3` and the RBAC filters.
//!
//! Policies are a protobuf map, whose order in the bytes is not fixed. To write equal bytes for equal filters, a filter is
//! written as a concatenation of messages that each carry one policy: parsers merge them, by the definition of protobuf.

use prost::{Message, Name};

use crate::{
    authz::{Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    path_template::PathTemplate,
    xds::{
        Any,
        encode::{common, matcher},
        pb::{
            core, http_rbac, network_rbac,
            rbac::{self, permission, principal},
            uri_template::UriTemplateMatchConfig,
        },
    },
};

/// An HTTP filter.
pub(super) fn http_filter(value: &RbacFilter) -> Any {
    let filter = http_rbac::Rbac {
        rules_stat_prefix: value.stat_prefix.clone(),
        shadow_rules_stat_prefix: value.shadow_prefix.clone(),
        ..Default::default()
    };
    merged(
        std::iter::once(filter)
            .chain(split(value.rules.as_deref()).map(|part| http_rbac::Rbac {
                rules: Some(part),
                ..Default::default()
            }))
            .chain(split(value.shadow_rules.as_deref()).map(|part| http_rbac::Rbac {
                shadow_rules: Some(part),
                ..Default::default()
            })),
    )
}

/// A network filter.
pub(super) fn network_filter(value: &RbacFilter) -> Any {
    let filter = network_rbac::Rbac {
        stat_prefix: value.stat_prefix.clone(),
        shadow_rules_stat_prefix: value.shadow_prefix.clone(),
        ..Default::default()
    };
    merged(
        std::iter::once(filter)
            .chain(split(value.rules.as_deref()).map(|part| network_rbac::Rbac {
                rules: Some(part),
                ..Default::default()
            }))
            .chain(split(value.shadow_rules.as_deref()).map(|part| network_rbac::Rbac {
                shadow_rules: Some(part),
                ..Default::default()
            })),
    )
}

/// One message whose merged parts are these.
fn merged<M: Message + Name>(parts: impl Iterator<Item = M>) -> Any {
    Any {
        type_url: M::type_url(),
        value: parts.flat_map(|part| part.encode_to_vec()).collect(),
    }
}

/// The rules as parts with at most one policy each.
fn split(value: Option<&Rbac>) -> impl Iterator<Item = rbac::Rbac> + '_ {
    value.into_iter().flat_map(|value| {
        let head = rbac::Rbac {
            action: action(value.action).into(),
            ..Default::default()
        };
        let policies = value.policies.iter().map(|(name, value)| rbac::Rbac {
            policies: std::iter::once((name.to_string(), policy(value))).collect(),
            ..Default::default()
        });
        std::iter::once(head).chain(policies)
    })
}

fn action(value: RbacAction) -> rbac::rbac::Action {
    match value {
        RbacAction::Allow => rbac::rbac::Action::Allow,
        RbacAction::Deny => rbac::rbac::Action::Deny,
        RbacAction::Log => rbac::rbac::Action::Log,
    }
}

fn policy(value: &Policy) -> rbac::Policy {
    rbac::Policy {
        permissions: value.permissions.iter().map(permission).collect(),
        principals: value.principals.iter().map(principal).collect(),
        ..Default::default()
    }
}

#[allow(deprecated)] // `metadata` is what istiod writes
fn permission(value: &Permission) -> rbac::Permission {
    use permission::{Rule, Set};

    let set = |rules: &[Permission]| Set {
        rules: rules.iter().map(permission).collect(),
    };
    let rule = match value {
        Permission::Any => Rule::Any(true),
        Permission::And(rules) => Rule::AndRules(set(rules)),
        Permission::Or(rules) => Rule::OrRules(set(rules)),
        Permission::Not(rule) => Rule::NotRule(Box::new(permission(rule))),
        Permission::Header(header) => Rule::Header(matcher::header(header)),
        Permission::Path(path) => Rule::UrlPath(matcher::path(path)),
        Permission::PathTemplate(path) => Rule::UriTemplate(template(path)),
        Permission::DestinationIp(range) => Rule::DestinationIp(matcher::cidr(range)),
        Permission::DestinationPort(port) => Rule::DestinationPort((*port).into()),
        Permission::RequestedServerName(name) => Rule::RequestedServerName(matcher::string(name)),
        Permission::Metadata(metadata) => Rule::Metadata(matcher::metadata(metadata)),
    };
    rbac::Permission { rule: Some(rule) }
}

#[allow(deprecated)] // as above
fn principal(value: &Principal) -> rbac::Principal {
    use principal::{Authenticated, Identifier, Set};

    let set = |ids: &[Principal]| Set {
        ids: ids.iter().map(principal).collect(),
    };
    let identifier = match value {
        Principal::Any => Identifier::Any(true),
        Principal::And(ids) => Identifier::AndIds(set(ids)),
        Principal::Or(ids) => Identifier::OrIds(set(ids)),
        Principal::Not(id) => Identifier::NotId(Box::new(principal(id))),
        Principal::Authenticated(name) => Identifier::Authenticated(Authenticated {
            principal_name: name.as_ref().map(matcher::string),
        }),
        Principal::DirectRemoteIp(range) => Identifier::DirectRemoteIp(matcher::cidr(range)),
        Principal::RemoteIp(range) => Identifier::RemoteIp(matcher::cidr(range)),
        Principal::Header(header) => Identifier::Header(matcher::header(header)),
        Principal::Path(path) => Identifier::UrlPath(matcher::path(path)),
        Principal::Metadata(metadata) => Identifier::Metadata(matcher::metadata(metadata)),
    };
    rbac::Principal {
        identifier: Some(identifier),
    }
}

/// Envoy's operators have no braces.
fn template(value: &PathTemplate) -> core::TypedExtensionConfig {
    common::extension(
        "uri-template",
        &UriTemplateMatchConfig {
            path_template: value.source().replace("{**}", "**").replace("{*}", "*"),
        },
    )
}
