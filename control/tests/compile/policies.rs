//! Authorization policies: what each field, string form and condition lets through, judged by the compiled filters.

use std::{borrow::Cow, net::IpAddr};

use control::istio::Objects;
use mesh::{
    authz::{Facts, RbacAction, RbacFilter},
    bundle::Bundle,
    listener::Protocol,
};

use super::world::{GATEWAY, build, build_with, gateway, text};

const EXTERNAL: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: example, namespace: istio-egress}
spec:
  hosts: [example.com]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: example, namespace: istio-egress}
spec:
  hosts: [example.com]
  gateways: [egress-gateway]
  http:
  - route: [{destination: {host: example.com, port: {number: 80}}}]
  tls:
  - match: [{sniHosts: [example.com]}]
    route: [{destination: {host: example.com, port: {number: 443}}}]
";

/// A request of team-x, or the connection it would be.
struct Request {
    http: bool,
    identity: Option<Vec<String>>,
}

impl Facts for Request {
    fn peer_names(&self) -> Option<&[String]> {
        self.identity.as_deref()
    }

    fn direct_remote_ip(&self) -> IpAddr {
        "10.1.0.17".parse().unwrap()
    }

    fn remote_ip(&self) -> IpAddr {
        "192.0.2.9".parse().unwrap()
    }

    fn destination(&self) -> (IpAddr, u16) {
        ("10.1.4.12".parse().unwrap(), if self.http { 8080 } else { 8443 })
    }

    fn sni(&self) -> &str {
        "a.example.com"
    }

    fn is_http(&self) -> bool {
        self.http
    }

    fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let headers = [(":authority", "Example.com"), (":method", "GET"), ("x-a", "one,two")];
        headers
            .into_iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.into())
    }

    fn path(&self) -> &str {
        "/a/b"
    }
}

fn team_x(http: bool) -> Request {
    Request {
        http,
        identity: Some(vec!["spiffe://cluster.local/ns/team-x/sa/test".into()]),
    }
}

fn policy(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: istio-egress, annotations: {{{annotations}}}}}\nspec: {spec}\n"
    )
}

#[track_caller]
fn policies(all: &str) -> Objects {
    text(&format!("{GATEWAY}{EXTERNAL}{all}"))
}

/// The filters of requests, or of connections.
#[track_caller]
fn filters(bundle: &Bundle, http: bool) -> Vec<RbacFilter> {
    let listener = &bundle.listeners[if http { "0.0.0.0_8080" } else { "0.0.0.0_8443" }];
    let chain = &listener.filter_chains[0];
    match &chain.protocol {
        Protocol::Http(http) => http.rbac.clone(),
        Protocol::Tcp(_) => chain.rbac.clone(),
    }
}

fn passes(filters: &[RbacFilter], request: &Request) -> bool {
    let enforced = filters.iter().filter_map(|filter| filter.rules.as_ref());
    enforced.into_iter().all(|rules| rules.decide(request).0)
}

/// Whether an ALLOW policy of this one rule lets the request, or the connection, pass.
#[track_caller]
fn check(http: bool, rule: &str, expect: bool) {
    let (bundle, notes) = build(&policies(&policy("p", "", &format!("{{rules: [{rule}]}}"))), &gateway());
    assert!(notes.is_empty(), "{notes:#?}");
    assert_eq!(passes(&filters(&bundle, http), &team_x(http)), expect, "{rule}");
}

#[track_caller]
fn source(field: &str, value: &str, expect: bool) {
    check(
        true,
        &format!("{{from: [{{source: {{{field}: ['{value}']}}}}]}}"),
        expect,
    );
    let mut letters = field.chars();
    let not = format!(
        "not{}{}",
        letters.next().unwrap().to_ascii_uppercase(),
        letters.as_str()
    );
    check(
        true,
        &format!("{{from: [{{source: {{{not}: ['{value}']}}}}]}}"),
        !expect,
    );
}

