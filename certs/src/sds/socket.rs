//! The socket: made private, put in place in one step, removed at the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tonic::transport::server::Connected;

use super::at;

/// Who may connect to the socket, and so have the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Processes of our own user: mode 0600.
    #[default]
    Owner,
    /// Those of the socket's group too: mode 0660.
    Group,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else is there.
    #[error("{} is not a socket and is not replaced; remove it yourself, or name another path", .0.display())]
    NotASocket(PathBuf),
    /// Somebody serves there already.
    #[error("{} is served by another process; end it first, or name another path", .0.display())]
    InUse(PathBuf),
    /// The file system said no.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said. Paths of sockets have at most 107 bytes.
        cause: io::Error,
    },
}

/// The socket's file, removed when it is dropped, unless another one is in its place by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// An accepted connection.
pub(super) struct Connection {
    io: UnixStream,
    _room: OwnedSemaphorePermit,
}

/// Connections at a time. A proxy has one or two.
const MAX_CONNECTIONS: usize = 64;
/// Pause after the system refused to accept, which it does when it runs out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bound on finding out whether somebody serves on a socket.
const PROBE: Duration = Duration::from_secs(1);

/// Makes the socket in a directory that only we can enter, and moves it into place when its mode is right.
pub(super) async fn bind(path: &Path, access: Access) -> Result<(UnixListener, SocketFile), SocketError> {
    // The one we make is in a shorter place; nobody could connect to this one.
    SocketAddr::from_pathname(path).map_err(at(path))?;
    check_vacant(path).await?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(at(directory))?;
    let nest = tempfile::Builder::new()
        .prefix(".")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(directory)
        .map_err(at(directory))?;
    let young = nest.path().join("s");
    let listener = UnixListener::bind(&young).map_err(at(path))?;
    fs::set_permissions(&young, fs::Permissions::from_mode(access.mode())).map_err(at(path))?;
    fs::rename(&young, path).map_err(at(path))?;
    let metadata = fs::symlink_metadata(path).map_err(at(path))?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(&metadata),
    };
    Ok((listener, file))
}

/// What is there may be replaced only if it is the socket of a server that is gone.
async fn check_vacant(path: &Path) -> Result<(), SocketError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path)(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(socket = %path.display(), "replacing the socket of a server that is gone");
            Ok(())
        }
        Ok(Err(error)) => Err(at(path)(error)),
        Ok(Ok(_)) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

/// Accepts until nobody serves any more.
pub(super) async fn accept(listener: UnixListener, connections: mpsc::Sender<io::Result<Connection>>) {
    let rooms = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(room) = rooms.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((io, _)) => {
                let process = io.peer_cred().ok().and_then(|peer| peer.pid());
                tracing::debug!(process, "a proxy connects");
                if connections.send(Ok(Connection { io, _room: room })).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_its_owner_or_its_group_may_open_it() {
        let scratch = tempfile::tempdir().unwrap();
        for (access, expect) in [(Access::Owner, 0o600), (Access::Group, 0o660)] {
            let path = scratch.path().join("below/and/below/socket");
            let (_listener, file) = bind(&path, access).await.unwrap();
            assert_eq!(mode(&path), expect);
            let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
            assert_eq!(left.len(), 1, "nothing else is left behind: {left:?}");
            drop(file);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_server_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, file) = bind(&path, Access::Owner).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(file);
    }

    #[tokio::test]
    async fn what_is_served_or_no_socket_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let (_listener, file) = bind(&path, Access::Owner).await.unwrap();
        let error = bind(&path, Access::Owner).await.err().unwrap();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        drop(file);

        fs::write(&path, "precious").unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for other in [&path, &link, &scratch.path().to_owned()] {
            let error = bind(other, Access::Owner).await.err().unwrap();
            assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_successor_s_socket_is_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let (listener, file) = bind(&path, Access::Owner).await.unwrap();
        drop(listener);
        let (_successor, its_file) = bind(&path, Access::Owner).await.unwrap();
        drop(file);
        UnixStream::connect(&path).await.unwrap();
        drop(its_file);
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("x".repeat(120));
        let error = bind(&path, Access::Owner).await.err().unwrap().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
}
