//! Services, routes and rules beyond the tutorial.

use std::time::Duration;

use mesh::{
    bundle::Bundle,
    cluster::{Discovery, LbPolicy, UpstreamHttp},
    listener::Protocol,
    matcher::StringMatcher,
    route::{PathMatch, Route, RouteAction},
    tls::{SanKind, SanMatcher},
};
use proptest::{collection::vec, prelude::*};

use super::{
    golden::golden,
    world::{GATEWAY, build, build_with, clean, examples, gateway, sidecar, text},
};

fn entry(name: &str, spec: &str) -> String {
    object("ServiceEntry", "istio-egress", name, spec)
}

fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n---\n"
    )
}

fn web(name: &str, host: &str) -> String {
    let ports = "[{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]";
    entry(name, &format!("{{hosts: ['{host}'], ports: {ports}, resolution: DNS}}"))
}

#[track_caller]
fn vhost<'a>(bundle: &'a Bundle, config: &str, name: &str) -> &'a [Route] {
    let hosts = &bundle.routes[config].virtual_hosts;
    let names: Vec<_> = hosts.iter().map(|host| &host.name).collect();
    let found = hosts.iter().find(|host| host.name == name);
    &found.unwrap_or_else(|| panic!("{name} is not in {names:?}")).routes
}

#[track_caller]
fn sans(bundle: &Bundle, cluster: &str) -> Vec<SanMatcher> {
    let tls = bundle.clusters[cluster].tls.as_ref().unwrap();
    tls.validation.as_ref().unwrap().sans.clone()
}

const HTTPS_ROUTES: &str = "https.80.https.egress-gateway.istio-egress";

#[test]
fn traffic_is_split_by_weight() {
    let route = "{hosts: [a.test], gateways: [egress-gateway], http: [{route: [\
        {destination: {host: a.test, port: {number: 80}}, weight: 90}, \
        {destination: {host: b.test, port: {number: 80}}, weight: 10}, \
        {destination: {host: c.test, port: {number: 80}}, weight: 0}]}]}";
    let yaml = [
        GATEWAY,
        &web("a", "a.test"),
        &web("b", "b.test"),
        &object("VirtualService", "istio-egress", "split", route),
    ];
    golden("weighted-split/gateway", &clean(&text(&yaml.concat()), &gateway()));
}

#[test]
fn wildcard_hosts_are_routed_by_their_suffix() {
    let entries = entry(
        "wild",
        "{hosts: ['*.wild.test'], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], \
         resolution: NONE}",
    );
    let route = "{hosts: ['*.wild.test'], gateways: [egress-gateway, mesh], \
        http: [{match: [{gateways: [egress-gateway], port: 80}], route: [{destination: {host: '*.wild.test', port: {number: 80}}}]}], \
        tls: [{match: [{gateways: [egress-gateway], port: 443, sniHosts: ['*.wild.test']}], \
               route: [{destination: {host: '*.wild.test', port: {number: 443}}}]}]}";
    let objects = text(
        &[
            GATEWAY,
            &entries,
            &object("VirtualService", "istio-egress", "wild", route),
        ]
        .concat(),
    );
    golden("wildcard-hosts/gateway", &clean(&objects, &gateway()));
    golden("wildcard-hosts/team-x", &clean(&objects, &sidecar("team-x")));
}

#[test]
fn what_is_private_to_a_namespace_is_not_seen_elsewhere() {
    let exported = |to: &str| {
        let ports = "[{number: 80, name: http, protocol: HTTP}]";
        text(&object(
            "ServiceEntry",
            "team-x",
            "own",
            &format!("{{hosts: [own.test], ports: {ports}, resolution: DNS, exportTo: {to}}}"),
        ))
    };
    for (to, team_x, team_y) in [
        ("['.']", true, false),
        ("['*']", true, true),
        ("[team-y]", false, true),
        ("['~']", false, false),
    ] {
        let objects = exported(to);
        let seen = |namespace| {
            clean(&objects, &sidecar(namespace))
                .clusters
                .contains_key("outbound|80||own.test")
        };
        assert_eq!((seen("team-x"), seen("team-y")), (team_x, team_y), "{to}");
    }
}

