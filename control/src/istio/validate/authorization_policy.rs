//! Reference section 9.7.

use mesh::path_template::PathTemplate;

use crate::{
    diag::Code,
    istio::{
        authorization_policy::{Action, AuthorizationPolicy, Condition, Key, Operation, PortText, Rule, Source},
        path::FieldPath,
        report::Report,
        scalar::IpBlock,
        scope::is_dns_label,
    },
};

const MAX_SERVICE_ACCOUNTS: usize = 16;
const MAX_SERVICE_ACCOUNT_CHARS: usize = 320;

pub(super) fn validate(policy: &AuthorizationPolicy, spec: &FieldPath<'_>, report: &mut Report<'_>) {
    super::selector(policy.selector.as_ref(), &spec.field("selector"), report);
    let rules = spec.field("rules");
    match (policy.action, policy.rules.is_empty()) {
        (Action::Allow, true) => {
            let message =
                "an ALLOW policy without rules matches nothing and so denies everything to the workloads it is for";
            let advice = "add rules; to allow everything use rules: [{}]; if a default deny is meant, this is it";
            report.warning(Code::DeniesEverything, &rules, message, advice);
        }
        (Action::Deny, true) => {
            let message = "DENY action without `rules` is meaningless: it never matches";
            report.invalid(&rules, message, "add rules; to deny everything use rules: [{}]");
        }
        (Action::Audit, true) => report.questionable(&rules, "AUDIT action without rules marks nothing", "add rules"),
        (Action::Allow | Action::Deny | Action::Audit, false) => {}
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        check_rule(policy.action, rule, &rules.index(index), report);
    }
}

fn check_rule(action: Action, rule: &Rule, path: &FieldPath<'_>, report: &mut Report<'_>) {
    let (from, to, when) = (path.field("from"), path.field("to"), path.field("when"));
    if rule.from.as_ref().is_some_and(Vec::is_empty) {
        report.invalid(&from, "`from` must not be empty", "remove it to match every source");
    }
    if rule.to.as_ref().is_some_and(Vec::is_empty) {
        report.invalid(&to, "`to` must not be empty", "remove it to match every operation");
    }
    for (index, entry) in rule.from.iter().flatten().enumerate() {
        check_source(&entry.source, &from.index(index).field("source"), report);
    }
    for (index, entry) in rule.to.iter().flatten().enumerate() {
        check_operation(&entry.operation, &to.index(index).field("operation"), report);
    }
    for (index, condition) in rule.when.iter().enumerate() {
        check_condition(condition, &when.index(index), report);
    }
    if action == Action::Deny && rule.is_http_only() {
        let message =
            "a DENY rule with HTTP attributes only denies every TCP connection: what it looks at is not there";
        report.questionable(path, message, "add the ports it is for");
    }
}

fn check_source(source: &Source, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if *source == Source::default() {
        report.invalid(path, "`source` must not be empty", "remove the entry, or name a source");
    }
    for (name, values) in source.texts() {
        check_texts(values, &path.field(name), report);
    }
    let accounts = [
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
    ];
    for (name, values) in accounts {
        check_service_accounts(values, &path.field(name), report);
    }
    let has_accounts = accounts.iter().any(|(_, values)| !values.is_empty());
    let others = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
    ];
    if has_accounts && others.iter().any(|values| !values.is_empty()) {
        report.invalid(
            path,
            "cannot set serviceAccounts with namespaces or principals",
            "use two entries of `from`",
        );
    }
    for (name, values) in [
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ] {
        check_trust_domains(values, &path.field(name), report);
    }
    for (name, values) in [
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
    ] {
        if !values.is_empty() {
            no_tokens(&path.field(name), report);
        }
    }
}

fn check_operation(operation: &Operation, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if *operation == Operation::default() {
        report.invalid(
            path,
            "`operation` must not be empty",
            "remove the entry, or name an operation",
        );
    }
    for (name, values) in operation.texts() {
        check_texts(values, &path.field(name), report);
    }
    for (name, values) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        let list = path.field(name);
        for (index, value) in values.iter().enumerate() {
            check_path(value, &list.index(index), report);
        }
    }
}

