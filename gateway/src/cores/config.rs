//! What is configured: team i may reach host i, and host i has a route.

use std::{collections::BTreeMap, sync::Arc};

use mesh::{
    PolicyName, RouteConfigName,
    authz::{Permission, Policy, Principal, Rbac, RbacAction, RbacFilter},
    host::HostPattern,
    matcher::{HeaderMatcher, HeaderValueMatch, StringMatcher},
    route::{
        DirectResponse, Domain, HeaderChanges, PathMatch, Route, RouteAction, RouteConfig, RouteMatch, VirtualHost,
    },
};

pub(super) fn host(number: usize) -> String {
    format!("host-{number}.test")
}

/// As control compiles them from the tutorial's policies.
pub(super) fn policies(number: usize) -> RbacFilter {
    let policies: BTreeMap<_, _> = (0..number).map(policy).collect();
    RbacFilter {
        rules: Some(Arc::new(Rbac {
            action: RbacAction::Allow,
            policies,
        })),
        shadow_rules: None,
        shadow_prefix: String::new(),
        stat_prefix: String::new(),
    }
}

fn policy(team: usize) -> (PolicyName, Arc<Policy>) {
    let name = format!("ns[istio-egress]-policy[team-{team}]-rule[0]");
    let authority = HeaderMatcher {
        name: ":authority".to_owned(),
        value: HeaderValueMatch::Value(StringMatcher {
            ignore_case: true,
            ..StringMatcher::exact(host(team))
        }),
        invert: false,
        missing_as_empty: false,
    };
    let namespace = StringMatcher::prefix(format!("spiffe://cluster.local/ns/team-{team}/"));
    let policy = Policy {
        permissions: vec![Permission::And(vec![
            Permission::Header(authority),
            Permission::DestinationPort(8_080),
        ])],
        principals: vec![Principal::Authenticated(Some(namespace))],
    };
    (PolicyName::parse(&name).expect("a policy's name"), Arc::new(policy))
}

/// A virtual host each, with one route.
pub(super) fn routes(hosts: usize) -> RouteConfig {
    RouteConfig {
        name: RouteConfigName::parse("http.8080").expect("a route configuration's name"),
        virtual_hosts: (0..hosts).map(virtual_host).collect(),
        ignore_port_in_host_matching: true,
    }
}

fn virtual_host(number: usize) -> Arc<VirtualHost> {
    let domain = Domain {
        host: HostPattern::parse(&host(number)).expect("a host's name"),
        port: None,
    };
    Arc::new(VirtualHost {
        name: host(number),
        domains: vec![domain],
        routes: vec![everything()],
        require_tls: false,
        include_attempt_count: true,
    })
}

fn everything() -> Route {
    Route {
        name: None,
        matches: RouteMatch {
            path: PathMatch::Prefix("/".to_owned()),
            case_sensitive: true,
            headers: Vec::new(),
            query: Vec::new(),
        },
        action: RouteAction::Direct(DirectResponse {
            status: 200,
            body: String::new(),
        }),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}
