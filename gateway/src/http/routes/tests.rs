use http::{HeaderMap, Method, Request, uri::Scheme};
use mesh::{
    RouteConfigName,
    matcher::{HeaderMatcher, HeaderValueMatch, Regex, StringMatcher},
    route::{DirectResponse, Domain, RouteMatch},
};

use super::*;

fn head(method: &str, authority: &str, target: &str, headers: &[(&'static str, &'static str)]) -> Head {
    let request = Request::builder().method(method).body(()).unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Head {
        method: request.method().clone(),
        authority: HeaderValue::from_str(authority).unwrap(),
        target: Some(target.parse().unwrap()).filter(|_| request.method() != Method::CONNECT),
        headers: HeaderMap::from_iter(headers),
        version: http::Version::HTTP_11,
        upgrade: None,
        scheme: Scheme::HTTP,
        client: ([127, 0, 0, 1], 0).into(),
    }
}

fn domain(text: &str) -> Domain {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !text.ends_with(']') && !text.starts_with("::") => Domain {
            host: HostPattern::parse(host).unwrap(),
            port: Some(port.parse().unwrap()),
        },
        _ => Domain {
            host: HostPattern::parse(text).unwrap(),
            port: None,
        },
    }
}

fn route(name: &str, matches: RouteMatch) -> model::Route {
    model::Route {
        name: Some(name.to_owned()),
        matches,
        action: RouteAction::Direct(DirectResponse {
            status: 200,
            body: String::new(),
        }),
        request_headers: model::HeaderChanges::default(),
        response_headers: model::HeaderChanges::default(),
    }
}

fn prefix(path: &str) -> RouteMatch {
    on(PathMatch::Prefix(path.to_owned()))
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        case_sensitive: true,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn host(name: &str, domains: &[&str], routes: Vec<model::Route>) -> model::VirtualHost {
    model::VirtualHost {
        name: name.to_owned(),
        domains: domains.iter().map(|text| domain(text)).collect(),
        routes,
        require_tls: false,
        include_attempt_count: false,
    }
}

fn table(ignore_port: bool, virtual_hosts: Vec<model::VirtualHost>) -> RouteTable {
    let name = RouteConfigName::parse("r").unwrap();
    RouteTable::build(&model::RouteConfig {
        name,
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        ignore_port_in_host_matching: ignore_port,
    })
    .unwrap()
}

fn found<'a>(table: &'a RouteTable, head: &Head) -> Option<&'a str> {
    table.find(head)?.1.name.as_deref()
}

#[test]
fn the_most_specific_domain_wins() {
    let names = [
        "example.com",
        "*.example.com",
        "*.a.example.com",
        "*-x.example.com",
        "*",
        "::1",
    ];
    let hosts: Vec<_> = names
        .iter()
        .map(|name| host(name, &[name], vec![route(name, prefix("/"))]))
        .collect();
    for (ignore_port, port) in [(true, ""), (true, ":8080"), (false, "")] {
        let table = table(ignore_port, hosts.clone());
        let check = |authority: &str, expected: &str| {
            let head = head("GET", &format!("{authority}{port}"), "/", &[]);
            assert_eq!(found(&table, &head), Some(expected), "{authority}{port}");
        };
        check("example.com", "example.com");
        check("EXAMPLE.com", "example.com");
        check("b.example.com", "*.example.com");
        check("c.a.example.com", "*.a.example.com");
        check("a.example.com", "*.example.com");
        check("y-x.example.com", "*-x.example.com");
        check(".example.com", "*");
        check("example.com.", "*");
        check("[::1]", "::1");
        check(&"a".repeat(300), "*");
    }
}

