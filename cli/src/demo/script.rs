//! The tutorial, chapter by chapter.
//!
//! Status codes, log fields and their values are those of Istio's proxies (see docs/parity.md for the few we chose to differ in).

use super::claim::{
    Caller::{App, Direct, Uncaptured},
    Chapter, Claim,
    Credentials::{ForeignMesh, Member, Nothing, Plaintext},
    Expected::{Failure, Page, Status},
    Team::{X, Y},
};
use crate::lab::{
    client::Call,
    cluster::EXPLICIT_PROXY,
    log::Field::{self, *},
};

type Fields = &'static [(Field, &'static str)];

const DENIED: &str = "RBAC: access denied";
const CONNECTION_ENDED: &str = "TLS handshake failed: *";

/// The hop from a sidecar to the gateway's port 8080.
macro_rules! to_gateway {
    ($pod:literal, $request:literal, $code:literal, $site:literal) => {
        &[
            (Request, $request),
            (Code, $code),
            (Flags, "-"),
            (Details, "via_upstream"),
            (ForwardedFor, "-"),
            (UpstreamHost, "10.1.4.12:8080"),
            (
                Cluster,
                "outbound|80|target-egress-gateway-mTLS|istio-egressgateway.istio-egress.svc.cluster.local",
            ),
            (UpstreamLocal, concat!($pod, ":*")),
            (Local, $site),
            (Remote, concat!($pod, ":*")),
            (Sni, "-"),
            (Route, "-"),
        ]
    };
}

/// The hop from the gateway's port 8080 to a site.
macro_rules! from_gateway {
    ($pod:literal, $request:literal, $code:literal, $site:literal, $cluster:literal) => {
        &[
            (Request, $request),
            (Code, $code),
            (Flags, "-"),
            (Details, "via_upstream"),
            (TransportFailure, "-"),
            (ForwardedFor, $pod),
            (UpstreamHost, $site),
            (Cluster, $cluster),
            (UpstreamLocal, "10.1.4.12:*"),
            (Local, "10.1.4.12:8080"),
            (Remote, concat!($pod, ":*")),
            (
                Sni,
                "outbound_.80_.target-egress-gateway-mtls_.istio-egressgateway.istio-egress.svc.cluster.local",
            ),
            (Route, "-"),
        ]
    };
}

/// A request that the gateway's policies deny.
macro_rules! denied {
    ($pod:literal, $request:literal, $cluster:literal) => {
        &[
            (Request, $request),
            (Code, "403"),
            (Flags, "-"),
            (Details, "rbac_access_denied_matched_policy[none]"),
            (BytesSent, "19"),
            (UpstreamHost, "-"),
            (Cluster, $cluster),
            (Local, "10.1.4.12:8080"),
            (Remote, concat!($pod, ":*")),
        ]
    };
}

/// TLS that an application speaks itself, on its way to the gateway's port 8443.
macro_rules! tls_to_gateway {
    ($pod:literal, $host:literal, $site:literal) => {
        &[
            (Request, "- - -"),
            (Code, "0"),
            (Flags, "-"),
            (UpstreamHost, "10.1.4.12:8443"),
            (
                Cluster,
                "outbound|443|target-egress-gateway-TLS-passthrough|istio-egressgateway.istio-egress.svc.cluster.local",
            ),
            (UpstreamLocal, concat!($pod, ":*")),
            (Local, $site),
            (Sni, $host),
        ]
    };
}

/// The same on its way out.
macro_rules! tls_from_gateway {
    ($pod:literal, $host:literal, $site:literal) => {
        &[
            (Request, "- - -"),
            (Code, "0"),
            (Flags, "-"),
            (Details, "-"),
            (Termination, "-"),
            (UpstreamHost, $site),
            (Cluster, concat!("outbound|443||", $host)),
            (UpstreamLocal, "10.1.4.12:*"),
            (Local, "10.1.4.12:8443"),
            (Remote, concat!($pod, ":*")),
            (Sni, $host),
            (Route, "-"),
        ]
    };
}

/// What a sidecar says about a host that its namespace has no route to.
const BLOCKED: Fields = &[
    (Code, "502"),
    (Flags, "-"),
    (Details, "direct_response"),
    (UpstreamHost, "-"),
    (Cluster, "-"),
    (Route, "block_all"),
];
/// The same for TLS.
const BLACK_HOLE: Fields = &[
    (Code, "0"),
    (Flags, "UH"),
    (UpstreamHost, "-"),
    (Cluster, "BlackHoleCluster"),
];

