use std::{borrow::Cow, net::IpAddr, sync::Arc};

use mesh::{
    authz::{Permission, Policy, Principal, Rbac, RbacAction},
    matcher::{HeaderMatcher, HeaderValueMatch, Regex, StringMatcher},
};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Request {
    uris: Option<Vec<String>>,
    authority: Option<String>,
    path: String,
    port: u16,
    http: bool,
}

impl Facts for Request {
    fn peer_names(&self) -> Option<&[String]> {
        self.uris.as_deref()
    }

    fn direct_remote_ip(&self) -> IpAddr {
        [10, 1, 0, 17].into()
    }

    fn remote_ip(&self) -> IpAddr {
        [10, 1, 0, 17].into()
    }

    fn destination(&self) -> (IpAddr, u16) {
        ([10, 1, 4, 12].into(), self.port)
    }

    fn sni(&self) -> &str {
        ""
    }

    fn is_http(&self) -> bool {
        self.http
    }

    fn header_lines(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        self.authority
            .as_deref()
            .filter(|_| name == ":authority")
            .map(Cow::from)
            .into_iter()
    }

    fn path(&self) -> &str {
        &self.path
    }
}

fn request() -> impl Strategy<Value = Request> {
    let uri = prop_oneof![
        4 => "spiffe://td/ns/[ab]/sa/[st]",
        1 => "spiffe://td/ns/ns/sa/s",
        1 => "spiffe://td/x/ns/[ab]/ns/[ab]",
        1 => "[a/ns]{0,12}",
    ];
    let authority = prop_oneof![
        4 => "([abAB]\\.){0,3}(test|TEST)(:80)?",
        1 => "\\[::1\\](:80)?",
        2 => "([ab]|\\.|:|\\[|\\]|test|80){0,6}",
    ];
    (
        prop::option::weighted(0.9, prop::collection::vec(uri, 0..3)),
        prop::option::weighted(0.9, authority),
        "/[ab]?",
        80..82u16,
        any::<bool>(),
    )
        .prop_map(|(uris, authority, path, port, http)| Request {
            uris,
            authority,
            path,
            port,
            http,
        })
}

fn text_matcher(texts: &'static str) -> impl Strategy<Value = StringMatcher> {
    let form = prop_oneof![
        Just(StringMatcher::exact as fn(String) -> StringMatcher),
        Just(StringMatcher::prefix as fn(String) -> StringMatcher),
        Just(StringMatcher::suffix as fn(String) -> StringMatcher),
    ];
    (form, texts, any::<bool>()).prop_map(|(form, text, ignore_case)| StringMatcher {
        ignore_case,
        ..form(text)
    })
}

fn permission() -> impl Strategy<Value = Permission> {
    let header = (
        text_matcher("(\\.?[ab]\\.)?(test|\\.test|)(:|:80)?|(\\[|[ab])?(:|\\])?"),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(value, invert, missing_as_empty)| {
            let value = HeaderValueMatch::Value(value);
            Permission::Header(HeaderMatcher {
                name: ":authority".into(),
                value,
                invert,
                missing_as_empty,
            })
        });
    let leaf = prop_oneof![
        4 => header,
        1 => Just(Permission::Any),
        1 => text_matcher("/[ab]?").prop_map(Permission::Path),
        1 => (80..82u16).prop_map(Permission::DestinationPort),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Permission::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Permission::Or),
            inner.prop_map(|not| Permission::Not(Box::new(not))),
        ]
    })
}

fn principal() -> impl Strategy<Value = Principal> {
    let regex = prop_oneof![
        ".*/ns/[ab]/.*",
        "spiffe://.+/ns/[ab]/(.+/|)sa/[st](/.+)?",
        ".*/ns/.*/.*"
    ]
    .prop_filter_map("a regular expression", |source| {
        Regex::parse(&source).ok().map(StringMatcher::regex)
    });
    let leaf = prop_oneof![
        3 => regex.prop_map(Some),
        2 => text_matcher("spiffe://td/ns/[ab](/|/sa/[st])?").prop_map(Some),
        1 => Just(None),
    ]
    .prop_map(Principal::Authenticated);
    prop_oneof![6 => leaf, 1 => Just(Principal::Any)].prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Principal::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Principal::Or),
            inner.prop_map(|not| Principal::Not(Box::new(not))),
        ]
    })
}

fn rbac() -> impl Strategy<Value = Rbac> {
    let policy = (
        prop::collection::vec(permission(), 1..3),
        prop::collection::vec(principal(), 1..3),
    )
        .prop_map(|(permissions, principals)| Policy {
            permissions,
            principals,
        });
    let name = "p[0-9]{1,2}".prop_map(|name| PolicyName::parse(&name).expect("short and not empty"));
    let action = prop_oneof![Just(RbacAction::Allow), Just(RbacAction::Deny), Just(RbacAction::Log)];
    (
        action,
        prop::collection::btree_map(name, policy.prop_map(Arc::new), 0..8),
    )
        .prop_map(|(action, policies)| Rbac { action, policies })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_decides_as_the_plain_evaluation_does(rbac in rbac(), requests in prop::collection::vec(request(), 1..8)) {
        let index = Index::build(&rbac);
        for request in requests {
            prop_assert_eq!(index.decide(&request), rbac.decide(&request), "{:?}", request);
        }
    }
}

