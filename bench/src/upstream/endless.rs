//! A site that answers whatever it is told with bytes without end, none of which it touches: the kernel sends them from a file in memory.

use std::{io, os::fd::OwnedFd, sync::Arc};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create, sendfile};
use tokio::{
    io::{AsyncReadExt as _, Interest},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Bytes of the file, and most that is sent at once.
const FILE: usize = 1 << 20;

/// Sends to whoever connects until the peer is gone.
pub(super) async fn accept(listener: TcpListener) {
    let Ok(file) = file().map(Arc::new) else { return };
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let file = Arc::clone(&file);
        // A peer that goes away has had enough.
        connections.spawn(async move { drop(send(stream, &file).await) });
        while connections.try_join_next().is_some() {}
    }
}

fn file() -> io::Result<OwnedFd> {
    let file = memfd_create("endless", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, FILE as u64)?;
    Ok(file)
}

async fn send(mut stream: TcpStream, file: &OwnedFd) -> io::Result<()> {
    let mut hello = [0; 4096];
    if stream.read(&mut hello).await? == 0 {
        return Ok(());
    }
    loop {
        let send = || Ok(sendfile(&stream, file, Some(&mut 0), FILE)?);
        stream.async_io(Interest::WRITABLE, send).await?;
    }
}