/// Every chapter, in the tutorial's order.
pub fn script() -> Vec<Chapter> {
    vec![
        before_any_route(),
        scope(),
        relay(),
        second_namespace(),
        policy_for_team_x(),
        policy_for_team_y(),
        tls_origination(),
        tls_passthrough(),
        network_policies(),
        google_apis(),
        around_the_mesh(),
        explicit_proxy(),
    ]
}

fn before_any_route() -> Chapter {
    Chapter {
        title: "Before any route",
        about: "Strict mutual TLS, and a test application with a sidecar in team-x. Nothing leads out of the mesh yet.",
        apply: &[
            "tutorial/00-cluster.yaml",
            "tutorial/01-egressgateway-operator.yaml",
            "tutorial/10-strict-mtls.yaml",
            "tutorial/20-test-app-team-x.yaml",
        ],
        claims: vec![
            Claim::new(
                "team-x cannot reach example.com: the firewall stops its sidecar",
                App(X),
                Call::get("http://example.com"),
                Page(503, "upstream connect error or disconnect/reset before headers.*"),
            )
            .sidecar(&[
                (Request, "GET / HTTP/1.1"),
                (Code, "503"),
                (Flags, "*UF*"),
                (
                    Details,
                    "upstream_reset_before_response_started{remote_connection_failure*",
                ),
                (UpstreamHost, "93.184.216.34:80"),
                (Cluster, "PassthroughCluster"),
                (Local, "93.184.216.34:80"),
            ]),
            Claim::new(
                "a process that capture does not see gets nowhere either",
                Uncaptured(X),
                Call::get("http://example.com"),
                Failure("could not connect: no route to host 93.184.216.34:80: * (global-deny-egress-all)"),
            ),
        ],
    }
}

fn scope() -> Chapter {
    Chapter {
        title: "Limit the scope of sidecars",
        about: "A Sidecar resource: team-x sees what istio-egress exports to it and its own namespace, nothing else.",
        apply: &["tutorial/30-sidecar-team-x.yaml"],
        claims: vec![
            Claim::new(
                "unknown hosts are refused by the sidecar itself",
                App(X),
                Call::get("http://example.com"),
                Status(502),
            )
            .sidecar(BLOCKED),
        ],
    }
}

fn relay() -> Chapter {
    Chapter {
        title: "Route through the egress gateway",
        about: "Gateway, DestinationRule, ServiceEntry and VirtualService: team-x's requests for example.com go to the gateway \
                over mutual TLS, and from there out.",
        apply: &[
            "tutorial-steps/relay/40-gateway.yaml",
            "tutorial-steps/relay/41-target-egress-gateway.yaml",
            "tutorial/42-example-com.yaml",
            "tutorial-steps/relay/43-example-com-route.yaml",
        ],
        claims: vec![
            Claim::new(
                "team-x reaches example.com through the gateway, four times out of four",
                App(X),
                Call::head("http://example.com"),
                Status(200),
            )
            .times(4)
            .arrives()
            .sidecar(to_gateway!("10.1.0.17", "HEAD / HTTP/1.1", "200", "93.184.216.34:80"))
            .gateway(from_gateway!(
                "10.1.0.17",
                "HEAD / HTTP/2",
                "200",
                "93.184.216.34:80",
                "outbound|80||example.com"
            )),
        ],
    }
}