#[track_caller]
fn operation(field: &str, value: &str, expect: bool) {
    check(
        true,
        &format!("{{to: [{{operation: {{{field}: ['{value}']}}}}]}}"),
        expect,
    );
    let mut letters = field.chars();
    let not = format!(
        "not{}{}",
        letters.next().unwrap().to_ascii_uppercase(),
        letters.as_str()
    );
    check(
        true,
        &format!("{{to: [{{operation: {{{not}: ['{value}']}}}}]}}"),
        !expect,
    );
}

#[track_caller]
fn when(key: &str, value: &str, expect: bool) {
    check(
        true,
        &format!("{{when: [{{key: '{key}', values: ['{value}']}}]}}"),
        expect,
    );
    check(
        true,
        &format!("{{when: [{{key: '{key}', notValues: ['{value}']}}]}}"),
        !expect,
    );
}

#[test]
fn sources_match_by_their_forms() {
    source("principals", "cluster.local/ns/team-x/sa/test", true);
    source("principals", "cluster.local/ns/team-y/sa/test", false);
    source("principals", "cluster.local/ns/team-x/*", true);
    source("principals", "*/sa/test", true);
    source("principals", "*/sa/tes", false);
    source("principals", "*", true);
    source("principals", "other/ns/team-x/sa/test", false);
    source("namespaces", "team-x", true);
    source("namespaces", "team", false);
    source("namespaces", "team-*", true);
    source("namespaces", "*-x", true);
    source("namespaces", "t*x", true);
    source("namespaces", "team.x", false);
    source("serviceAccounts", "team-x/test", true);
    source("serviceAccounts", "test", false);
    source("serviceAccounts", "team-x/tes", false);
    source("trustDomains", "cluster.local", true);
    source("trustDomains", "cluster", false);
    source("trustDomains", "*", true);
    source("trustDomains", "cluster.*", true);
    source("trustDomains", "*.domain", false);
    source("ipBlocks", "10.1.0.0/16", true);
    source("ipBlocks", "192.0.2.9", false);
    source("remoteIpBlocks", "192.0.2.9", true);
    source("remoteIpBlocks", "10.1.0.17", false);
    source("requestPrincipals", "*", false);
    source("requestPrincipals", "issuer/subject", false);
}

#[test]
fn operations_match_by_their_forms() {
    operation("hosts", "example.com", true);
    operation("hosts", "EXAMPLE.com", true);
    operation("hosts", "example.com:80", false);
    operation("hosts", "example.*", true);
    operation("hosts", "*.com", true);
    operation("hosts", "*.example.com", false);
    operation("hosts", "*", true);
    operation("ports", "8080", true);
    operation("ports", "80", false);
    operation("methods", "GET", true);
    operation("methods", "get", false);
    operation("methods", "G*", true);
    operation("methods", "*", true);
    operation("paths", "/a/b", true);
    operation("paths", "/A/b", false);
    operation("paths", "/a*", true);
    operation("paths", "*/b", true);
    operation("paths", "*", true);
    operation("paths", "/*/b", false);
    operation("paths", "/{*}/b", true);
    operation("paths", "/{*}", false);
    operation("paths", "/{**}", true);
}

