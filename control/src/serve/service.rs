//! The gRPC service.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh::xds::ads::{
    self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    server::{DeltaServer, SotwServer},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{accept::Peer, compiler::Compiler, progress::Proxies, stream::Stream, wait_for};

/// What a stream of responses is made of.
type Responses<T> = ReceiverStream<Result<T, Status>>;

pub(super) struct Service {
    compiler: Arc<Compiler>,
    proxies: Proxies,
    closed: watch::Receiver<bool>,
}

/// Responses that wait for the connection. Everything else waits in the state machine, where changes coalesce.
const QUEUE: usize = 2;

/// Largest request: the names of one type, and what the client holds of it.
const MAX_REQUEST: usize = 16 << 20;

impl Service {
    pub(super) fn new(compiler: Arc<Compiler>, proxies: Proxies, closed: watch::Receiver<bool>) -> Self {
        Self {
            compiler,
            proxies,
            closed,
        }
    }

    pub(super) fn into_grpc(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(ads::MAX_MESSAGE)
    }

    fn open<S: ads::server::Server>(
        &self,
        request: Request<Streaming<S::Request>>,
    ) -> Result<Response<Responses<S::Response>>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
        let (responses, queue) = mpsc::channel(QUEUE);
        let stream = Stream::<S>::new(
            request.into_inner(),
            responses,
            Arc::clone(&self.compiler),
            self.proxies.clone(),
        );
        let closed = wait_for(self.closed.clone());
        tokio::spawn(stream.run(peer, closed));
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<SotwServer>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<DeltaServer>(request)
    }
}