fn only(host: &str, namespace: &str) -> Policy {
    let authority = HeaderMatcher {
        name: ":authority".into(),
        value: HeaderValueMatch::Value(StringMatcher::exact(host).ignoring_case()),
        invert: false,
        missing_as_empty: false,
    };
    let namespace = Regex::parse(&format!(".*/ns/{namespace}/.*")).unwrap();
    Policy {
        permissions: vec![Permission::Header(authority)],
        principals: vec![Principal::Authenticated(Some(StringMatcher::regex(namespace)))],
    }
}

fn filter(action: RbacAction, policies: impl IntoIterator<Item = (String, Policy)>) -> RbacFilter {
    let policies = policies
        .into_iter()
        .map(|(name, policy)| (PolicyName::parse(&name).unwrap(), Arc::new(policy)))
        .collect();
    RbacFilter {
        rules: Some(Arc::new(Rbac { action, policies })),
        ..RbacFilter::default()
    }
}

fn from(namespace: &str, authority: &str) -> Request {
    Request {
        uris: Some(vec![format!("spiffe://cluster.local/ns/{namespace}/sa/test")]),
        authority: Some(authority.to_owned()),
        path: "/".to_owned(),
        port: 8080,
        http: true,
    }
}

#[test]
fn a_denial_names_the_first_policy_in_byte_order() {
    let engine = Engine::build(&[
        filter(
            RbacAction::Deny,
            [("b".into(), only("a.test", "x")), ("a10".into(), only("a.test", "x"))],
        ),
        filter(RbacAction::Allow, [("any".into(), only("b.test", "x"))]),
    ]);
    let deny = |name| Verdict::Deny(Some(name));
    assert_eq!(
        engine.check(&from("x", "a.test")),
        deny(&PolicyName::parse("a10").unwrap())
    );
    assert_eq!(engine.check(&from("x", "B.test")), Verdict::Allow);
    assert_eq!(engine.check(&from("y", "b.test")), Verdict::Deny(None));
}

#[test]
fn no_filter_allows_and_an_empty_allow_denies() {
    assert_eq!(Engine::build(&[]).check(&from("x", "a.test")), Verdict::Allow);
    assert_eq!(
        Engine::build(&[filter(RbacAction::Allow, [])]).check(&from("x", "a.test")),
        Verdict::Deny(None)
    );
}

#[test]
fn a_dry_run_reports_and_refuses_nothing() {
    let filter = filter(RbacAction::Deny, [("p".into(), only("a.test", "x"))]);
    let dry = RbacFilter {
        shadow_rules: filter.rules,
        shadow_prefix: "istio_dry_run_deny_".into(),
        ..RbacFilter::default()
    };
    let engine = Engine::build(&[dry]);
    assert!(engine.has_dry_run());
    assert_eq!(engine.check(&from("x", "a.test")), Verdict::Allow);
    let metadata = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        engine.dry_run(&from("x", "a.test")),
        metadata(&[
            ("istio_dry_run_deny_shadow_effective_policy_id", "p"),
            ("istio_dry_run_deny_shadow_engine_result", "denied")
        ])
    );
    assert_eq!(
        engine.dry_run(&from("y", "a.test")),
        metadata(&[("istio_dry_run_deny_shadow_engine_result", "allowed")])
    );
}

#[test]
fn a_request_meets_only_the_policies_of_its_namespace_and_host() {
    let teams = (0..1000).map(|n| {
        (
            format!("team-{n}"),
            only(&format!("host-{n}.test"), &format!("team-{n}")),
        )
    });
    let one_host = (0..1000).map(|n| (format!("shared-{n}"), only("shared.test", &format!("team-{n}"))));
    let filter = filter(RbacAction::Allow, teams.chain(one_host));
    let index = Index::build(filter.rules.as_ref().unwrap());
    for authority in ["host-7.test", "shared.test"] {
        let mut met = 0;
        index.each_bucket(&from("team-7", authority), |bucket| met += bucket.len());
        assert_eq!(met, 1, "{authority}");
    }
}

#[test]
fn an_authority_that_is_not_one_does_not_slip_past_a_denial() {
    let denied = |value| {
        let header = HeaderMatcher {
            name: ":authority".into(),
            value: HeaderValueMatch::Value(value),
            invert: false,
            missing_as_empty: false,
        };
        let policy = Policy {
            permissions: vec![Permission::Header(header)],
            principals: vec![Principal::Any],
        };
        Engine::build(&[filter(RbacAction::Deny, [("p".into(), policy)])])
    };
    for (matcher, authority) in [
        (StringMatcher::prefix("a.test:"), "a.test:80]"),
        (StringMatcher::suffix(".test:80"), "a:b.test:80"),
        (StringMatcher::suffix(".test"), "[x].test"),
    ] {
        let name = PolicyName::parse("p").unwrap();
        assert_eq!(
            denied(matcher).check(&from("x", authority)),
            Verdict::Deny(Some(&name)),
            "{authority}"
        );
    }
}
