//! Callers that leave their sidecar out and talk to the gateway themselves: what they get, and what is said about it.

use std::{fs, net::SocketAddr, sync::Arc};

use gateway::network::Network;
use rustls::{ClientConfig, pki_types::ServerName};
use sallyport::lab::{
    cluster::{GATEWAY, TEAM_X},
    log::Field::{self, Code, Details, Flags},
    mesh::Mesh,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{DEADLINE, check, complete, line};

const MTLS: SocketAddr = SocketAddr::new(GATEWAY, 8080);
const PASSTHROUGH: SocketAddr = SocketAddr::new(GATEWAY, 8443);
const SNI: &str = "outbound_.80_.target-egress-gateway-mTLS_.istio-egressgateway.istio-egress.svc.cluster.local";
/// A fatal alert and nothing else (RFC 8446, section 6).
const DECODE_ERROR: &str = "\x15\x03\x03\0\x02\x02\x32";
const GOOD: &str = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";

/// A request, the status it gets, and what else the gateway says.
type Case = (String, &'static str, &'static [(Field, &'static str)]);

async fn dial(mesh: &Mesh, to: SocketAddr) -> TcpStream {
    mesh.network().process(TEAM_X).dial(to).await.unwrap().stream
}

fn team_x(mesh: &Mesh) -> Arc<ClientConfig> {
    let workload = mesh.mesh_ca().workload("team-x", "test").unwrap();
    mesh.mesh_ca().calling(Some(&workload)).unwrap()
}

async fn secure(mesh: &Mesh, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(SNI).unwrap();
    TlsConnector::from(config).connect(name, dial(mesh, MTLS).await).await
}

/// What comes back for these bytes; whatever had come when the connection broke.
async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    // A refusal may arrive before everything is written.
    let _ = stream.write_all(bytes).await;
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("the gateway ends the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(mesh: &Mesh, request: &str) -> String {
    exchange(secure(mesh, team_x(mesh)).await.unwrap(), request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_over_mutual_tls_leave_one_line_each_and_nothing_else() {
    let mesh = complete().await;
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(61 * 1024));
    let host = "Host: example.com\r\n";
    let cases: [Case; 6] = [
        (
            format!("GET / HTTP/1.1\r\n{host}{many}\r\n"),
            "431",
            &[(Flags, "DPE"), (Details, "http1.too_many_headers")],
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{large}\r\n"),
            "431",
            &[(Flags, "DPE"), (Details, "http1.headers_too_large")],
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "400",
            &[
                (Flags, "DPE"),
                (Details, "http1.content_length_and_chunked_not_allowed"),
            ],
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            "400",
            &[(Flags, "DPE"), (Details, "http1.codec_error")],
        ),
        (
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n".to_owned(),
            "403",
            &[(Flags, "-"), (Details, "rbac_access_denied_matched_policy[none]")],
        ),
        (GOOD.to_owned(), "200", &[(Flags, "-")]),
    ];
    let log = mesh.logs().gateway;
    for (at, (request, status, fields)) in cases.iter().enumerate() {
        let answer = ask(&mesh, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let said = line(&log, at).await;
        check(&said, &[(Code, status)]);
        check(&said, fields);
    }
    assert_eq!(mesh.outside().requests("example.com"), 1);
    mesh.stop().await.unwrap();
    assert_eq!(log.len(), cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_tls_gets_nowhere() {
    let mesh = complete().await;
    let mut unended = vec![22, 3, 1, 0x40, 0, 1, 0, 0x40, 0];
    unended.resize(5 + 0x4000, 0);
    let log = mesh.logs().gateway;
    for bytes in [GOOD.as_bytes(), &unended] {
        for port in [MTLS, PASSTHROUGH] {
            let answer = exchange(dial(&mesh, port).await, bytes).await;
            assert!(["", DECODE_ERROR].contains(&answer.as_str()), "{port}: {answer:?}");
        }
    }
    assert!(ask(&mesh, GOOD).await.starts_with("HTTP/1.1 200 "));
    mesh.stop().await.unwrap();
    let lines = log.since(0);
    let requests = lines.iter().filter(|line| line.contains("GET / HTTP/1.1"));
    assert_eq!(requests.count(), 1, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_taken_away_counts_from_the_next_request_of_an_open_connection() {
    let mesh = complete().await;
    let mut stream = secure(&mesh, team_x(&mesh)).await.unwrap();
    assert_eq!(head(&mut stream).await, "HTTP/1.1 200 OK");
    fs::remove_file(mesh.config_directory().join("60-policy-team-x-example-com.yaml")).unwrap();
    mesh.apply(&[]).await.unwrap();
    assert_eq!(head(&mut stream).await, "HTTP/1.1 403 Forbidden");
    let said = line(&mesh.logs().gateway, 1).await;
    check(
        &said,
        &[(Code, "403"), (Details, "rbac_access_denied_matched_policy[none]")],
    );
    assert_eq!(mesh.outside().requests("example.com"), 1);
}

/// The status line that a HEAD request is answered with, on a connection that stays open.
async fn head(stream: &mut TlsStream<TcpStream>) -> String {
    stream
        .write_all(b"HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(DEADLINE, stream.read_u8()).await.expect("an answer in time");
        answer.push(byte.unwrap());
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned()
}
