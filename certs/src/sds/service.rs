//! The gRPC service.

use std::sync::Arc;

use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use mesh::xds::ads::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, ResourceSet,
    server::{DeltaServer, Server, SotwServer},
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{stream, wait_for};

/// What a stream of responses is made of.
type Responses<T> = ReceiverStream<Result<T, Status>>;

pub(super) struct Service {
    sets: watch::Receiver<Arc<ResourceSet>>,
    closed: watch::Receiver<bool>,
    rooms: Arc<Semaphore>,
}

/// Responses that wait for the connection. Everything else waits in the state machine, where changes coalesce.
const QUEUE: usize = 2;
/// Streams at a time, of all connections.
const MAX_STREAMS: usize = 512;
/// Largest request, in bytes: a few names and the description of a proxy.
const MAX_REQUEST: usize = 64 << 10;
/// Largest response, in bytes: the system's roots have about 250 KiB.
const MAX_RESPONSE: usize = 4 << 20;

impl Service {
    pub(super) fn new(sets: watch::Receiver<Arc<ResourceSet>>, closed: watch::Receiver<bool>) -> Self {
        Self {
            sets,
            closed,
            rooms: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    pub(super) fn into_grpc(self) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(self)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_RESPONSE)
    }

    fn open<S: Server>(
        &self,
        request: Request<Streaming<S::Request>>,
    ) -> Result<Response<Responses<S::Response>>, Status> {
        let room = self.rooms.clone().try_acquire_owned();
        let room = room.map_err(|_| Status::resource_exhausted(format!("{MAX_STREAMS} streams are open")))?;
        let (responses, queue) = mpsc::channel(QUEUE);
        let (sets, closed) = (self.sets.clone(), wait_for(self.closed.clone()));
        // Ends with the server, and with its client.
        tokio::spawn(async move {
            stream::run::<S>(request.into_inner(), responses, sets, closed).await;
            drop(room);
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Responses<DiscoveryResponse>;
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.open::<SotwServer>(request)
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        self.open::<DeltaServer>(request)
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(
            "secrets are streamed: StreamSecrets or DeltaSecrets",
        ))
    }
}
