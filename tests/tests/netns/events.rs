//! What may happen to a mesh in use, and what its users see of it: the same with our proxies and with Envoys.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sallyport::{
    demo::{Stage, claim::matches, script},
    lab::{
        client::{Failure, Reply},
        log::{Field, Line},
        manifests::{self, Manifest},
        namespaces::{APPLICATION_USER, Member, Mesh, PROXY_USER, Place, Program, Setup, application},
    },
};
use tokio::time::{sleep, timeout};

use crate::{possible, real, sallyport};

/// How long a change may take to be seen.
const DEADLINE: Duration = Duration::from_secs(30);
/// The chapters that lead requests for example.com through the gateway, unencrypted on the last hop.
const RELAY: usize = 3;

type Fields<'a> = &'a [(Field, &'a str)];

/// Has something happen to a mesh of our proxies, and to one of Envoys.
async fn both(what: &str, event: impl AsyncFn(&mut Mesh)) {
    if !possible(what) {
        return;
    }
    for program in [Some(Program::Sallyport), real(what)].into_iter().flatten() {
        let setup = Setup {
            sallyport: sallyport().to_owned(),
            sidecar: program.clone(),
            gateway: program,
        };
        let mut mesh = Box::pin(Mesh::start(&setup)).await.unwrap();
        for chapter in script().iter().take(RELAY) {
            mesh.apply(chapter).await.unwrap();
        }
        event(&mut mesh).await;
    }
}

/// As team-x's application.
async fn call(mesh: &Mesh, arguments: &[&str]) -> Result<Reply, Failure> {
    let mut curl = mesh.curl(APPLICATION_USER, Place::TeamX);
    curl.args(arguments);
    application::run(curl).await.unwrap()
}

async fn status(mesh: &Mesh, url: &str) -> u16 {
    call(mesh, &[url]).await.unwrap().status.as_u16()
}

#[track_caller]
fn check(lines: &[String], fields: Fields<'_>) {
    let [line] = lines else {
        panic!("one line is due: {lines:#?}");
    };
    let parsed = Line::parse(line).unwrap_or_else(|| panic!("not a line: {line}"));
    for (field, pattern) in fields {
        let value = parsed.get(*field);
        assert!(matches(pattern, value), "{field:?} is not {pattern:?} in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_may_be_killed_and_come_back() {
    both("the end of control", async |mesh| {
        let served = mesh
            .without_control(async |mesh| {
                let mut served = Vec::new();
                for url in ["http://example.com", "http://unknown.example"] {
                    served.push(call(mesh, &["--resolve", "unknown.example:80:203.0.113.80", url]).await);
                }
                served
                    .into_iter()
                    .map(|reply| reply.unwrap().status.as_u16())
                    .collect::<Vec<_>>()
            })
            .await
            .unwrap();
        assert_eq!(served, [200, 502], "what runs stays as it is");
        let policy = manifests::find("tutorial/61-policy-team-y-httpbin-teapot.yaml").unwrap();
        mesh.install(&[policy]).await.unwrap();
        assert_eq!(
            status(mesh, "http://example.com").await,
            403,
            "what changes is followed again"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_renewed_without_a_failed_request() {
    both("the renewal of identities", async |mesh| {
        let before = shown(mesh).await;
        let renewed = AtomicBool::new(false);
        let traffic = async {
            let mut calls = 0;
            while !renewed.load(Ordering::Relaxed) {
                assert_eq!(status(mesh, "http://example.com").await, 200);
                calls += 1;
            }
            calls
        };
        let renewal = async {
            mesh.renew().unwrap();
            eventually("the gateway shows its new certificate", async || {
                shown(mesh).await != before
            })
            .await;
            renewed.store(true, Ordering::Relaxed);
        };
        let (calls, ()) = tokio::join!(traffic, renewal);
        assert!(calls > 0);
        assert_eq!(status(mesh, "http://example.com").await, 200);
    })
    .await;
}

/// The certificates that the gateway shows to a new caller.
async fn shown(mesh: &Mesh) -> String {
    let mut curl = mesh.curl(PROXY_USER, Place::TeamX);
    let identity = mesh.credentials(Member::TeamX);
    curl.arg("--cert").arg(identity.join("cert-chain.pem"));
    curl.arg("--key").arg(identity.join("key.pem"));
    curl.args([
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--write-out",
        "%{certs}",
    ]);
    curl.args([
        "--max-time",
        "15",
        "--connect-to",
        "::10.1.4.12:8080",
        "https://example.com",
    ]);
    let output = tokio::process::Command::from(curl).output().await.unwrap();
    let certificates = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(certificates.contains("BEGIN CERTIFICATE"), "{output:?}");
    certificates
}

async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, wait)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_goes_silent_costs_the_route_its_timeout() {
    both("a silent site", async |mesh| {
        mesh.install(&[&impatient()]).await.unwrap();
        // It accepts connections, but whatever it says is lost.
        let silence = "iptables -w -A OUTPUT -p tcp --sport 80 --tcp-flags PSH PSH -j DROP";
        mesh.network().run(Place::Outside, silence).unwrap();
        let reply = call(mesh, &["http://example.com"]).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (504, "upstream request timeout")
        );
        let gateway = mesh.gateway().take_when(1).await;
        check(
            &gateway,
            &[
                (Field::Code, "504"),
                (Field::Flags, "UT"),
                (Field::Details, "response_timeout"),
                (Field::UpstreamHost, "93.184.216.34:80"),
                (Field::BytesSent, "24"),
            ],
        );
        let sidecar = mesh.sidecar(Place::TeamX).unwrap().take_when(1).await;
        check(
            &sidecar,
            &[
                (Field::Code, "504"),
                (Field::Flags, "-"),
                (Field::Details, "via_upstream"),
            ],
        );
    })
    .await;
}

/// The route of example.com at the gateway, with a timeout.
fn impatient() -> Manifest {
    let path = "tutorial-steps/relay/43-example-com-route.yaml";
    let route = *manifests::find(path).unwrap();
    let exit = "      - istio-egress/egress-gateway\n      port: 80\n";
    assert!(route.text.contains(exit), "{path} has changed");
    let text = route.text.replace(exit, &format!("{exit}    timeout: 1s\n"));
    Manifest {
        text: text.leak(),
        ..route
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_unless_the_next_hop_speaks_http2() {
    both("a websocket", async |mesh| {
        let metadata = manifests::find("tutorial/92-google-metadata-server.yaml").unwrap();
        mesh.install(&[metadata]).await.unwrap();

        let reply = websocket(mesh, "http://metadata.google.internal").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (101, "hello\n"));
        let sidecar = mesh.sidecar(Place::TeamX).unwrap().take_when(1).await;
        check(
            &sidecar,
            &[
                (Field::Code, "101"),
                // It is the site that hangs up.
                (Field::Flags, "UC"),
                (
                    Field::Details,
                    "upstream_reset_after_response_started{connection_termination}",
                ),
                (Field::UpstreamHost, "169.254.169.254:80"),
                (Field::BytesSent, "6"),
            ],
        );

        let reply = websocket(mesh, "http://example.com").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (403, ""));
        let sidecar = mesh.sidecar(Place::TeamX).unwrap().take_when(1).await;
        check(
            &sidecar,
            &[
                (Field::Code, "403"),
                (Field::Flags, "-"),
                (Field::Details, "upgrade_failed"),
                (Field::UpstreamHost, "-"),
                (Field::Cluster, "outbound|80|target-egress-gateway-mTLS|*"),
            ],
        );
        assert_eq!(
            mesh.gateway().take_when(0).await,
            [""; 0],
            "the gateway never hears of it"
        );
    })
    .await;
}

async fn websocket(mesh: &Mesh, url: &str) -> Reply {
    let upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
    let headers = upgrade.iter().flat_map(|header| ["--header", header]);
    let arguments: Vec<_> = headers.chain(["--http1.1", url]).collect();
    call(mesh, &arguments).await.unwrap()
}
