use std::time::{Duration, SystemTime};

use mesh::{
    ListenerName, PolicyName,
    host::Sni,
    log::{ISTIO_DEFAULT_FORMAT, LogFormat},
};

use super::*;
use crate::{error::ConnectError, snapshot::ChainId};

const SNI: &str = "outbound_.80_.target-egress-gateway-mTLS_.istio-egressgateway.istio-egress.svc.cluster.local";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A connection to the tutorial's gateway, accepted on 2020-09-14T17:37:08.045Z.
fn connection(port: u16, sni: &str) -> Arc<Connection> {
    Arc::new(Connection {
        id: 7,
        started: Moment {
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_105_028_045),
            instant: Instant::now(),
        },
        listener: ListenerName::parse("0.0.0.0_8080").unwrap(),
        chain: ChainId::NONE,
        chain_name: None,
        local: address(&format!("10.1.4.12:{port}")),
        remote: address("10.1.0.17:44404"),
        original_destination: None,
        sni: Sni::parse(sni).ok(),
        alpn: None,
        tls: None,
    })
}

/// What one log writes of one record.
fn written(log: AccessLog, record: impl FnOnce(Arc<Loggers>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let sinks = Sinks::new(1, Overflow::Block);
    let loggers = Loggers::build(
        &[AccessLog {
            path: path.clone(),
            ..log
        }],
        &sinks,
    )
    .unwrap();
    // Dropping the last logger closes the file.
    record(Arc::new(loggers));
    std::fs::read_to_string(&path).unwrap()
}

fn text(format: &str) -> AccessLog {
    AccessLog {
        path: "".into(),
        format: LogFormat::Text(format.to_owned()),
        only_flags: vec![],
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

/// The request of the tutorial, as far as the client's side goes.
async fn request(loggers: Arc<Loggers>) -> AccessRecord {
    let connection = connection(8080, SNI);
    let started = connection.started;
    let mut record = AccessRecord::http(loggers, connection, started, "HTTP/2");
    record.request(&RequestView {
        method: &Method::HEAD,
        authority: &HeaderValue::from_static("example.com"),
        path: Some(&PathAndQuery::from_static("/?q=%20")),
        scheme: &Scheme::HTTPS,
        client: address("10.1.0.17:44404"),
        protocol: "HTTP/2",
        headers: &headers(&[
            ("x-forwarded-for", "10.1.0.17"),
            ("user-agent", "curl/7.67.0"),
            ("x-request-id", "095711e6-64ef-4de0-983e-59158e3c55e7"),
        ]),
    });
    record.upstream.cluster = Some(ClusterName::parse("outbound|80||example.com").unwrap());
    tokio::time::advance(Duration::from_millis(1)).await;
    record.request_complete();
    record
}

async fn answered(loggers: Arc<Loggers>) {
    let mut record = request(loggers).await;
    record.upstream.host = Some(address("93.184.216.34:80"));
    record.upstream.local = Some(address("10.1.4.12:37636"));
    tokio::time::advance(Duration::from_millis(2)).await;
    record.response_began();
    record.response(200, &headers(&[("x-envoy-upstream-service-time", "3")]));
    record.details("via_upstream");
    tokio::time::advance(Duration::from_millis(1)).await;
    record.finish();
}

/// Runs an asynchronous scenario on a paused clock.
fn paused<F: Future<Output = ()>>(scenario: impl FnOnce(Arc<Loggers>) -> F) -> impl FnOnce(Arc<Loggers>) {
    |loggers| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(scenario(loggers));
    }
}

#[test]
fn a_relayed_request_is_logged_as_in_the_tutorial() {
    let line = written(text(ISTIO_DEFAULT_FORMAT), paused(answered));
    let sni = SNI.to_ascii_lowercase();
    assert_eq!(
        line,
        format!(
            "[2020-09-14T17:37:08.045Z] \"HEAD /?q=%20 HTTP/2\" 200 - via_upstream - \"-\" 0 0 4 3 \"10.1.0.17\" \"curl/7.67.0\" \
             \"095711e6-64ef-4de0-983e-59158e3c55e7\" \"example.com\" \"93.184.216.34:80\" outbound|80||example.com \
             10.1.4.12:37636 10.1.4.12:8080 10.1.0.17:44404 {sni} -\n"
        )
    );
}

#[test]
fn a_denied_request_names_its_policy_and_no_upstream_host() {
    let line = written(
        text("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW%\n"),
        paused(|loggers| async {
            let mut record = request(loggers).await;
            let error = ProxyError::Denied(Some(PolicyName::parse("ns[a]-policy[b c]-rule[0]").unwrap()));
            record.response(403, &HeaderMap::new());
            record.error(&error);
        }),
    );
    let policy = "ns[a]-policy[b_c]-rule[0]";
    assert_eq!(
        line,
        format!("403 - rbac_access_denied_matched_policy[{policy}] \"-\" outbound|80||example.com\n"),
        "blanks become underscores"
    );
}

#[test]
fn a_passthrough_connection_is_logged_as_in_the_tutorial() {
    let line = written(
        text(ISTIO_DEFAULT_FORMAT),
        paused(|loggers| async {
            let mut record = AccessRecord::tcp(loggers, connection(8443, "example.com"));
            record.bytes_received = 1363;
            record.bytes_sent = 5539;
            record.upstream = Upstream {
                cluster: Some(ClusterName::parse("outbound|443||example.com").unwrap()),
                host: Some(address("93.184.216.34:443")),
                local: Some(address("10.1.4.12:51098")),
                ..Upstream::default()
            };
            tokio::time::advance(Duration::from_millis(10)).await;
            record.finish();
        }),
    );
    assert_eq!(
        line,
        "[2020-09-14T17:37:08.045Z] \"- - -\" 0 - - - \"-\" 1363 5539 10 - \"-\" \"-\" \"-\" \"-\" \"93.184.216.34:443\" \
         outbound|443||example.com 10.1.4.12:51098 10.1.4.12:8443 10.1.0.17:44404 example.com -\n"
    );
}

#[test]
fn a_request_that_cannot_be_read_still_has_a_line() {
    let line = written(
        text(ISTIO_DEFAULT_FORMAT),
        paused(|loggers| async {
            let connection = connection(8080, "");
            let started = connection.started;
            let mut record = AccessRecord::http(loggers, connection, started, "HTTP/1.1");
            record.response(400, &HeaderMap::new());
            record.error(&ProxyError::Request(crate::error::BadRequest::Codec));
            record.bytes_sent = 11;
        }),
    );
    assert_eq!(
        line,
        "[2020-09-14T17:37:08.045Z] \"- - HTTP/1.1\" 400 DPE http1.codec_error - \"-\" 0 11 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - \
         10.1.4.12:8080 10.1.0.17:44404 - -\n"
    );
}

#[test]
fn flags_are_joined_in_the_order_they_were_set() {
    let line = written(
        text("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n"),
        paused(|loggers| async {
            let mut record = request(loggers).await;
            record.flag(Flag::Urx);
            let reason = "delayed connect error: Connection refused";
            record.error(&ProxyError::Connect(ConnectError::Io(reason.to_owned())));
            record.upstream.failure = Some(reason.to_owned());
        }),
    );
    let long = "UpstreamRetryLimitExceeded,UpstreamConnectionFailure";
    assert_eq!(
        line,
        format!("URX,UF {long} delayed_connect_error:_Connection_refused\n")
    );
}

#[test]
fn operators_take_parameters_and_lengths() {
    let check = |format: &str, expect: &str| {
        assert_eq!(
            written(text(&format!("{format}\n")), paused(answered)),
            format!("{expect}\n"),
            "{format}"
        );
    };
    check("100%%", "100%");
    check("%REQ(:PATH):2%", "/?");
    check("%PATH(NQ)% %PATH(WQ)%", "/ /?q=%20");
    check("%REQ(X-ABSENT?USER-AGENT)%", "curl/7.67.0");
    check("%REQ(x-absent)%", "-");
    check("%START_TIME(%s.%3f)%", "1600105028.045");
    check(
        "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %DURATION%",
        "1 3 1 4",
    );
    check("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "10.1.0.0/16");
    check("%DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_LOCAL_PORT%", "44404 8080");
    check(
        "%UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
        "93.184.216.34:80 93.184.216.34",
    );
    check("%CONNECTION_ID% %DOWNSTREAM_PEER_URI_SAN% %TRACE_ID%", "7 - -");
    check("%GRPC_STATUS%", "-");
}

#[test]
fn json_keeps_types_and_writes_null_for_nothing() {
    let json = |omit_empty| {
        AccessLog {
        path: "".into(),
        format: LogFormat::Json {
            fields: serde_json::from_str(
                r#"{"status": "%RESPONSE_CODE%", "ua": "%REQ(USER-AGENT)%", "none": "%ROUTE_NAME%", "flags": "%RESPONSE_FLAGS%",
                    "both": "%REQ(:METHOD)% %ROUTE_NAME%", "nested": {"n": [1, "%DURATION%"]}}"#,
            )
            .unwrap(),
            omit_empty,
        },
        only_flags: vec![],
    }
    };
    let rest = r#""status":200,"ua":"curl/7.67.0"}"#;
    assert_eq!(
        written(json(false), paused(answered)),
        format!("{{\"both\":\"HEAD -\",\"flags\":\"-\",\"nested\":{{\"n\":[1,4]}},\"none\":null,{rest}\n")
    );
    assert_eq!(
        written(json(true), paused(answered)),
        format!("{{\"both\":\"HEAD \",\"flags\":\"-\",\"nested\":{{\"n\":[1,4]}},{rest}\n")
    );
}

#[test]
fn a_log_for_some_flags_leaves_the_others_out() {
    let nr = || AccessLog {
        only_flags: vec!["NR".to_owned()],
        ..text("line\n")
    };
    assert_eq!(written(nr(), paused(answered)), "");
    let no_route = paused(|loggers| async { request(loggers).await.error(&ProxyError::NoRoute) });
    assert_eq!(written(nr(), no_route), "line\n");
}

#[test]
fn a_dropped_record_is_written_too() {
    assert_eq!(
        written(
            text("%RESPONSE_CODE%\n"),
            paused(|loggers| async { drop(request(loggers).await) })
        ),
        "0\n"
    );
}
