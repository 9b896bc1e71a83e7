//! Follows the secrets of one service, for as long as anything is wanted of it.

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use mesh::xds::ads::{
    Name, Node,
    client::{Delta, Protocol, SecretClient, Sotw},
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{
    backoff::Backoff,
    driver::{HAND_OVER, QUEUE, changed, connect, describe},
    transport::Connector,
};
use crate::tls::secrets::Feed;

/// The method that speaks a protocol.
pub(super) trait Method: Protocol {
    fn call(
        service: SecretDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Response>>, Status>> + Send;
}

impl Method for Sotw {
    async fn call(
        mut service: SecretDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        service.stream_secrets(requests).await
    }
}

impl Method for Delta {
    async fn call(
        mut service: SecretDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        service.delta_secrets(requests).await
    }
}

pub(super) struct Driver<P> {
    client: SecretClient<P>,
    node: Node,
    connector: Connector,
    feed: Arc<Feed>,
    wanted: watch::Receiver<BTreeSet<Name>>,
}

/// Largest response: the public web's roots have about 250 KiB.
const MAX_RESPONSE: usize = 4 << 20;

impl<P: Method> Driver<P> {
    pub(super) fn new(node: Node, connector: Connector, feed: Arc<Feed>) -> Self {
        Self {
            client: SecretClient::default(),
            node,
            connector,
            wanted: feed.wanted(),
            feed,
        }
    }

    /// Keeps a stream open while anything is wanted, for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        // The sender is the feed's, which we hold.
        while self.wanted.wait_for(|names| !names.is_empty()).await.is_ok() {
            let mut answered = false;
            let error = match self.session(&mut answered).await {
                Ok(()) => "the service ended the stream".to_owned(),
                Err(status) => describe(&status),
            };
            if answered {
                backoff = Backoff::new();
            }
            let wait = backoff.advance(rand::random());
            let (source, server) = (self.feed.source(), self.connector.server());
            tracing::warn!(%source, server, error, ?wait, "no secrets are served; those that are there stay");
            sleep(wait).await;
        }
    }

    /// One stream, from its connection to its end. `answered`: the service sent something.
    async fn session(&mut self, answered: &mut bool) -> Result<(), Status> {
        let channel = connect(&self.connector).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let names = self.wanted.borrow_and_update().clone();
        let Some(mut first) = self.client.connect(names) else {
            return Ok(());
        };
        P::set_node(&mut first, self.node.clone());
        send(&requests, first).await?;
        let service = SecretDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let opened = timeout(HAND_OVER, P::call(service, ReceiverStream::new(queue))).await;
        let mut responses = opened
            .map_err(|_| Status::deadline_exceeded("the stream was not opened"))??
            .into_inner();
        tracing::info!(source = %self.feed.source(), server = self.connector.server(), "following secrets");
        loop {
            let due = tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => {
                        *answered = true;
                        take(&mut self.client, &self.feed, response)?
                    }
                    None => return Ok(()),
                },
                names = changed(&mut self.wanted) => self.client.want(names),
            };
            if let Some(request) = due {
                send(&requests, request).await?;
            }
        }
    }
}

/// Hands what a response brings to a feed; returns the answer.
pub(super) fn take<P: Protocol>(
    client: &mut SecretClient<P>,
    feed: &Feed,
    response: P::Response,
) -> Result<Option<P::Request>, Status> {
    if !SecretClient::<P>::is_for(&response) {
        tracing::debug!(source = %feed.source(), "a type that was not asked for");
        return Ok(None);
    }
    let offer = client.receive(response);
    let mut offer = offer.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let refuse = |secret: &mesh::secret::Secret| Some((Name::from(secret.name.as_str()), feed.take(secret).err()?));
    let refused: Vec<_> = offer.secrets().iter().filter_map(refuse).collect();
    for (name, reason) in refused {
        offer.refuse(name, reason);
    }
    for rejection in offer.rejections() {
        tracing::warn!(%rejection, source = %feed.source(), "refused a secret; its last good version stays");
    }
    Ok(Some(client.conclude(offer)))
}

async fn send<T>(queue: &mpsc::Sender<T>, request: T) -> Result<(), Status> {
    let sent = timeout(HAND_OVER, queue.send(request)).await;
    let sent = sent.map_err(|_| Status::deadline_exceeded("the service does not read"))?;
    sent.map_err(|_| Status::unavailable("the stream has ended"))
}