#[test]
fn a_sidecar_resource_narrows_what_is_seen() {
    let services = [
        web("a", "a.test"),
        object(
            "ServiceEntry",
            "team-y",
            "b",
            "{hosts: [b.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
        ),
    ];
    let check = |egress: &str, expect: &[&str]| {
        let sidecars = object(
            "Sidecar",
            "team-x",
            "default",
            &format!("{{egress: [{{hosts: {egress}}}]}}"),
        );
        let bundle = clean(&text(&(services.concat() + &sidecars)), &sidecar("team-x"));
        let seen: Vec<_> = ["a.test", "b.test"]
            .into_iter()
            .filter(|host| bundle.clusters.contains_key(format!("outbound|80||{host}").as_str()))
            .collect();
        assert_eq!(seen, expect, "{egress}");
    };
    check("['*/*']", &["a.test", "b.test"]);
    check("['istio-egress/*']", &["a.test"]);
    check("['./*']", &[]);
    check("['*/b.test']", &["b.test"]);
    check("['team-y/*.test', 'istio-egress/c.test']", &["b.test"]);
    check("['~/*']", &[]);
}

#[test]
fn the_destinations_of_an_imported_route_are_reachable() {
    let route = "{hosts: [a.test], http: [{route: [{destination: {host: istio-egressgateway.istio-egress.svc.cluster.local, \
        port: {number: 80}}}]}]}";
    let yaml = [
        object("Sidecar", "team-x", "default", "{egress: [{hosts: ['./*']}]}"),
        object("VirtualService", "team-x", "route", route),
    ];
    let bundle = clean(&text(&yaml.concat()), &sidecar("team-x"));
    let clusters: Vec<_> = bundle.clusters.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        clusters,
        [
            "BlackHoleCluster",
            "PassthroughCluster",
            "outbound|80||istio-egressgateway.istio-egress.svc.cluster.local"
        ]
    );
}

#[test]
fn settings_of_a_port_replace_those_of_the_host() {
    let rule = "{host: a.test, trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE, sni: a.test}, \
        portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}, \
        subsets: [{name: own, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}, \
                  {name: port, trafficPolicy: {portLevelSettings: [{port: {number: 443}, connectionPool: {tcp: {maxConnections: 7}}}]}}]}";
    let objects = text(&(web("a", "a.test") + &object("DestinationRule", "istio-egress", "a", rule)));
    let bundle = clean(&objects, &gateway());
    let of = |name: &str| {
        let cluster = &bundle.clusters[name];
        let connections = cluster.circuit_breakers.unwrap().max_connections.unwrap();
        (cluster.lb_policy, cluster.tls.is_some(), connections)
    };
    assert_eq!(of("outbound|443||a.test"), (LbPolicy::Random, true, u32::MAX));
    assert_eq!(of("outbound|80||a.test"), (LbPolicy::RoundRobin, false, u32::MAX));
    assert_eq!(of("outbound|443|own|a.test"), (LbPolicy::RoundRobin, true, u32::MAX));
    assert_eq!(of("outbound|443|port|a.test"), (LbPolicy::LeastRequest, false, 7));
}

#[test]
fn rules_are_looked_up_at_the_client_then_the_service_then_the_root() {
    let rule = |namespace: &str, connections: u32| {
        let spec =
            format!("{{host: a.test, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {connections}}}}}}}}}");
        object("DestinationRule", namespace, "a", &spec)
    };
    let check = |rules: &[(&str, u32)], expect: u32| {
        let rules: String = rules
            .iter()
            .map(|(namespace, connections)| rule(namespace, *connections))
            .collect();
        let bundle = clean(&text(&(web("a", "a.test") + &rules)), &sidecar("team-x"));
        let limits = bundle.clusters["outbound|80||a.test"].circuit_breakers.unwrap();
        assert_eq!(limits.max_connections, Some(expect));
    };
    check(&[("istio-system", 1), ("istio-egress", 2), ("team-x", 3)], 3);
    check(&[("istio-system", 1), ("istio-egress", 2)], 2);
    check(&[("istio-system", 1), ("team-y", 4)], 1);
    check(&[("team-y", 4)], u32::MAX);
}

