//! Moves messages between the state machine, the wire and whoever runs the configuration.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh::{
    bundle::Bundle,
    xds::ads::{
        MAX_MESSAGE, Name, Node, Rejection,
        client::{Client, Delta, Offer, Outside, Protocol, Received, SecretClient, Sotw, Wants},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{State, backoff::Backoff, sds, transport::Connector};
use crate::tls::secrets::Feed;

/// Whoever runs a configuration.
pub(crate) trait Apply: Send + 'static {
    /// Makes a bundle the configuration in force, or says which resources it cannot take.
    fn apply(&mut self, bundle: Arc<Bundle>) -> impl Future<Output = Result<(), Vec<Rejection>>> + Send;
}

/// The method that speaks a protocol.
pub(super) trait Method: Protocol {
    fn call(
        service: AggregatedDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Response>>, Status>> + Send;
}

pub(super) struct Driver<P, A> {
    client: Client<P>,
    node: Node,
    connector: Connector,
    apply: A,
    state: watch::Sender<State>,
    /// What others than the control plane's own resources want of it.
    outside: watch::Receiver<Arc<Outside>>,
    /// The secrets that it is asked for.
    secrets: SecretClient<P>,
    feed: Arc<Feed>,
    wanted: watch::Receiver<BTreeSet<Name>>,
    /// This stream knows who we are.
    introduced: bool,
}

/// Requests that wait for the connection. More than one response's answer and the first ones of a stream never wait.
pub(super) const QUEUE: usize = 16;
/// Bound on a connection attempt, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Bound on opening a stream, and on handing over a request.
pub(super) const HAND_OVER: Duration = Duration::from_secs(15);
/// Time between signs of life on a quiet connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time to answer one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

impl Method for Delta {
    async fn call(
        mut service: AggregatedDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        service.delta_aggregated_resources(requests).await
    }
}

impl Method for Sotw {
    async fn call(
        mut service: AggregatedDiscoveryServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> Result<Response<Streaming<Self::Response>>, Status> {
        service.stream_aggregated_resources(requests).await
    }
}

impl<P: Method, A: Apply> Driver<P, A> {
    pub(super) fn new(
        (node, wants): (Node, Wants),
        connector: Connector,
        apply: A,
        (outside, feed): (watch::Receiver<Arc<Outside>>, Arc<Feed>),
        state: watch::Sender<State>,
    ) -> Self {
        Self {
            client: Client::new(wants),
            node,
            connector,
            apply,
            state,
            outside,
            secrets: SecretClient::default(),
            wanted: feed.wanted(),
            feed,
            introduced: false,
        }
    }

    /// Keeps a stream open, for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            self.await_interest().await;
            let mut answered = false;
            let error = match self.session(&mut answered).await {
                Ok(()) => "the control plane ended the stream".to_owned(),
                Err(status) => describe(&status),
            };
            if answered {
                backoff = Backoff::new();
            }
            let wait = backoff.advance(rand::random());
            tracing::warn!(
                server = self.connector.server(),
                error,
                ?wait,
                "no control plane; what runs stays as it is"
            );
            self.state.send_modify(|state| {
                state.connected = false;
                state.last_error = Some(error);
            });
            sleep(wait).await;
        }
    }

    /// One stream, from its connection to its end. `answered`: the control plane sent something.
    async fn session(&mut self, answered: &mut bool) -> Result<(), Status> {
        let channel = connect(&self.connector).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        self.introduced = false;
        let mut first = self.client.connect();
        first.extend(self.secrets.connect(self.wanted.borrow_and_update().clone()));
        self.send(&requests, first).await?;
        let service = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let opened = timeout(HAND_OVER, P::call(service, ReceiverStream::new(queue))).await;
        let mut responses = opened
            .map_err(|_| Status::deadline_exceeded("the stream was not opened"))??
            .into_inner();
        self.state.send_modify(|state| state.connected = true);
        tracing::info!(server = self.connector.server(), "following the control plane");
        loop {
            let due = tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => {
                        *answered = true;
                        self.digest(response).await?
                    }
                    None => return Ok(()),
                },
                outside = changed(&mut self.outside) => self.client.point_at(outside),
                names = changed(&mut self.wanted) => self.secrets.want(names).into_iter().collect(),
            };
            self.send(&requests, due).await?;
        }
    }

    /// Waits until there is anything to ask the control plane for.
    async fn await_interest(&mut self) {
        loop {
            let outside = self.outside.borrow_and_update().clone();
            // Nothing is open on which the requests would be due.
            let _ = self.client.point_at(outside);
            if self.client.is_interested() || !self.wanted.borrow_and_update().is_empty() {
                return;
            }
            tokio::select! {
                Ok(()) = self.outside.changed() => {}
                Ok(()) = self.wanted.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Hands over requests; the first one of a stream says who we are.
    async fn send(&mut self, queue: &mpsc::Sender<P::Request>, requests: Vec<P::Request>) -> Result<(), Status> {
        for mut request in requests {
            if !std::mem::replace(&mut self.introduced, true) {
                P::set_node(&mut request, self.node.clone());
            }
            let sent = timeout(HAND_OVER, queue.send(request)).await;
            let sent = sent.map_err(|_| Status::deadline_exceeded("the control plane does not read"))?;
            sent.map_err(|_| Status::unavailable("the stream has ended"))?;
        }
        Ok(())
    }

    /// Applies what a response brings; returns the answer.
    async fn digest(&mut self, response: P::Response) -> Result<Vec<P::Request>, Status> {
        if SecretClient::<P>::is_for(&response) {
            return Ok(sds::take(&mut self.secrets, &self.feed, response)?
                .into_iter()
                .collect());
        }
        let received = self.client.receive(response);
        match received.map_err(|error| Status::invalid_argument(error.to_string()))? {
            Received::UnknownType(type_url) => {
                tracing::debug!(type_url, "a type that was not asked for");
                Ok(Vec::new())
            }
            Received::Offer(offer) => Ok(self.take(*offer).await),
        }
    }

    /// Applies an offer, without what cannot be applied.
    async fn take(&mut self, mut offer: Offer) -> Vec<P::Request> {
        while self.client.is_news(&offer) {
            match self.apply.apply(Arc::clone(offer.bundle())).await {
                Ok(()) => break,
                Err(rejections) => self.client.reject(&mut offer, rejections),
            }
        }
        for rejection in offer.rejections() {
            tracing::warn!(%rejection, "refused a resource; its last good version stays");
        }
        let (resource_type, rejections) = (offer.resource_type(), offer.rejections().to_vec());
        let requests = self.client.conclude(offer);
        self.state.send_modify(|state| {
            state.complete = self.client.is_complete();
            state.warming = self.client.warming();
            state
                .refused
                .retain(|rejection| rejection.resource_type != resource_type);
            state.refused.extend(rejections);
        });
        requests
    }
}

pub(super) async fn connect(connector: &Connector) -> Result<Channel, Status> {
    let endpoint = connector
        .endpoint()
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connecting = timeout(CONNECT, endpoint.connect_with_connector(connector.clone()));
    let connected = connecting
        .await
        .map_err(|_| Status::deadline_exceeded("connecting took too long"))?;
    connected.map_err(|error| Status::from_error(Box::new(error)))
}

/// The next value. For ever, if there is none to come.
pub(super) async fn changed<T: Clone>(values: &mut watch::Receiver<T>) -> T {
    match values.changed().await {
        Ok(()) => values.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

/// What tonic says of every failed connection, next to the cause.
const NOISE: &str = "transport error";

/// A status with its causes, which tonic keeps apart.
pub(super) fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if said != NOISE && !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
