//! HTTP/2 with several streams on a connection.

use anyhow::ensure;
use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::Request;
use tokio::task::JoinSet;

use super::{Client, pace::Pace};

/// Streams on each connection.
pub(super) const STREAMS: usize = 8;

/// A connection's sender, and the task that drives it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    /// Ends the connection when dropped. What goes wrong with it goes wrong with its streams.
    _driver: JoinSet<()>,
}

impl Client {
    /// Requests on the streams of one connection.
    pub(super) async fn http2(&self, host: &'static str, status: u16, paces: [Pace; STREAMS]) -> anyhow::Result<()> {
        let connection = self.http2_connection(host).await?;
        let mut streams = JoinSet::new();
        for pace in paces {
            let (client, sender) = (self.clone(), connection.sender.clone());
            streams.spawn(async move { client.stream(sender, host, status, pace).await });
        }
        while let Some(ended) = streams.join_next().await {
            ended??;
        }
        Ok(())
    }

    pub(super) async fn http2_connection(&self, host: &'static str) -> anyhow::Result<Connection> {
        let stream = self.connect(host).await?;
        let builder = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake(stream);
        let (sender, connection) = builder.await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Ok(Connection {
            sender,
            _driver: driver,
        })
    }

    async fn stream(
        &self,
        mut sender: SendRequest<Bytes>,
        host: &str,
        status: u16,
        mut pace: Pace,
    ) -> anyhow::Result<()> {
        let uri = format!("https://{host}/");
        while self.tally.goes_on() {
            let began = pace.due().await;
            let mut body = get(&mut sender, &uri, status).await?;
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk?.len())?;
            }
            self.tally.done(1, began);
        }
        Ok(())
    }
}

/// A request and the head of its response. The body is the caller's to read.
pub(super) async fn get(sender: &mut SendRequest<Bytes>, uri: &str, status: u16) -> anyhow::Result<RecvStream> {
    *sender = sender.clone().ready().await?;
    let request = Request::get(uri).header("user-agent", "bench").body(())?;
    let (response, _) = sender.send_request(request, true)?;
    let (head, body) = response.await?.into_parts();
    ensure!(
        head.status.as_u16() == status,
        "{uri} answers {}, not {status}",
        head.status
    );
    Ok(body)
}