#[test]
fn an_upstreams_name_is_checked_even_if_only_sni_is_given() {
    let exact = |name: &str| SanMatcher {
        kind: SanKind::Dns,
        name: StringMatcher::exact(name),
    };
    let check = |extra: &str, mesh: &str, expect: &[SanMatcher]| {
        let rule = format!("{{host: a.test, trafficPolicy: {{tls: {{mode: SIMPLE{extra}}}}}}}");
        let objects = text(&(web("a", "a.test") + &object("DestinationRule", "istio-egress", "a", &rule)));
        let (bundle, _) = build_with(&objects, &gateway(), mesh);
        assert_eq!(sans(&bundle, "outbound|443||a.test"), expect, "{extra}");
        let cluster = &bundle.clusters["outbound|443||a.test"];
        assert_eq!(cluster.auto_sni, !extra.contains("sni"));
        assert_eq!(cluster.auto_san_validation, extra.is_empty());
    };
    check("", "{}", &[]);
    check(", sni: A.test", "{}", &[exact("a.test")]);
    check(", sni: a.test, subjectAltNames: [b.test]", "{}", &[exact("b.test")]);
    check(", subjectAltNames: [b.test]", "{}", &[exact("b.test")]);
    check(
        ", sni: a.test",
        r#"{"saferDefaults": {"verifyUpstreamNames": false}}"#,
        &[],
    );
}

#[test]
fn a_mesh_destination_without_known_accounts_must_be_of_its_namespace() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: plain, namespace: team-y}\n\
        spec: {clusterIP: 10.2.0.30, ports: [{name: http, port: 80}]}\n---\n";
    let rule = "{host: plain.team-y.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}";
    let objects = text(&(service.to_owned() + &object("DestinationRule", "team-y", "plain", rule)));
    let name = "outbound|80||plain.team-y.svc.cluster.local";
    let prefix = SanMatcher {
        kind: SanKind::Uri,
        name: StringMatcher::prefix("spiffe://cluster.local/ns/team-y/"),
    };
    let (bundle, _) = build(&objects, &sidecar("team-x"));
    assert_eq!(sans(&bundle, name), [prefix]);
    let off = r#"{"saferDefaults": {"verifyUpstreamNames": false}}"#;
    assert!(sans(&build_with(&objects, &sidecar("team-x"), off).0, name).is_empty());
}

