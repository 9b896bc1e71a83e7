use std::{future::poll_fn, task::Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// Polls once, as a connection would.
fn poll<T>(work: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    work(&mut Context::from_waker(Waker::noop()))
}

fn write(corked: &mut Corked<DuplexStream>, bytes: &[u8]) -> Poll<usize> {
    let written = poll(|cx| Pin::new(corked).poll_write(cx, bytes));
    written.map(Result::unwrap)
}

async fn read(peer: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn small_writes_leave_together_when_they_are_released() {
    let (mut peer, stream) = duplex(1 << 20);
    let (mut corked, cork) = cork(stream);
    for bytes in [b"one", b"two"] {
        assert_eq!(write(&mut corked, bytes), Poll::Ready(3));
        assert!(poll(|cx| Pin::new(&mut corked).poll_flush(cx)).is_ready());
    }
    let mut seen = [0; 16];
    let mut buf = ReadBuf::new(&mut seen);
    assert!(poll(|cx| Pin::new(&mut peer).poll_read(cx, &mut buf)).is_pending());
    poll_fn(|cx| {
        cork.release(cx);
        Poll::Ready(())
    })
    .await;
    assert_eq!(read(&mut peer, 6).await, b"onetwo");
    assert_eq!(cork.0.borrow().kept.capacity(), 0);
}

#[tokio::test]
async fn a_large_write_goes_out_behind_what_was_kept() {
    let (mut peer, stream) = duplex(1 << 20);
    let (mut corked, _cork) = cork(stream);
    assert_eq!(write(&mut corked, b"head"), Poll::Ready(4));
    assert_eq!(write(&mut corked, &[b'x'; LARGE]), Poll::Ready(LARGE));
    let read = read(&mut peer, 4 + LARGE).await;
    assert!(read.starts_with(b"headxxxx"));
}

#[tokio::test]
async fn no_more_is_kept_than_the_limit_while_the_peer_does_not_read() {
    let (mut peer, stream) = duplex(1);
    let (mut corked, cork) = cork(stream);
    let piece = [b'x'; LARGE - 1];
    let mut kept = 0;
    while let Poll::Ready(count) = write(&mut corked, &piece) {
        kept += count;
        assert!(kept <= LIMIT);
    }
    cork.release(&mut Context::from_waker(Waker::noop()));
    let reading = tokio::spawn(async move { read(&mut peer, kept).await });
    poll_fn(|cx| {
        cork.release(cx);
        if cork.0.borrow().is_dirty {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    assert_eq!(reading.await.unwrap().len(), kept);
}

#[tokio::test]
async fn a_failure_of_the_release_is_told_by_the_next_write() {
    let (peer, stream) = duplex(1 << 10);
    let (mut corked, cork) = cork(stream);
    assert_eq!(write(&mut corked, b"lost"), Poll::Ready(4));
    drop(peer);
    poll_fn(|cx| {
        cork.release(cx);
        Poll::Ready(())
    })
    .await;
    assert!(corked.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn a_shutdown_leaves_nothing_behind() {
    let (mut peer, stream) = duplex(1 << 10);
    let (mut corked, _cork) = cork(stream);
    corked.write_all(b"last words").await.unwrap();
    corked.shutdown().await.unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last words");
}
