//! A way into the lab for programs that are not part of it, such as the user's own curl: a loopback port of the machine whose
//! connections continue as those of an application of the lab.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use gateway::network::Network;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::network::Process;

/// Connections through one door at the same time; the next waits in the backlog.
const MAX_CONNECTIONS: usize = 64;

/// An open door; shut when dropped.
pub struct Door {
    address: SocketAddr,
    _visitors: JoinSet<()>,
}

impl Door {
    /// Opens a door on an ephemeral port: whoever connects to it, connects as `process` to `to`.
    ///
    /// # Errors
    /// The port cannot be had.
    pub async fn open(process: Process, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut visitors = JoinSet::new();
        visitors.spawn(admit(listener, process, to));
        Ok(Self {
            address,
            _visitors: visitors,
        })
    }

    /// The port of the machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn admit(listener: TcpListener, process: Process, to: SocketAddr) {
    let mut visitors = JoinSet::new();
    loop {
        while visitors.len() >= MAX_CONNECTIONS {
            visitors.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let process = process.clone();
                    visitors.spawn(async move {
                        if let Err(error) = lead(stream, &process, to).await {
                            tracing::debug!(%error, %to, "a connection through a door ended");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a door cannot accept"),
            },
            Some(_) = visitors.join_next() => {}
        }
    }
}

async fn lead(mut visitor: TcpStream, process: &Process, to: SocketAddr) -> io::Result<()> {
    let mut inside = process.dial(to).await?.stream;
    copy_bidirectional(&mut visitor, &mut inside).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::lab::cluster;

    #[tokio::test]
    async fn a_visitor_comes_in_as_the_application() {
        let network = cluster::network();
        let sidecar = network.process(cluster::TEAM_X);
        let listener = sidecar.listen("0.0.0.0:15001".parse().unwrap()).unwrap();
        let site = "93.184.216.34:80".parse().unwrap();
        let door = Door::open(network.app(cluster::TEAM_X), site).await.unwrap();

        let mut visitor = TcpStream::connect(door.address()).await.unwrap();
        let (mut inside, _) = listener.accept().await.unwrap();
        assert_eq!(sidecar.accepted(&inside).unwrap().original_destination, Some(site));
        visitor.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        inside.read_exact(&mut bytes).await.unwrap();
        inside.write_all(b"pong").await.unwrap();
        drop(inside);
        let mut answer = Vec::new();
        visitor.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&bytes, &answer[..]), (b"ping", &b"pong"[..]));
    }
}
