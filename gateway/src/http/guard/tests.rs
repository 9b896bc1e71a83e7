use std::{cell::Cell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};

use super::{scanner::stream, *};
use crate::http::tests::settings;

#[tokio::test]
async fn reads_through_buffers_of_any_size() {
    let input = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost: a\r\n\r\nBAD\r\n";
    for size in 1..input.len() {
        let (mut client, server) = duplex(size);
        let write = async {
            client.write_all(input).await.unwrap();
        };
        let read = async {
            let mut guarded = Guarded::new(server, &settings());
            let mut seen = vec![0; input.len() - 5 + PLACEHOLDER.len()];
            guarded.read_exact(&mut seen).await.unwrap();
            assert!(guarded.status().violation(3).is_some() && guarded.status().violation(2).is_none());
            seen
        };
        let ((), seen) = tokio::join!(write, read);
        assert_eq!(
            seen,
            [&input[..input.len() - 5], PLACEHOLDER].concat(),
            "buffers of {size}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let mut settings = settings();
    settings.timeouts.request_headers = Some(Duration::from_secs(5));
    let (mut client, server) = duplex(64);
    let mut guarded = Guarded::new(server, &settings);
    client.write_all(b"GET / HT").await.unwrap();
    let mut seen = vec![0; PLACEHOLDER.len()];
    guarded.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, PLACEHOLDER);
    assert_eq!(guarded.status().violation(1), Some(&ProxyError::HeadersTimeout));
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_its_answer() {
    let upgrade = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    for switched in [true, false] {
        let (mut client, server) = duplex(1024);
        let mut guarded = Guarded::new(server, &settings());
        client.write_all(upgrade).await.unwrap();
        client.write_all(b"\x81\r\n").await.unwrap();
        let mut seen = vec![0; upgrade.len()];
        guarded.read_exact(&mut seen).await.unwrap();
        let mut next = vec![0; 3];
        // Nothing more is passed on, however often it is asked for.
        assert!(
            timeout(Duration::from_millis(1), guarded.read(&mut next))
                .await
                .is_err()
        );
        guarded.status().answered(1, switched);
        guarded.read_exact(&mut next).await.unwrap();
        let expected = if switched { b"\x81\r\n" } else { &PLACEHOLDER[..3] };
        assert_eq!(next, expected);
    }
}

#[tokio::test]
async fn a_tunnel_whose_other_end_has_closed_still_carries_what_the_client_sends() {
    let (mut client, server) = duplex(1024);
    let mut guarded = Guarded::new(server, &settings());
    let upgrade = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(upgrade).await.unwrap();
    guarded.read_exact(&mut vec![0; upgrade.len()]).await.unwrap();
    guarded.status().answered(1, true);
    guarded.shutdown().await.unwrap();
    client.write_all(b"bye").await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), guarded.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"bye");
}

/// Feeds a stream to hyper through the guard; how many requests hyper saw, and how many of them the guard had refused.
async fn serve(input: &[u8]) -> (u64, u64, Arc<Status>) {
    let (client, server) = duplex(16);
    let guarded = Guarded::new(server, &settings());
    let status = guarded.status();
    let (seen, refused) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let service = service_fn(|request: Request<Incoming>| {
        seen.set(seen.get() + 1);
        let refusal = status.violation(seen.get()).is_some();
        refused.set(refused.get() + u64::from(refusal));
        let (status, number) = (status.clone(), seen.get());
        async move {
            // The body is read to its end, or to where it breaks.
            let _ = request.into_body().collect().await;
            status.answered(number, false);
            let mut response = Response::new(Full::new(Bytes::new()));
            if refusal {
                response
                    .headers_mut()
                    .insert("connection", http::HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(guarded), service);
    let (mut reader, mut writer) = tokio::io::split(client);
    let write = async {
        // The server may close first.
        let _ = writer.write_all(input).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut answers = Vec::new();
        let _ = reader.read_to_end(&mut answers).await;
    };
    let client = async { tokio::join!(write, read) };
    let both = async { tokio::join!(connection, client) };
    let _ = timeout(Duration::from_secs(60), both)
        .await
        .expect("the connection ends");
    (seen.get(), refused.get(), status)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// hyper sees exactly the requests that the guard counts: neither finds a request where the other sees a body.
    #[test]
    fn guard_and_hyper_agree_on_the_framing(input in stream()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (seen, refused, status) = runtime.block_on(serve(&input));
        let mut scanner = Scanner::new(&settings());
        let (_, stop) = scanner.scan(&input);
        let passed = scanner.next_request() - 1;
        prop_assert!(refused <= 1);
        match stop {
            Some(Stop::Refused(number, _)) => {
                prop_assert!(status.violation(number).is_some());
                prop_assert_eq!((seen, refused), (number, 1));
            }
            Some(Stop::Switch(_)) => prop_assert!(seen >= passed),
            None => prop_assert_eq!((seen, refused), (passed, 0)),
        }
    }
}