#[test]
fn conditions_match_by_their_keys() {
    when("request.headers[X-A]", "one,two", true);
    when("request.headers[x-a]", "one", false);
    when("request.headers[x-a]", "one*", true);
    when("request.headers[x-a]", "*", true);
    when("request.headers[x-b]", "*", false);
    when("source.ip", "10.1.0.17", true);
    when("source.ip", "192.0.2.0/24", false);
    when("remote.ip", "192.0.2.0/24", true);
    when("source.namespace", "team-x", true);
    when("source.namespace", "team-y", false);
    when("source.principal", "cluster.local/ns/team-x/sa/test", true);
    when("source.principal", "cluster.local/ns/team-y/*", false);
    when("source.serviceAccount", "team-x/test", true);
    when("source.serviceAccount", "test", false);
    when("source.trustDomain", "cluster.local", true);
    when("source.trustDomain", "other", false);
    when("request.auth.principal", "*", false);
    when("request.auth.audiences", "a", false);
    when("request.auth.presenter", "a", false);
    when("request.auth.claims[a][b]", "c", false);
    when("destination.ip", "10.1.4.12", true);
    when("destination.ip", "10.1.4.13", false);
    when("destination.port", "8080", true);
    when("destination.port", "80", false);
    when("connection.sni", "a.example.com", true);
    when("connection.sni", "*.example.com", true);
    when("connection.sni", "A.example.com", false);
    when("experimental.envoy.filters.http.x[key]", "v", false);
    when("experimental.envoy.filters.http.x[key]", "[v]", false);
}

#[test]
fn fields_are_joined_by_and_and_values_by_or() {
    check(
        true,
        "{from: [{source: {namespaces: [a, team-x], notNamespaces: [b]}}]}",
        true,
    );
    check(
        true,
        "{from: [{source: {namespaces: [team-x], notNamespaces: [team-x]}}]}",
        false,
    );
    check(
        true,
        "{from: [{source: {namespaces: [a]}}, {source: {ipBlocks: [10.1.0.17]}}]}",
        true,
    );
    check(
        true,
        "{from: [{source: {namespaces: [a], ipBlocks: [10.1.0.17]}}]}",
        false,
    );
    check(
        true,
        "{to: [{operation: {paths: [/x]}}, {operation: {methods: [GET]}}]}",
        true,
    );
    check(
        true,
        "{to: [{operation: {methods: [GET]}}], when: [{key: destination.port, values: ['80']}]}",
        false,
    );
    check(
        true,
        "{from: [{source: {namespaces: [team-x]}}], to: [{operation: {methods: [PUT]}}]}",
        false,
    );
    check(true, "{}", true);
}

#[test]
fn what_only_a_request_has_drops_an_allow_rule_for_connections() {
    check(false, "{when: [{key: destination.port, values: ['8443']}]}", true);
    check(false, "{from: [{source: {namespaces: [team-x]}}]}", true);
    check(false, "{to: [{operation: {hosts: [example.com]}}]}", false);
    check(false, "{to: [{operation: {notPaths: [/x]}}]}", false);
    check(false, "{when: [{key: 'request.headers[x-a]', values: ['*']}]}", false);
    check(false, "{from: [{source: {notRequestPrincipals: ['*']}}]}", false);
}

#[test]
fn what_only_a_request_has_widens_a_deny_rule_for_connections() {
    let denied = |rule: &str| {
        let objects = policies(&policy("p", "", &format!("{{action: DENY, rules: [{rule}]}}")));
        let (bundle, _) = build(&objects, &gateway());
        !passes(&filters(&bundle, false), &team_x(false))
    };
    assert!(denied("{to: [{operation: {hosts: [other.example]}}]}"));
    assert!(denied("{to: [{operation: {hosts: [other.example], ports: ['8443']}}]}"));
    assert!(!denied("{to: [{operation: {hosts: [example.com], ports: ['8080']}}]}"));
    assert!(!denied(
        "{from: [{source: {namespaces: [team-y]}}], to: [{operation: {paths: [/x]}}]}"
    ));
}

#[test]
fn filters_come_in_the_order_audit_deny_allow_with_istios_names() {
    let all = [
        policy("a", "", "{rules: [{}, {from: [{source: {namespaces: [x]}}]}]}"),
        policy("d", "", "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}"),
        policy("l", "", "{action: AUDIT, rules: [{}]}"),
        policy("none", "", "{}"),
    ];
    let (bundle, _) = build(&policies(&all.concat()), &gateway());
    let filters = filters(&bundle, true);
    let rules: Vec<_> = filters.iter().map(|filter| filter.rules.clone().unwrap()).collect();
    let actions: Vec<_> = rules.iter().map(|rules| rules.action).collect();
    assert_eq!(actions, [RbacAction::Log, RbacAction::Deny, RbacAction::Allow]);
    let names: Vec<_> = rules[2].policies.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ns[istio-egress]-policy[a]-rule[0]",
            "ns[istio-egress]-policy[a]-rule[1]",
            "ns[istio-egress]-policy[none]-rule[0]"
        ]
    );
}

