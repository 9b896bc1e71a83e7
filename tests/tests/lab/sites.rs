//! Sites that misbehave, seen through both proxies: what the application gets and what the gateway says about it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use certs::{Identity, LeafRequest};
use mesh::host::Host;
use sallyport::lab::{
    client::{Call, Failure, Reply},
    cluster::TEAM_X,
    dns::Answer,
    log::Field::{self, Cluster, Code, Details, Flags, TransportFailure},
    manifests::{self, Manifest},
    mesh::Mesh,
    pki::PublicCa,
};
use tests::upstream::{Script, Upstream};

use crate::{all, check, line};

type Certify = fn(&PublicCa) -> Identity;

const BAD_SITE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);

/// httpbin.org by plain HTTP, from a gateway without policies.
fn relay() -> Vec<&'static Manifest> {
    let mut files: Vec<_> = all();
    files.retain(|manifest| manifest.name < "60");
    for name in [
        "40-gateway.yaml",
        "41-target-egress-gateway.yaml",
        "43-example-com-route.yaml",
        "53-httpbin-org-route.yaml",
    ] {
        files.push(manifests::find(&format!("tutorial-steps/relay/{name}")).unwrap());
    }
    files
}

/// Calls a site that follows a script; `None`: nobody is there.
async fn call(script: Option<Script>) -> (Result<Reply, Failure>, String) {
    let mesh = Mesh::start().await.unwrap();
    mesh.names()
        .zone()
        .set("httpbin.org", Answer::Addresses(vec![BAD_SITE]));
    let site = mesh.network().process(IpAddr::V4(BAD_SITE));
    let upstream = script.map(|script| Upstream::start(&site, SocketAddr::new(BAD_SITE.into(), 80), script).unwrap());
    mesh.apply(&relay()).await.unwrap();
    let reply = mesh.app(TEAM_X).unwrap().send(&Call::get("http://httpbin.org")).await;
    // The site has the request by then, so that it is not for a proxy to send it again.
    assert!(
        upstream.is_none_or(|upstream| upstream.connections() == 1),
        "{script:?}"
    );
    (reply, line(&mesh.logs().gateway, 0).await)
}

async fn check_status(script: Option<Script>, status: u16, fields: &[(Field, &str)]) {
    let (reply, line) = call(script).await;
    assert_eq!(reply.unwrap().status, status, "{script:?}");
    check(&line, fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_there() {
    let details = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:*";
    check_status(None, 503, &[(Code, "503"), (Flags, "URX,UF"), (Details, details)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_closes_without_an_answer() {
    let details = "upstream_reset_before_response_started{connection_termination}";
    for script in [Script::CloseSilently, Script::ResetAfterRequest] {
        check_status(Some(script), 503, &[(Code, "503"), (Flags, "UC"), (Details, details)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_speaks_something_else() {
    let details = "upstream_reset_before_response_started{protocol_error}";
    check_status(
        Some(Script::Garbage),
        502,
        &[(Code, "502"), (Flags, "UPE"), (Details, details)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_too_early_is_not_passed_off_as_whole() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort";
    for script in [Script::SayAndClose(cut), Script::SayAndReset(cut)] {
        let (reply, line) = call(Some(script)).await;
        assert!(
            matches!(reply, Err(Failure::Body(_) | Failure::Http(_))),
            "{script:?}: {reply:?}"
        );
        check(
            &line,
            &[(Code, "200"), (Details, "upstream_reset_after_response_started{*}")],
        );
    }
}

/// Calls example.com, to which the gateway speaks TLS, while the site shows another certificate.
async fn call_with(identity: Certify) -> (u16, u64, String) {
    let mesh = Mesh::start().await.unwrap();
    mesh.outside().show("example.com", identity(mesh.public_ca()));
    mesh.apply(&all()).await.unwrap();
    let reply = mesh
        .app(TEAM_X)
        .unwrap()
        .send(&Call::get("http://example.com"))
        .await
        .unwrap();
    (
        reply.status.as_u16(),
        mesh.outside().requests("example.com"),
        line(&mesh.logs().gateway, 0).await,
    )
}

/// A certificate for example.com that is valid between two times, in hours from now.
fn valid_between(ca: &PublicCa, start: i64, end: i64) -> Identity {
    let now = SystemTime::now();
    let at = |hours: i64| {
        let distance = Duration::from_secs(hours.unsigned_abs() * 3600);
        if hours < 0 { now - distance } else { now + distance }
    };
    let request = LeafRequest::server(&Host::parse("example.com").unwrap()).between(at(start), at(end));
    ca.authority().issue(&request, now).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_who_it_should_be_gets_no_request() {
    let bad: [(&str, Certify); 4] = [
        ("expired", |ca| valid_between(ca, -2, -1)),
        ("of the future", |ca| valid_between(ca, 1, 2)),
        ("for another host", |ca| ca.certify("example.org").unwrap()),
        ("of an unknown authority", |_| {
            PublicCa::new("Nobody").unwrap().certify("example.com").unwrap()
        }),
    ];
    for (what, identity) in bad {
        let (status, requests, line) = call_with(identity).await;
        assert_eq!((status, requests), (503, 0), "a certificate {what}");
        check(
            &line,
            &[
                (Code, "503"),
                (Flags, "URX,UF"),
                (TransportFailure, "TLS_error:*CERTIFICATE_VERIFY_FAILED*"),
                (Cluster, "outbound|443|example-com-originate-TLS|example.com"),
            ],
        );
    }
}
