//! A control plane and secret discovery service that serves whatever a test says, good or bad, on a Unix socket.

use std::{path::Path, sync::Arc};

use envoy_types::pb::envoy::service::{
    discovery::v3::aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    },
    secret::v3::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer},
};
use mesh::{
    secret::Secret,
    xds::{
        ResourceType,
        ads::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Entry, ResourceSet,
            server::{DeltaServer, Received, Server as Machine, SotwServer},
        },
    },
};
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What clients are served, and what they refused.
pub(crate) struct Server {
    sets: watch::Sender<Arc<ResourceSet>>,
    refusals: mpsc::Receiver<String>,
}

#[derive(Clone)]
struct Service {
    sets: watch::Receiver<Arc<ResourceSet>>,
    refusals: mpsc::Sender<String>,
}

type Responses<T> = ReceiverStream<Result<T, Status>>;

impl Server {
    pub(crate) fn start(socket: &Path) -> Self {
        let (sets, watched) = watch::channel(Arc::default());
        let (said, refusals) = mpsc::channel(64);
        let service = Service {
            sets: watched,
            refusals: said,
        };
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(SecretDiscoveryServiceServer::new(service.clone()))
            .add_service(AggregatedDiscoveryServiceServer::new(service));
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { sets, refusals }
    }

    /// Serves these from now on.
    pub(crate) fn serve(&self, secrets: &[Secret]) {
        let entries = secrets
            .iter()
            .map(|secret| (ResourceType::Secret, Arc::new(Entry::secret(secret))));
        self.sets.send_replace(Arc::new(ResourceSet::new(entries)));
    }

    /// The next refusal.
    pub(crate) async fn refusal(&mut self) -> String {
        crate::support::soon(self.refusals.recv()).await.unwrap()
    }
}

impl Service {
    fn open<S: Machine>(&self, request: Request<Streaming<S::Request>>) -> Response<Responses<S::Response>> {
        let (responses, queue) = mpsc::channel(2);
        let service = self.clone();
        tokio::spawn(async move { service.run::<S>(request.into_inner(), responses).await });
        Response::new(ReceiverStream::new(queue))
    }

    async fn run<S: Machine>(
        mut self,
        mut requests: Streaming<S::Request>,
        responses: mpsc::Sender<Result<S::Response, Status>>,
    ) {
        let mut machine = S::default();
        loop {
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    if let Received::Nack(_, reason) = machine.receive(request).unwrap() {
                        self.refusals.send(reason).await.unwrap();
                    }
                }
                changed = self.sets.changed() => if changed.is_err() { return },
            }
            let set = self.sets.borrow_and_update().clone();
            while let Some(response) = machine.next(&set) {
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        }
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
        Ok(self.open::<SotwServer>(request))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(self.open::<DeltaServer>(request))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("fetch"))
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
        Ok(self.open::<SotwServer>(request))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.open::<DeltaServer>(request))
    }
}