fn second_namespace() -> Chapter {
    Chapter {
        title: "A second namespace",
        about: "httpbin.org for team-x and team-y; example.com stays team-x's alone.",
        apply: &[
            "tutorial/50-sidecar-team-y.yaml",
            "tutorial/51-test-app-team-y.yaml",
            "tutorial/52-httpbin-org.yaml",
            "tutorial-steps/relay/53-httpbin-org-route.yaml",
        ],
        claims: vec![
            Claim::new(
                "team-y reaches httpbin.org",
                App(Y),
                Call::head("http://httpbin.org"),
                Status(200),
            )
            .arrives()
            .sidecar(to_gateway!("10.1.1.25", "HEAD / HTTP/1.1", "200", "203.0.113.80:80"))
            .gateway(from_gateway!(
                "10.1.1.25",
                "HEAD / HTTP/2",
                "200",
                "203.0.113.80:80",
                "outbound|80||httpbin.org"
            )),
            Claim::new(
                "team-x reaches httpbin.org",
                App(X),
                Call::head("http://httpbin.org"),
                Status(200),
            )
            .arrives()
            .sidecar(to_gateway!("10.1.0.17", "HEAD / HTTP/1.1", "200", "203.0.113.80:80"))
            .gateway(from_gateway!(
                "10.1.0.17",
                "HEAD / HTTP/2",
                "200",
                "203.0.113.80:80",
                "outbound|80||httpbin.org"
            )),
            Claim::new(
                "httpbin.org sees the gateway's address, not team-x's",
                App(X),
                Call::get("http://httpbin.org/ip"),
                Page(200, "*\"origin\": \"10.1.4.12\"*"),
            )
            .arrives()
            .sidecar(&[(Code, "200")])
            .gateway(&[(Code, "200")]),
            Claim::new(
                "team-y cannot reach example.com: nothing was exported to it",
                App(Y),
                Call::get("http://example.com"),
                Status(502),
            )
            .sidecar(BLOCKED),
        ],
    }
}

fn policy_for_team_x() -> Chapter {
    Chapter {
        title: "Authorization: team-x to example.com only",
        about: "An AuthorizationPolicy at the gateway. From here on, what no policy allows is denied.",
        apply: &["tutorial/60-policy-team-x-example-com.yaml"],
        claims: vec![
            Claim::new(
                "team-x still reaches example.com",
                App(X),
                Call::head("http://example.com"),
                Status(200),
            )
            .arrives()
            .sidecar(to_gateway!("10.1.0.17", "HEAD / HTTP/1.1", "200", "93.184.216.34:80"))
            .gateway(from_gateway!(
                "10.1.0.17",
                "HEAD / HTTP/2",
                "200",
                "93.184.216.34:80",
                "outbound|80||example.com"
            )),
            Claim::new(
                "team-x is denied httpbin.org",
                App(X),
                Call::get("http://httpbin.org"),
                Page(403, DENIED),
            )
            .sidecar(to_gateway!("10.1.0.17", "GET / HTTP/1.1", "403", "203.0.113.80:80"))
            .gateway(denied!("10.1.0.17", "GET / HTTP/2", "outbound|80||httpbin.org")),
        ],
    }
}

fn policy_for_team_y() -> Chapter {
    Chapter {
        title: "Authorization: team-y to the teapot only",
        about: "A second policy allows team-y one path of httpbin.org.",
        apply: &["tutorial/61-policy-team-y-httpbin-teapot.yaml"],
        claims: vec![
            Claim::new(
                "team-y is denied httpbin.org/",
                App(Y),
                Call::get("http://httpbin.org"),
                Page(403, DENIED),
            )
            .sidecar(to_gateway!("10.1.1.25", "GET / HTTP/1.1", "403", "203.0.113.80:80"))
            .gateway(denied!("10.1.1.25", "GET / HTTP/2", "outbound|80||httpbin.org")),
            Claim::new(
                "team-y gets its teapot",
                App(Y),
                Call::get("http://httpbin.org/status/418"),
                Page(418, "*I am a teapot*"),
            )
            .arrives()
            .sidecar(to_gateway!(
                "10.1.1.25",
                "GET /status/418 HTTP/1.1",
                "418",
                "203.0.113.80:80"
            ))
            .gateway(from_gateway!(
                "10.1.1.25",
                "GET /status/418 HTTP/2",
                "418",
                "203.0.113.80:80",
                "outbound|80||httpbin.org"
            )),
            Claim::new(
                "team-x is not allowed what team-y is",
                App(X),
                Call::get("http://httpbin.org/status/418"),
                Page(403, DENIED),
            )
            .sidecar(to_gateway!(
                "10.1.0.17",
                "GET /status/418 HTTP/1.1",
                "403",
                "203.0.113.80:80"
            ))
            .gateway(denied!(
                "10.1.0.17",
                "GET /status/418 HTTP/2",
                "outbound|80||httpbin.org"
            )),
        ],
    }
}