#[test]
fn a_gateway_takes_only_members_of_the_meshs_trust_domains() {
    let client_names = |mesh: &str| {
        let (bundle, _) = build_with(&text(GATEWAY), &gateway(), mesh);
        let tls = bundle.listeners["0.0.0.0_8080"].filter_chains[0].tls.clone().unwrap();
        assert!(tls.require_client_certificate);
        tls.validation.unwrap().sans
    };
    let prefix = |domain| SanMatcher {
        kind: SanKind::Uri,
        name: StringMatcher::prefix(format!("spiffe://{domain}/")),
    };
    assert_eq!(
        client_names(r#"{"trustDomainAliases": ["old"]}"#),
        [prefix("cluster.local"), prefix("old")]
    );
    assert!(client_names(r#"{"saferDefaults": {"verifyClientTrustDomain": false}}"#).is_empty());
}

#[test]
fn headers_of_the_mesh_stay_in_the_mesh_unless_told_otherwise() {
    let route = "{hosts: [a.test], gateways: [egress-gateway], http: [{route: [{destination: {host: a.test, port: {number: 80}}}]}]}";
    let objects = text(
        &[
            GATEWAY,
            &web("a", "a.test"),
            &object("VirtualService", "istio-egress", "a", route),
        ]
        .concat(),
    );
    let removed = |mesh: &str| {
        let (bundle, _) = build_with(&objects, &gateway(), mesh);
        vhost(&bundle, HTTPS_ROUTES, "a.test:80")[0]
            .request_headers
            .remove
            .clone()
    };
    assert!(removed("{}").contains(&"x-forwarded-client-cert".to_owned()));
    assert!(removed(r#"{"saferDefaults": {"removeMeshHeaders": false}}"#).is_empty());
}

#[test]
fn a_match_with_gateways_ignores_its_source() {
    let route = "{hosts: [a.test], gateways: [egress-gateway, mesh], http: [\
        {name: first, match: [{gateways: [mesh], sourceLabels: {app: other}, uri: {prefix: /first}}], route: [{destination: {host: b.test, port: {number: 80}}}]}, \
        {name: second, match: [{sourceNamespace: team-y}], route: [{destination: {host: a.test, port: {number: 80}}}]}]}";
    let yaml = [
        web("a", "a.test"),
        web("b", "b.test"),
        object("VirtualService", "istio-egress", "a", route),
    ];
    let objects = text(&yaml.concat());
    let names = |namespace: &str| {
        let bundle = clean(&objects, &sidecar(namespace));
        vhost(&bundle, "80", "a.test:80")
            .iter()
            .map(|route| route.name.clone().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("team-x"), ["first"]);
    assert_eq!(names("team-y"), ["first", "second"]);
}

#[test]
fn hosts_with_the_same_routes_share_a_virtual_host() {
    let route = |hosts: &str, path: &str| {
        format!(
            "{{hosts: {hosts}, gateways: [egress-gateway], http: [{{match: [{{uri: {{prefix: {path}}}}}], \
             route: [{{destination: {{host: a.test, port: {{number: 80}}}}}}]}}]}}"
        )
    };
    let yaml = [
        GATEWAY.to_owned(),
        web("a", "a.test"),
        object(
            "VirtualService",
            "istio-egress",
            "one",
            &route("[b.test, a.test, c.test]", "/"),
        ),
        object("VirtualService", "istio-egress", "two", &route("[c.test]", "/c")),
    ];
    let bundle = clean(&text(&yaml.concat()), &gateway());
    let hosts = &bundle.routes[HTTPS_ROUTES].virtual_hosts;
    let domains = |name: &str| {
        let host = hosts.iter().find(|host| host.name == name).unwrap();
        host.domains
            .iter()
            .map(|domain| domain.host.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(domains("b.test:80"), ["b.test", "a.test"]);
    assert_eq!(domains("c.test:80"), ["c.test"]);
    let paths: Vec<_> = vhost(&bundle, HTTPS_ROUTES, "c.test:80")
        .iter()
        .map(|route| route.matches.path.clone())
        .collect();
    assert_eq!(paths, [PathMatch::Prefix("/c".into()), PathMatch::Prefix("/".into())]);
}

#[test]
fn plain_http_may_redirect_to_https() {
    let yaml = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: plain, namespace: istio-egress}\n\
        spec: {selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.test], \
        tls: {httpsRedirect: true}}]}\n";
    let bundle = clean(&text(yaml), &gateway());
    assert!(bundle.routes["http.8080"].virtual_hosts[0].require_tls);
    assert!(bundle.listeners["0.0.0.0_8080"].filter_chains[0].tls.is_none());
}

#[test]
fn a_passthrough_port_without_a_route_is_not_opened() {
    let bundle = clean(&text(GATEWAY), &gateway());
    let listeners: Vec<_> = bundle.listeners.keys().map(|name| name.as_str()).collect();
    assert_eq!(listeners, ["0.0.0.0_8080"]);
    assert_eq!(bundle.routes[HTTPS_ROUTES].virtual_hosts[0].name, "blackhole:80");
}

#[test]
fn two_gateways_that_want_the_same_port_do_not_harm_each_other() {
    let second = |server: &str| {
        object(
            "Gateway",
            "istio-egress",
            "second",
            &format!("{{selector: {{istio: egressgateway}}, servers: [{server}]}}"),
        )
    };
    let alone = clean(&text(GATEWAY), &gateway());
    for server in [
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}",
        "{port: {number: 80, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}",
    ] {
        let (bundle, notes) = build(&text(&(GATEWAY.to_owned() + &second(server))), &gateway());
        assert_eq!(bundle, alone);
        let [note] = notes.as_slice() else { panic!("{notes:#?}") };
        assert_eq!(
            (note.code.as_str(), note.field.as_str()),
            ("IST0145", "spec.servers[0]")
        );
        assert_eq!(note.object.as_ref().unwrap().name, "second");
    }
}

#[test]
fn a_broken_route_closes_its_host_and_nothing_else() {
    let route = "{hosts: [a.test], http: [{headers: {request: {set: {x: '%PROTOCOL%'}}}, \
        route: [{destination: {host: b.test, port: {number: 80}}}]}]}";
    let yaml = [
        web("a", "a.test"),
        web("b", "b.test"),
        object("VirtualService", "istio-egress", "a", route),
    ];
    let (bundle, notes) = build(&text(&yaml.concat()), &sidecar("team-x"));
    assert!(vhost(&bundle, "80", "a.test:80").is_empty());
    assert_eq!(vhost(&bundle, "80", "b.test:80").len(), 1);
    assert_eq!((notes.len(), notes[0].code.as_str()), (1, "SP0001"));
}

#[test]
fn resolution_decides_how_endpoints_are_found() {
    let ports = "[{number: 80, name: http, protocol: HTTP2}]";
    let check = |spec: &str| {
        let objects = text(&entry("a", &format!("{{hosts: [a.test], ports: {ports}, {spec}}}")));
        let of = |node| {
            let cluster = clean(&objects, &node).clusters["outbound|80||a.test"].clone();
            assert_eq!(cluster.http, UpstreamHttp::Http2);
            cluster.discovery.clone()
        };
        (of(gateway()), of(sidecar("team-x")))
    };
    assert!(matches!(
        check("resolution: DNS"),
        (Discovery::StrictDns(..), Discovery::StrictDns(..))
    ));
    assert!(matches!(
        check("resolution: DNS_ROUND_ROBIN"),
        (Discovery::LogicalDns(..), Discovery::LogicalDns(..))
    ));
    assert!(matches!(
        check("resolution: STATIC, endpoints: [{address: 192.0.2.1}]"),
        (Discovery::Eds { .. }, Discovery::Eds { .. })
    ));
    assert!(matches!(
        check("resolution: NONE"),
        (Discovery::Eds { .. }, Discovery::OriginalDst)
    ));
}

#[test]
fn the_explicit_proxy_routes_by_host_and_port_and_tunnels_tls() {
    let objects = examples(&[
        "tutorial/00-cluster.yaml",
        "tutorial/30-sidecar-team-x.yaml",
        "tutorial/40-gateway.yaml",
        "tutorial/41-target-egress-gateway.yaml",
        "tutorial/42-example-com.yaml",
        "tutorial/43-example-com-route.yaml",
        "tutorial/93-google-apis.yaml",
    ]);
    let mut node = sidecar("team-x");
    node.http_proxy_port = Some(15080);
    node.interception = control::node::Interception::None;
    let bundle = clean(&objects, &node);
    golden("explicit-proxy/team-x", &bundle);
    let tunnel = &vhost(&bundle, "http_proxy", "example.com:443")[0];
    let RouteAction::Forward(forward) = &tunnel.action else {
        panic!("{tunnel:?}")
    };
    assert_eq!(tunnel.matches.path, PathMatch::Connect);
    assert!(forward.terminate_connect);
    let listeners: Vec<_> = bundle.listeners.keys().map(|name| name.as_str()).collect();
    assert_eq!(listeners, ["127.0.0.1_15080"]);
}

#[test]
fn upgrades_are_refused_where_the_next_hop_speaks_http2() {
    let objects = examples(&[
        "tutorial/00-cluster.yaml",
        "tutorial/30-sidecar-team-x.yaml",
        "tutorial/40-gateway.yaml",
        "tutorial/41-target-egress-gateway.yaml",
        "tutorial/42-example-com.yaml",
        "tutorial/43-example-com-route.yaml",
        "tutorial/92-google-metadata-server.yaml",
    ]);
    let bundle = clean(&objects, &sidecar("team-x"));
    for (host, refused) in [
        ("example.com:80", &["websocket"][..]),
        ("metadata.google.internal:80", &[]),
    ] {
        let RouteAction::Forward(forward) = &vhost(&bundle, "80", host)[0].action else {
            panic!("{host} is forwarded");
        };
        assert_eq!(forward.refused_upgrades, refused, "{host}");
    }
}

#[test]
fn a_service_with_an_address_needs_no_server_name() {
    let ports = "[{number: 443, name: tls, protocol: TLS}, {number: 9000, name: tcp, protocol: TCP}]";
    let spec = format!("{{hosts: [a.test], addresses: [192.0.2.7], ports: {ports}, resolution: DNS}}");
    let bundle = clean(&text(&entry("a", &spec)), &sidecar("team-x"));
    for name in ["192.0.2.7_443", "192.0.2.7_9000"] {
        let listener = &bundle.listeners[name];
        assert!(!listener.bind_to_port && !listener.inspectors.tls);
        let chain = listener
            .filter_chains
            .first()
            .or(listener.default_filter_chain.as_ref())
            .unwrap();
        let Protocol::Tcp(tcp) = &chain.protocol else {
            panic!("{chain:?}")
        };
        let port = name.rsplit('_').next().unwrap();
        assert_eq!(tcp.stat_prefix, format!("outbound|{port}||a.test"));
    }
}

#[test]
fn short_names_belong_to_the_namespace_of_their_object() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: team-y}\n\
        spec: {clusterIP: 10.2.0.31, ports: [{name: http, port: 80}]}\n---\n";
    let route = "{hosts: [web], http: [{name: short, route: [{destination: {host: web, port: {number: 80}}}]}]}";
    let objects = text(&(service.to_owned() + &object("VirtualService", "team-y", "web", route)));
    let domains = |namespace: &str| {
        let bundle = clean(&objects, &sidecar(namespace));
        let hosts = &bundle.routes["80"].virtual_hosts;
        let host = hosts
            .iter()
            .find(|host| host.name == "web.team-y.svc.cluster.local:80")
            .unwrap();
        assert_eq!(host.routes[0].name.as_deref(), Some("short"));
        host.domains
            .iter()
            .map(|domain| domain.host.to_string())
            .collect::<Vec<_>>()
    };
    let shared = ["web.team-y.svc.cluster.local", "web.team-y.svc", "web.team-y"];
    assert_eq!(domains("team-x"), [&shared[..], &["10.2.0.31"]].concat());
    assert_eq!(domains("team-y"), [&shared[..], &["web", "10.2.0.31"]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_objects_does_not_matter(keys in vec(any::<u64>(), 64)) {
        let files = [
            "tutorial/00-cluster.yaml", "tutorial/20-test-app-team-x.yaml", "tutorial/30-sidecar-team-x.yaml",
            "tutorial/40-gateway.yaml", "tutorial/41-target-egress-gateway.yaml", "tutorial/42-example-com.yaml",
            "tutorial/43-example-com-route.yaml", "tutorial/52-httpbin-org.yaml", "tutorial/53-httpbin-org-route.yaml",
            "tutorial/60-policy-team-x-example-com.yaml", "tutorial/70-example-com-originate-tls.yaml",
        ];
        let objects = examples(&files);
        let mut shuffled: Vec<_> = objects.iter().cloned().zip(keys.iter().cycle()).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let shuffled = shuffled.into_iter().map(|(object, _)| object).collect();
        for node in [gateway(), sidecar("team-x"), sidecar("team-y")] {
            prop_assert_eq!(build(&objects, &node), build(&shuffled, &node));
        }
    }
}

#[test]
fn a_broken_tls_route_closes_its_host_even_if_unknown_hosts_are_open() {
    let route = "{hosts: [a.test], tls: [{match: [{port: 443, sniHosts: ['*-x.a.test', a.test]}], \
        route: [{destination: {host: b.test, port: {number: 443}}}]}]}";
    let yaml = [
        web("a", "a.test"),
        web("b", "b.test"),
        object("VirtualService", "istio-egress", "a", route),
    ];
    let yaml = yaml
        .concat()
        .replace("hosts: [a.test], tls", "hosts: ['*-x.a.test', a.test], tls");
    let (bundle, notes) = build(&text(&yaml), &sidecar("team-x"));
    let chains = &bundle.listeners["0.0.0.0_443"].filter_chains;
    let cluster = |host: &str| {
        let host = mesh::host::HostPattern::parse(host).unwrap();
        let chain = chains
            .iter()
            .find(|chain| chain.matches.server_names.contains(&host))
            .unwrap();
        let Protocol::Tcp(tcp) = &chain.protocol else {
            panic!("{chain:?}")
        };
        tcp.first_cluster().to_string()
    };
    assert_eq!(cluster("a.test"), "BlackHoleCluster");
    assert_eq!(cluster("b.test"), "outbound|443||b.test");
    assert_eq!(
        (notes.len(), notes[0].code.as_str(), notes[0].field.as_str()),
        (1, "SP0001", "spec.tls[0]")
    );
}

#[test]
fn a_gateway_that_does_not_do_what_a_peer_authentication_says_is_reported() {
    let peers = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: istio-egress}}\nspec: {spec}\n---\n"
        )
    };
    let plain = object(
        "Gateway",
        "istio-egress",
        "plain",
        "{selector: {istio: egressgateway}, servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]}",
    );
    let check = |spec: &str, expect: &[&str]| {
        let (_, notes) = build(&text(&[GATEWAY, &plain, &peers(spec)].concat()), &gateway());
        let found: Vec<_> = notes
            .iter()
            .map(|note| note.object.as_ref().unwrap().name.as_str())
            .collect();
        assert_eq!(found, expect, "{spec}");
        assert!(notes.iter().all(|note| !note.is_error()));
    };
    check("{mtls: {mode: PERMISSIVE}}", &[]);
    check("{mtls: {mode: STRICT}}", &["plain"]);
    check("{mtls: {mode: DISABLE}}", &["egress-gateway"]);
    let selector = "selector: {matchLabels: {istio: egressgateway}}";
    check(
        &format!("{{{selector}, mtls: {{mode: STRICT}}, portLevelMtls: {{8080: {{mode: DISABLE}}}}}}"),
        &["egress-gateway", "plain"],
    );
    check("{selector: {matchLabels: {istio: other}}, mtls: {mode: STRICT}}", &[]);
}