#[test]
fn a_port_matters_unless_it_is_ignored() {
    let hosts = vec![
        host(
            "8080",
            &["example.com:8080", "*.test:8080"],
            vec![route("8080", prefix("/"))],
        ),
        host("none", &["example.com"], vec![route("none", prefix("/"))]),
    ];
    let (strict, lax) = (table(false, hosts.clone()), table(true, hosts));
    let ask = |table: &RouteTable, authority: &str| found(table, &head("GET", authority, "/", &[])).map(str::to_owned);
    assert_eq!(ask(&strict, "example.com:8080").as_deref(), Some("8080"));
    assert_eq!(ask(&strict, "a.test:8080").as_deref(), Some("8080"));
    assert_eq!(ask(&strict, "example.com").as_deref(), Some("none"));
    assert_eq!(ask(&strict, "example.com:80"), None);
    assert_eq!(ask(&lax, "example.com:8080").as_deref(), Some("none"));
    assert_eq!(ask(&lax, "a.test:8080"), None);
    assert_eq!(ask(&lax, "user@example.com"), None);
}

#[test]
fn the_first_route_that_matches_is_taken() {
    let header = |name: &str, value: &str| HeaderMatcher {
        name: name.to_owned(),
        value: HeaderValueMatch::Value(StringMatcher::exact(value)),
        invert: false,
        missing_as_empty: false,
    };
    let query = |name: &str, value: &str| QueryMatcher {
        name: name.to_owned(),
        value: Some(StringMatcher::exact(value)),
    };
    let routes = vec![
        route("connect", on(PathMatch::Connect)),
        route("exact", on(PathMatch::Exact("/exact".into()))),
        route(
            "lax",
            RouteMatch {
                case_sensitive: false,
                ..prefix("/LAX")
            },
        ),
        route("regex", on(PathMatch::Regex(Regex::parse("/r[0-9]+").unwrap()))),
        route(
            "header",
            RouteMatch {
                headers: vec![header("x-a", "2")],
                ..prefix("/h")
            },
        ),
        route(
            "post",
            RouteMatch {
                headers: vec![header(":method", "POST")],
                ..prefix("/m")
            },
        ),
        route(
            "query",
            RouteMatch {
                query: vec![query("a%20b", "c")],
                ..prefix("/q")
            },
        ),
        route("prefix", prefix("/p")),
    ];
    let table = table(true, vec![host("h", &["*"], routes)]);
    let check = |head: &Head, expected: Option<&str>| assert_eq!(found(&table, head), expected, "{head:?}");
    let get = |target: &str| head("GET", "a", target, &[]);
    check(&head("CONNECT", "a:443", "/", &[]), Some("connect"));
    check(&get("/exact?q"), Some("exact"));
    check(&get("/exact/"), None);
    check(&get("/laxer"), Some("lax"));
    check(&get("/r12"), Some("regex"));
    check(&get("/r12x"), None);
    check(&head("GET", "a", "/h", &[("x-a", "1"), ("x-a", "2")]), Some("header"));
    check(&head("GET", "a", "/h", &[("x-a", "1")]), None);
    check(&head("POST", "a", "/m", &[]), Some("post"));
    check(&get("/m"), None);
    check(&get("/q?z&a%20b=c"), Some("query"));
    check(&get("/q?a%20b=d"), None);
    check(&get("/prefixed"), Some("prefix"));
}

#[test]
fn a_header_that_cannot_be_written_is_named() {
    let changes = model::HeaderChanges {
        remove: Vec::new(),
        add: vec![model::HeaderChange {
            name: ":path".into(),
            value: "/".into(),
            append: false,
        }],
    };
    let bad = model::Route {
        request_headers: changes,
        ..route("r", prefix("/"))
    };
    let config = model::RouteConfig {
        name: RouteConfigName::parse("https.80").unwrap(),
        virtual_hosts: vec![host("v", &["*"], vec![bad]).into()],
        ignore_port_in_host_matching: true,
    };
    let error = RouteTable::build(&config).unwrap_err();
    assert_eq!(
        error,
        "route configuration https.80: virtual host v: \":path\" is not the name of a header that a route may change"
    );
}