fn tls_origination() -> Chapter {
    Chapter {
        title: "TLS origination",
        about: "The application still says http; the gateway speaks TLS to example.com:443 and checks whom it talks to.",
        apply: &[
            "tutorial/70-example-com-originate-tls.yaml",
            "tutorial-steps/origination/43-example-com-route.yaml",
        ],
        claims: vec![
            Claim::new(
                "an impostor of example.com, certified by nobody we trust, gets no request",
                App(X),
                Call::get("http://example.com"),
                Page(503, "upstream connect error*"),
            )
            .impostor()
            .sidecar(&[(Code, "503"), (Details, "via_upstream")])
            .gateway(&[
                (Code, "503"),
                (Flags, "*UF*"),
                (TransportFailure, "*CERTIFICATE_VERIFY_FAILED*"),
                (UpstreamHost, "93.184.216.34:443"),
                (Cluster, "outbound|443|example-com-originate-TLS|example.com"),
            ]),
            Claim::new(
                "team-x reaches example.com, over TLS from the gateway on, four times out of four",
                App(X),
                Call::head("http://example.com"),
                Status(200),
            )
            .times(4)
            .arrives()
            .sidecar(to_gateway!("10.1.0.17", "HEAD / HTTP/1.1", "200", "93.184.216.34:80"))
            .gateway(from_gateway!(
                "10.1.0.17",
                "HEAD / HTTP/2",
                "200",
                "93.184.216.34:443",
                "outbound|443|example-com-originate-TLS|example.com"
            )),
        ],
    }
}

fn tls_passthrough() -> Chapter {
    Chapter {
        title: "TLS passthrough",
        about: "The application's own TLS passes the gateway unopened, routed by the server name it asks for.",
        apply: &[
            "tutorial/40-gateway.yaml",
            "tutorial/41-target-egress-gateway.yaml",
            "tutorial/43-example-com-route.yaml",
            "tutorial/53-httpbin-org-route.yaml",
            "tutorial/80-policy-all-443.yaml",
        ],
        claims: vec![
            Claim::new(
                "plain http still works as before",
                App(X),
                Call::head("http://example.com"),
                Status(200),
            )
            .arrives()
            .sidecar(to_gateway!("10.1.0.17", "HEAD / HTTP/1.1", "200", "93.184.216.34:80"))
            .gateway(from_gateway!(
                "10.1.0.17",
                "HEAD / HTTP/2",
                "200",
                "93.184.216.34:443",
                "outbound|443|example-com-originate-TLS|example.com"
            )),
            Claim::new(
                "team-x reaches https://example.com, four times out of four",
                App(X),
                Call::get("https://example.com"),
                Status(200),
            )
            .times(4)
            .arrives()
            .sidecar(tls_to_gateway!("10.1.0.17", "example.com", "93.184.216.34:443"))
            .gateway(tls_from_gateway!("10.1.0.17", "example.com", "93.184.216.34:443")),
            Claim::new(
                "team-y reaches https://httpbin.org",
                App(Y),
                Call::get("https://httpbin.org"),
                Status(200),
            )
            .arrives()
            .sidecar(tls_to_gateway!("10.1.1.25", "httpbin.org", "203.0.113.80:443"))
            .gateway(tls_from_gateway!("10.1.1.25", "httpbin.org", "203.0.113.80:443")),
            Claim::new(
                "team-y does not reach https://example.com: its sidecar has no such route",
                App(Y),
                Call::get("https://example.com"),
                Failure(CONNECTION_ENDED),
            )
            .sidecar(BLACK_HOLE),
        ],
    }
}

fn network_policies() -> Chapter {
    Chapter {
        title: "Network policies",
        about: "Enforced by Kubernetes around the pods, not by the mesh; they must not disturb it.",
        apply: &["tutorial/90-network-policies.yaml"],
        claims: vec![
            Claim::new(
                "team-x still reaches example.com",
                App(X),
                Call::head("http://example.com"),
                Status(200),
            )
            .arrives()
            .sidecar(&[(Code, "200"), (UpstreamHost, "10.1.4.12:8080")])
            .gateway(&[(Code, "200"), (UpstreamHost, "93.184.216.34:443")]),
        ],
    }
}