#[test]
fn an_allow_policy_without_rules_denies_everything() {
    let (bundle, _) = build(&policies(&policy("none", "", "{}")), &gateway());
    assert!(!passes(&filters(&bundle, true), &team_x(true)));
    assert!(!passes(&filters(&bundle, false), &team_x(false)));
}

#[test]
fn without_a_policy_there_is_no_filter() {
    let (bundle, _) = build(&policies(""), &gateway());
    assert!(filters(&bundle, true).is_empty() && filters(&bundle, false).is_empty());
}

#[test]
fn a_policy_selects_by_label_and_namespace() {
    let elsewhere = policy(
        "p",
        "",
        "{action: DENY, selector: {matchLabels: {app: other}}, rules: [{}]}",
    );
    let selected = policy(
        "p",
        "",
        "{action: DENY, selector: {matchLabels: {istio: egressgateway}}, rules: [{}]}",
    );
    let of_mesh = selected.replace("namespace: istio-egress", "namespace: istio-system");
    let of_team = selected.replace("namespace: istio-egress", "namespace: team-x");
    for (policy, denied) in [(elsewhere, false), (selected, true), (of_mesh, true), (of_team, false)] {
        let (bundle, _) = build(&policies(&policy), &gateway());
        assert_eq!(!passes(&filters(&bundle, true), &team_x(true)), denied, "{policy}");
    }
}

#[test]
fn a_dry_run_is_reported_and_not_enforced() {
    let dry = policy(
        "dry",
        "istio.io/dry-run: 'true'",
        "{rules: [{from: [{source: {namespaces: [nobody]}}]}]}",
    );
    let (bundle, _) = build(&policies(&dry), &gateway());
    let filters = filters(&bundle, true);
    assert!(passes(&filters, &team_x(true)));
    assert_eq!(filters[0].rules, None);
    assert_eq!(filters[0].shadow_prefix, "istio_dry_run_allow_");
    assert!(!filters[0].shadow_rules.as_ref().unwrap().decide(&team_x(true)).0);
}

#[test]
fn an_identity_of_the_mesh_counts_in_all_its_trust_domains() {
    let rule = "{rules: [{from: [{source: {principals: [cluster.local/ns/team-x/sa/test]}}]}]}";
    let mesh = r#"{"trustDomain": "new", "trustDomainAliases": ["old"]}"#;
    let (bundle, _) = build_with(&policies(&policy("p", "", rule)), &gateway(), mesh);
    for (domain, expect) in [("new", true), ("old", true), ("cluster.local", false)] {
        let identity = Some(vec![format!("spiffe://{domain}/ns/team-x/sa/test")]);
        assert_eq!(
            passes(&filters(&bundle, true), &Request { http: true, identity }),
            expect,
            "{domain}"
        );
    }
}

#[test]
fn a_peer_without_identity_matches_only_negations() {
    let nobody = Request {
        http: true,
        identity: None,
    };
    for (rule, expect) in [
        ("namespaces: ['*']", false),
        ("notNamespaces: [team-x]", true),
        ("principals: ['*']", false),
    ] {
        let spec = format!("{{rules: [{{from: [{{source: {{{rule}}}}}]}}]}}");
        let (bundle, _) = build(&policies(&policy("p", "", &spec)), &gateway());
        assert_eq!(passes(&filters(&bundle, true), &nobody), expect, "{rule}");
    }
}
