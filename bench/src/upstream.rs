//! The site beyond the proxies, as cheap as can be: HTTP/1.1, plain and over TLS. `/` is 1 KiB, `/<n>` is n bytes; a request body is read and dropped.

use std::{io, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use certs::{Identity, Live, Versions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

mod endless;

/// What a body is made of, piece by piece.
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
/// Longest request head that is read.
const MAX_HEAD: usize = 64 << 10;

/// Listeners, bound before it is known what they show.
pub(crate) struct Upstream {
    plain: TcpListener,
    secure: TcpListener,
    endless: TcpListener,
}

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) secure: u16,
    /// Of the site that sends without end.
    pub(crate) endless: u16,
}

impl Upstream {
    pub(crate) async fn bind() -> io::Result<Self> {
        Ok(Self {
            plain: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            secure: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            endless: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        })
    }

    pub(crate) fn ports(&self) -> io::Result<Ports> {
        Ok(Ports {
            plain: self.plain.local_addr()?.port(),
            secure: self.secure.local_addr()?.port(),
            endless: self.endless.local_addr()?.port(),
        })
    }

    /// Serves until the result is dropped.
    pub(crate) fn serve(self, site: Arc<Live<Identity>>) -> anyhow::Result<JoinSet<()>> {
        let mut config = certs::server_config(site, None, Versions::ALL)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut serving = JoinSet::new();
        serving.spawn(accept(self.plain, None));
        serving.spawn(accept(self.secure, Some(acceptor)));
        serving.spawn(endless::accept(self.endless));
        Ok(serving)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>) {
    // A peer that goes away has what it wanted; what it did not get, its load counts.
    let _ = async {
        stream.set_nodelay(true)?;
        match tls {
            None => answer(stream).await,
            Some(acceptor) => answer(acceptor.accept(stream).await?).await,
        }
    }
    .await;
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let kibibyte = Bytes::from(response(1024));
    let mut read = Vec::with_capacity(4096);
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            if read.len() > MAX_HEAD || stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = &read[..end];
        let (asked_for, owed) = (length_asked_for(head), body_length(head));
        read.drain(..end + 4);
        discard(&mut stream, &mut read, owed).await?;
        match asked_for {
            None => stream.write_all(&kibibyte).await?,
            Some(length) => body(&mut stream, length).await?,
        }
        stream.flush().await?;
    }
}

/// Reads so many bytes, some of which are read already.
async fn discard(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let here = read.len().min(length);
    read.drain(..here);
    let mut left = length - here;
    if left == 0 {
        return Ok(());
    }
    let mut piece = vec![0; PIECE.len()];
    while left > 0 {
        let most = left.min(piece.len());
        match stream.read(&mut piece[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left -= count,
        }
    }
    Ok(())
}

async fn body(stream: &mut (impl AsyncWrite + Unpin), length: usize) -> io::Result<()> {
    stream.write_all(head(length).as_bytes()).await?;
    let mut left = length;
    while left > 0 {
        let piece = left.min(PIECE.len());
        stream.write_all(&PIECE[..piece]).await?;
        left -= piece;
    }
    Ok(())
}

fn length_asked_for(head: &[u8]) -> Option<usize> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let path = str::from_utf8(line).ok()?.split(' ').nth(1)?;
    path.strip_prefix('/')?.parse().ok()
}

/// Zero unless the head gives a length.
fn body_length(head: &[u8]) -> usize {
    let lines = str::from_utf8(head).unwrap_or_default().lines();
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
}

fn response(length: usize) -> Vec<u8> {
    let mut bytes = head(length).into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}
