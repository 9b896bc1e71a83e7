use std::{cell::Cell, future::poll_fn, rc::Rc};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A stream that notes how many bytes each read could have brought.
struct Counted {
    stream: DuplexStream,
    asked: Rc<Cell<Vec<usize>>>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut asked = self.asked.take();
        asked.push(buf.remaining());
        self.asked.set(asked);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[tokio::test]
async fn reads_ahead_only_while_more_comes_than_is_asked_for() {
    let (mut peer, stream) = duplex(1 << 20);
    let asked = Rc::new(Cell::new(Vec::new()));
    let mut wire = Wire::new(Counted {
        stream,
        asked: asked.clone(),
    });
    let sent: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    peer.write_all(&sent).await.unwrap();
    let mut got = vec![0; sent.len()];
    for piece in got.chunks_mut(4000) {
        wire.read_exact(piece).await.unwrap();
    }
    assert!(got == sent);
    assert_eq!(asked.take(), [4000, limits::TLS_READ_AHEAD, limits::TLS_READ_AHEAD]);
    assert!(wire.ahead.is_none(), "what is empty is given back");
    for _ in 0..2 {
        peer.write_all(b"short").await.unwrap();
        assert_eq!(wire.read(&mut [0; 4000]).await.unwrap(), 5);
    }
    assert_eq!(asked.take(), [limits::TLS_READ_AHEAD, 4000]);
}

#[tokio::test]
async fn the_end_is_seen_while_reading_ahead() {
    let (mut peer, stream) = duplex(1 << 10);
    let mut wire = Wire::new(stream);
    peer.write_all(b"four").await.unwrap();
    drop(peer);
    assert_eq!(wire.read(&mut [0; 4]).await.unwrap(), 4);
    assert!(wire.is_bulk);
    assert_eq!(wire.read(&mut [0; 4]).await.unwrap(), 0);
}

/// A session of which a record is a write, and which is full with two.
struct Session {
    wire: Wire<DuplexStream>,
    records: Vec<Vec<u8>>,
}

impl Session {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(record) = self.records.first() {
            ready!(Pin::new(&mut self.wire).poll_write(cx, record))?;
            self.records.remove(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Session {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let full = self.records.len() == 2;
        if full && self.poll_send(cx)?.is_pending() {
            return Poll::Pending;
        }
        self.records.push(buf.to_vec());
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Gather for Session {
    fn hold(&mut self, holds: bool) {
        self.wire.holds = holds;
    }
}

#[tokio::test]
async fn records_are_kept_until_a_flush_or_until_the_session_is_full() {
    let (mut peer, stream) = duplex(1 << 10);
    let mut session = Session {
        wire: Wire::new(stream),
        records: Vec::new(),
    };
    for (write, kept) in [(b"a", 1), (b"b", 2), (b"c", 0), (b"d", 1)] {
        let written = poll_fn(|cx| gather(&mut session, |session| session.poll_write(cx, write)));
        assert_eq!(written.await.unwrap(), 1);
        assert_eq!(session.records.len(), kept);
    }
    session.flush().await.unwrap();
    assert!(session.records.is_empty());
    drop(session);
    let mut got = String::new();
    peer.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "abcd");
}
