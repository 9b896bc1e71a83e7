use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A client, an upstream, and the relay between them with buffers of `size` bytes.
fn topology(size: usize) -> (DuplexStream, DuplexStream, DuplexStream, DuplexStream) {
    let (client, downstream) = duplex(size);
    let (upstream, server) = duplex(size);
    (client, downstream, upstream, server)
}

#[tokio::test]
async fn each_half_closes_on_its_own() {
    let (mut client, mut downstream, mut upstream, mut server) = topology(8);
    let counts = Counts::default();
    let ends = async {
        client
            .write_all(b"a long question, much longer than the buffers")
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "an answer given after the question had ended");
    };
    let serving = async {
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "a long question, much longer than the buffers");
        server
            .write_all(b"an answer given after the question had ended")
            .await
            .unwrap();
        server.shutdown().await.unwrap();
    };
    let (relayed, (), ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, None), ends, serving);
    relayed.unwrap();
    assert_eq!((counts.received.get(), counts.sent.get()), (45, 44));
}

#[tokio::test]
async fn the_upstream_may_close_its_half_first() {
    let (mut client, mut downstream, mut upstream, mut server) = topology(64);
    let counts = Counts::default();
    let ends = async {
        server.shutdown().await.unwrap();
        let mut nothing = Vec::new();
        client.read_to_end(&mut nothing).await.unwrap();
        client.write_all(b"still talking").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "still talking");
    };
    let (relayed, ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, None), ends);
    relayed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_in_both_directions_ends_it() {
    let (mut client, mut downstream, mut upstream, _server) = topology(64);
    let (counts, idle) = (Counts::default(), Duration::from_secs(10));
    let start = Instant::now();
    let talk = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        client.write_all(b"x").await.unwrap();
    };
    let (relayed, ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, Some(idle)), talk);
    assert!(matches!(relayed, Err(Broken::Idle)));
    assert_eq!(start.elapsed(), Duration::from_secs(17));
}

#[tokio::test]
async fn a_slow_receiver_holds_the_sender_back() {
    let (mut client, mut downstream, mut upstream, server) = topology(16);
    let counts = Counts::default();
    let flood = async {
        for _ in 0..1000 {
            client.write_all(&[0; 1024]).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = relay(&mut downstream, &mut upstream, &counts, None) => panic!("nobody closed"),
        () = flood => panic!("nobody reads"),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    assert!(counts.received.get() <= 64, "{}", counts.received.get());
    drop(server);
}

#[tokio::test]
async fn a_broken_side_is_named() {
    let (mut client, mut downstream, mut upstream, server) = topology(16);
    drop(server);
    client.write_all(b"anybody there?").await.unwrap();
    let relayed = relay(&mut downstream, &mut upstream, &Counts::default(), None).await;
    assert!(matches!(relayed, Err(Broken::Upstream(_))), "{relayed:?}");
}

impl Side for DuplexStream {}

impl Side for TcpStream {
    fn bare(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

#[tokio::test]
async fn bulk_between_sockets_arrives_whole_and_in_order_in_both_directions() {
    let (mut client, mut downstream) = connection().await;
    let (mut upstream, mut server) = connection().await;
    let counts = Counts::default();
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let ends = async {
        let (mut from_client, mut to_server) = client.split();
        let (mut from_server, mut to_client) = server.split();
        let send = |to| async {
            let to: &mut tokio::net::tcp::WriteHalf<'_> = to;
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let (_, _, up, down) = tokio::join!(
            send(&mut to_server),
            send(&mut to_client),
            from_server.read_to_end(&mut at_server),
            from_client.read_to_end(&mut at_client),
        );
        let _ = (up.unwrap(), down.unwrap());
        assert!(at_server == sent && at_client == sent);
    };
    let (relayed, ()) = tokio::join!(relay(&mut downstream, &mut upstream, &counts, None), ends);
    relayed.unwrap();
    let whole = u64::try_from(sent.len()).unwrap();
    assert_eq!((counts.received.get(), counts.sent.get()), (whole, whole));
    assert_eq!(pipe::idle(), 2, "pipes are kept for the next who needs one");
}

#[tokio::test]
async fn a_receiver_that_goes_away_while_a_pipe_is_full_is_named() {
    let (mut client, mut downstream) = connection().await;
    let (mut upstream, server) = connection().await;
    let counts = Counts::default();
    let flood = async {
        let piece = vec![0; 1 << 16];
        while client.write_all(&piece).await.is_ok() {}
    };
    let leave = async {
        // More than the buffers of the sockets and the pipe take.
        while counts.received.get() < 1 << 20 {
            tokio::task::yield_now().await;
        }
        drop(server);
    };
    tokio::select! {
        relayed = relay(&mut downstream, &mut upstream, &counts, None) =>
            assert!(matches!(relayed, Err(Broken::Upstream(_))), "{relayed:?}"),
        ((), ()) = async { tokio::join!(flood, leave) } => panic!("the client sees no end of it"),
    }
}