fn check_path(value: &str, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if PathTemplate::is_template(value) {
        if let Err(error) = PathTemplate::parse(value) {
            report.invalid(
                path,
                error.to_string(),
                "{*} is one segment, {**} the rest; nothing else may be in braces",
            );
        }
    } else if value.contains(['{', '}']) {
        let message = format!("{value:?} contains '{{' or '}}' beyond a supported path template");
        report.invalid(path, message, "{*} is one segment, {**} the rest");
    }
}

fn check_texts(values: &[String], path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
        report.invalid(&path.index(index), "must not be empty", "remove it");
    }
}

fn check_service_accounts(values: &[String], path: &FieldPath<'_>, report: &mut Report<'_>) {
    if values.len() > MAX_SERVICE_ACCOUNTS {
        let message = format!("{} service accounts", values.len());
        report.invalid(path, message, "list at most 16; use several entries of `from`");
    }
    for (index, value) in values.iter().enumerate() {
        let (namespace, name) = value
            .split_once('/')
            .map_or((None, value.as_str()), |(namespace, name)| (Some(namespace), name));
        let valid = value.chars().count() <= MAX_SERVICE_ACCOUNT_CHARS
            && namespace.is_none_or(is_dns_label)
            && name.split('.').all(is_dns_label);
        if !valid {
            let message = format!("{value:?} is not a service account");
            report.invalid(
                &path.index(index),
                message,
                "write name or namespace/name, without wildcards",
            );
        }
    }
}

fn check_trust_domains(values: &[String], path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, value) in values.iter().enumerate() {
        if value.contains('/') || value.matches('*').count() > 1 {
            let message = format!("{value:?} is not a trust domain");
            report.invalid(&path.index(index), message, "write the bare name, with at most one '*'");
        }
    }
}

fn check_condition(condition: &Condition, path: &FieldPath<'_>, report: &mut Report<'_>) {
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.invalid(
            path,
            "a condition needs values or notValues",
            "add the values to compare with",
        );
    }
    for (name, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        let list = path.field(name);
        check_texts(values, &list, report);
        check_typed_values(&condition.key, values, &list, report);
    }
    if condition.key.is_token() {
        no_tokens(&path.field("key"), report);
    }
}

fn check_typed_values(key: &Key, values: &[String], path: &FieldPath<'_>, report: &mut Report<'_>) {
    for (index, value) in values.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
        let place = path.index(index);
        match key {
            Key::SourceIp | Key::RemoteIp | Key::DestinationIp => {
                if let Err(error) = value.parse::<IpBlock>() {
                    report.invalid(&place, error, "use an address or a CIDR block");
                }
            }
            Key::DestinationPort => {
                if let Err(error) = value.parse::<PortText>() {
                    report.invalid(&place, error, "use the port the proxy listens on, such as \"8080\"");
                }
            }
            Key::ConnectionSni if value.chars().any(|c| c.is_ascii_uppercase()) => {
                let message = format!("{value:?} never matches: server names are compared in lower case");
                report.questionable(&place, message, "write it in lower case");
            }
            Key::SourceServiceAccount => check_service_accounts(std::slice::from_ref(value), path, report),
            Key::SourceTrustDomain => check_trust_domains(std::slice::from_ref(value), path, report),
            Key::ConnectionSni
            | Key::SourceNamespace
            | Key::SourcePrincipal
            | Key::RequestHeader(_)
            | Key::RequestPrincipal
            | Key::RequestAudiences
            | Key::RequestPresenter
            | Key::RequestClaims(_)
            | Key::Metadata { .. } => {}
        }
    }
}

/// Conditions on tokens are kept, but nothing of ours reads tokens.
fn no_tokens(path: &FieldPath<'_>, report: &mut Report<'_>) {
    let message =
        "tokens are not read (RequestAuthentication is not implemented), so no request has what is asked for here";
    report.questionable(path, message, "tell callers apart by their mesh identity");
}
