//! A file name to log to, and the log that what is written there ends up in.

use std::{
    io::{self, PipeWriter, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::fchown,
    },
    path::PathBuf,
    process::Stdio,
};

use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, task::JoinHandle};

use super::Log;

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// A pipe with a name: whatever appends to the file [`LogPipe::path`] appends to [`LogPipe::log`].
///
/// The name leads to this process's own descriptor, so nothing is left behind in the file system.
pub struct LogPipe {
    path: PathBuf,
    log: Log,
    writer: PipeWriter,
    reader: JoinHandle<io::Result<()>>,
}

impl LogPipe {
    /// Opens a pipe.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn open() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let receiver = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let log = Log::new();
        Ok(Self {
            path: format!("/dev/fd/{}", writer.as_raw_fd()).into(),
            reader: tokio::spawn(copy(receiver, log.clone())),
            log,
            writer,
        })
    }

    /// What to give to who logs.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The pipe as a child's standard output or standard error, its own: Envoy opens `/dev/stdout` anew, which the kernel
    /// allows to the pipe's owner only.
    ///
    /// # Errors
    /// The pipe cannot be given away, or the process is out of descriptors.
    pub(in crate::lab) fn stdio(&self, owner: u32) -> io::Result<Stdio> {
        fchown(&self.writer, Some(owner), Some(owner))?;
        Ok(self.writer.try_clone()?.into())
    }

    /// What has been logged.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until everybody who logs has closed the file and all of it has been read.
    ///
    /// # Errors
    /// The log is full.
    pub async fn finish(self) -> io::Result<()> {
        drop(self.writer);
        self.reader.await.map_err(io::Error::other)?
    }
}

async fn copy(mut from: Receiver, mut log: Log) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        log.write_all(chunk.get(..length).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[tokio::test]
    async fn what_is_appended_to_the_file_is_in_the_log() {
        let pipe = LogPipe::open().unwrap();
        let log = pipe.log().clone();
        let mut file = OpenOptions::new().append(true).create(true).open(pipe.path()).unwrap();
        file.write_all(b"one\ntwo\n").unwrap();
        drop(file);
        pipe.finish().await.unwrap();
        assert_eq!(log.since(0), ["one", "two"]);
    }
}