fn google_apis() -> Chapter {
    Chapter {
        title: "Google APIs, directly",
        about: "Services without a route through the gateway are reached directly, over private addresses the firewall allows.",
        apply: &[
            "tutorial/91-google-service-account.yaml",
            "tutorial/92-google-metadata-server.yaml",
            "tutorial/93-google-apis.yaml",
        ],
        claims: vec![
            Claim::new(
                "team-x asks the metadata server who it is",
                App(X),
                Call::get("http://metadata.google.internal/email").header("metadata-flavor", "Google"),
                Page(200, "sa-test-app-team-x*"),
            )
            .arrives()
            .sidecar(&[
                (Code, "200"),
                (UpstreamHost, "169.254.169.254:80"),
                (Cluster, "outbound|80||metadata.google.internal"),
                (Route, "default"),
            ]),
            Claim::new(
                "team-x reads a file from storage.googleapis.com without the gateway",
                App(X),
                Call::get("https://storage.googleapis.com/bucket/hello"),
                Page(200, "Hello, World!*"),
            )
            .arrives()
            .sidecar(&[
                (Request, "- - -"),
                (Flags, "-"),
                (UpstreamHost, "199.36.153.8:443"),
                (Cluster, "outbound|443||storage.googleapis.com"),
                (Sni, "storage.googleapis.com"),
            ]),
            Claim::new(
                "team-y does not: the service is not exported to it",
                App(Y),
                Call::get("https://storage.googleapis.com/bucket/hello"),
                Failure(CONNECTION_ENDED),
            )
            .sidecar(BLACK_HOLE),
        ],
    }
}

fn around_the_mesh() -> Chapter {
    Chapter {
        title: "Around the mesh",
        about: "Callers that leave their sidecar out and go straight for the gateway, or for the world.",
        apply: &[],
        claims: vec![
            Claim::new(
                "bypassing the sidecar gets nowhere",
                Uncaptured(X),
                Call::get("https://example.com"),
                Failure("could not connect: no route to host 93.184.216.34:443: * (global-deny-egress-all)"),
            ),
            Claim::new(
                "the gateway refuses plaintext",
                Direct(Plaintext),
                Call::get("http://example.com"),
                Failure("no response: *"),
            ),
            Claim::new(
                "the gateway refuses a caller without a mesh certificate",
                Direct(Nothing),
                Call::get("http://example.com"),
                Failure("no response: *received fatal alert: CertificateRequired"),
            ),
            Claim::new(
                "the gateway refuses a caller from a foreign trust domain",
                Direct(ForeignMesh),
                Call::get("http://example.com"),
                Failure("no response: *received fatal alert: *"),
            ),
            Claim::new(
                "team-y, at the gateway in person, is recognised and still denied example.com",
                Direct(Member(Y)),
                Call::get("http://example.com"),
                Page(403, DENIED),
            )
            .gateway(&[
                (Request, "GET / HTTP/1.1"),
                (Code, "403"),
                (Details, "rbac_access_denied_matched_policy[none]"),
            ]),
            Claim::new(
                "team-x, at the gateway in person, is who its certificate says",
                Direct(Member(X)),
                Call::get("http://example.com"),
                Status(200),
            )
            .arrives()
            .gateway(&[
                (Request, "GET / HTTP/1.1"),
                (Code, "200"),
                (UpstreamHost, "93.184.216.34:443"),
            ]),
        ],
    }
}

/// Where an application names its proxy, there is nothing to redirect.
fn explicit_proxy() -> Chapter {
    let call = |url| Call::get(url).through(EXPLICIT_PROXY);
    Chapter {
        title: "The explicit proxy",
        about: "The same rules for an application that names its proxy.",
        apply: &[],
        claims: vec![
            Claim::new(
                "http leaves through the gateway",
                App(X),
                call("http://example.com"),
                Status(200),
            )
            .arrives()
            .sidecar(&[(Code, "200"), (UpstreamHost, "10.1.4.12:8080")])
            .gateway(&[(Code, "200"), (UpstreamHost, "93.184.216.34:443")]),
            Claim::new(
                "the application's own TLS passes through a tunnel",
                App(X),
                call("https://example.com"),
                Status(200),
            )
            .arrives()
            .sidecar(&[(Request, "CONNECT *"), (UpstreamHost, "10.1.4.12:8443")])
            .gateway(&[(Request, "- - -"), (Cluster, "outbound|443||example.com")]),
            Claim::new(
                "policy is the same",
                App(X),
                call("http://httpbin.org"),
                Page(403, DENIED),
            )
            .sidecar(&[(Code, "403")])
            .gateway(&[(Code, "403"), (Details, "rbac_access_denied_matched_policy[none]")]),
        ],
    }
}