/// A site of team-x's, and a rule of the same namespace that names files.
const PARTNER: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: team-x}
spec: {hosts: [partner.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: NAMESPACE}
spec: {host: partner.example.com, trafficPolicy: {tls: {mode: MUTUAL, sni: partner.example.com, clientCertificate: /c, privateKey: /k}}}
";

#[test]
fn a_gateway_s_files_are_for_rules_of_its_own_or_the_root_namespace() {
    let connects = |namespace: &str, mesh: &str| {
        let (bundle, notes) = build_with(&text(&PARTNER.replace("NAMESPACE", namespace)), &gateway(), mesh);
        let name = mesh::ClusterName::parse("outbound|443||partner.example.com").unwrap();
        assert_eq!(notes.is_empty(), bundle.clusters.contains_key(&name), "{notes:#?}");
        notes.is_empty()
    };
    assert!(connects("istio-egress", "{}"));
    assert!(connects("istio-system", "{}"));
    assert!(!connects("team-x", "{}"));
    assert!(connects(
        "team-x",
        r#"{"saferDefaults": {"ownCredentialsOnly": false}}"#
    ));
}

#[test]
fn requests_are_mirrored_and_paths_rewritten_by_expression() {
    let route = "{hosts: [a.test], gateways: [egress-gateway], http: [{route: [\
        {destination: {host: a.test, port: {number: 80}}}], \
        mirrors: [{destination: {host: b.test, port: {number: 80}}, percentage: {value: 12.5}}, \
                  {destination: {host: b.test, port: {number: 443}}}, \
                  {destination: {host: a.test, port: {number: 443}}, percentage: {value: 0}}], \
        rewrite: {uriRegexRewrite: {match: '^/v1/(.*)$', rewrite: '/v2/\\1'}}}]}";
    let yaml = [
        GATEWAY,
        &web("a", "a.test"),
        &web("b", "b.test"),
        &object("VirtualService", "istio-egress", "copied", route),
    ];
    let bundle = clean(&text(&yaml.concat()), &gateway());
    let RouteAction::Forward(to) = &vhost(&bundle, HTTPS_ROUTES, "a.test:80")[0].action else {
        panic!("it forwards");
    };
    let mirrors: Vec<_> = to
        .mirrors
        .iter()
        .map(|one| (one.cluster.as_str(), one.per_million))
        .collect();
    assert_eq!(
        mirrors,
        [("outbound|80||b.test", 125_000), ("outbound|443||b.test", 1_000_000)]
    );
    assert_eq!(to.regex_rewrite.as_ref().unwrap().apply("/v1/x"), "/v2/x");
}

#[test]
fn a_rule_limits_what_a_connection_serves() {
    let rule =
        "{host: a.test, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 7, idleTimeout: 90s}}}}";
    let yaml = [
        GATEWAY,
        &web("a", "a.test"),
        &object("DestinationRule", "istio-egress", "a", rule),
    ];
    let reuse = clean(&text(&yaml.concat()), &gateway()).clusters["outbound|80||a.test"].reuse;
    assert_eq!(
        (reuse.max_requests, reuse.idle_timeout),
        (Some(7), Some(Duration::from_secs(90)))
    );
}
