//! One proxy's stream, from its first request to its end.

use std::{sync::Arc, time::Duration};

use mesh::xds::ads::{
    ResourceSet,
    server::{Received, Server},
};
use tokio::{
    sync::{
        mpsc::{self, Permit},
        watch,
    },
    time::timeout,
};
use tonic::{Status, Streaming};

use super::{
    accept::Peer,
    compiler::{Compiler, Generation},
    progress::{Entry, Proxies},
};
use crate::node::{Node, NodeError};

pub(super) struct Stream<S: Server> {
    requests: Streaming<S::Request>,
    responses: mpsc::Sender<Result<S::Response, Status>>,
    compiler: Arc<Compiler>,
    proxies: Proxies,
}

/// Time for a client to say who it is.
const FIRST_REQUEST: Duration = Duration::from_secs(15);

/// An authenticated proxy.
struct Client<S> {
    machine: S,
    node: Node,
    id: String,
    entry: Entry,
    generations: watch::Receiver<Generation>,
    /// What it should hold, and of which generation that is.
    set: Arc<ResourceSet>,
    generation: u64,
    /// Nothing is due.
    idle: bool,
}

impl<S: Server> Stream<S> {
    pub(super) fn new(
        requests: Streaming<S::Request>,
        responses: mpsc::Sender<Result<S::Response, Status>>,
        compiler: Arc<Compiler>,
        proxies: Proxies,
    ) -> Self {
        Self {
            requests,
            responses,
            compiler,
            proxies,
        }
    }

    /// Serves until the client leaves, breaks the rules, outlives its certificate, or `closed` resolves.
    pub(super) async fn run(mut self, peer: Peer, closed: impl Future<Output = ()> + Send) {
        let lifetime = peer.clone().lifetime();
        let end = tokio::select! {
            end = self.serve(peer) => end,
            () = closed => Some(Status::unavailable("the server is shutting down")),
            () = lifetime => Some(Status::unauthenticated("the certificate of this connection has expired")),
        };
        if let Some(status) = end {
            tracing::debug!(%status, "ending a configuration stream");
            // Nobody is left to tell if the queue is full or closed.
            let _ = self.responses.try_send(Err(status));
        }
    }

    async fn serve(&mut self, peer: Peer) -> Option<Status> {
        match self.admit(peer).await {
            Ok(client) => self.follow(client).await,
            Err(status) => Some(status),
        }
    }

    /// Waits for the first request, and finds out who is asking.
    async fn admit(&mut self, peer: Peer) -> Result<Client<S>, Status> {
        let first = timeout(FIRST_REQUEST, self.requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no request was sent"))??;
        let mut first = first.ok_or_else(|| Status::cancelled("no request was sent"))?;
        let described = S::take_node(&mut first).ok_or(NodeError::Missing);
        let described = described.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = Node::parse(&described).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(identity) = peer.identity() {
            node.authorize(identity).map_err(|error| {
                tracing::warn!(node = described.id, %identity, "a proxy asked for what is not its own");
                Status::permission_denied(error.to_string())
            })?;
        }
        let entry = self.proxies.enter(described.id.clone(), peer.identity().cloned());
        let mut client = Client {
            machine: S::default(),
            node,
            id: described.id,
            entry,
            generations: self.compiler.generations(),
            set: Arc::default(),
            generation: 0,
            idle: false,
        };
        tracing::info!(node = client.id, "proxy connected");
        client.recompile(&self.compiler).await;
        client.receive(first)?;
        Ok(client)
    }

    async fn follow(&mut self, mut client: Client<S>) -> Option<Status> {
        loop {
            tokio::select! {
                biased;
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = client.receive(request) {
                            return Some(status);
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(node = client.id, %status, "proxy left");
                        return None;
                    }
                },
                changed = client.generations.changed() => {
                    if changed.is_err() {
                        return Some(Status::unavailable("there will be no more changes"));
                    }
                    client.recompile(&self.compiler).await;
                }
                permit = self.responses.reserve(), if !client.idle => match permit {
                    Ok(permit) => client.send(permit),
                    Err(_) => return None,
                },
            }
        }
    }
}

impl<S: Server> Client<S> {
    /// Makes the current generation what the proxy should hold.
    async fn recompile(&mut self, compiler: &Compiler) {
        let generation = self.generations.borrow_and_update().clone();
        if let Some(set) = compiler.compile(&generation, &self.node).await {
            self.set = set;
            self.generation = generation.number;
            self.idle = false;
        }
    }

    fn receive(&mut self, request: S::Request) -> Result<(), Status> {
        let received = self.machine.receive(request);
        match received.map_err(|error| Status::invalid_argument(error.to_string()))? {
            Received::Nack(resource_type, reason) => {
                tracing::warn!(node = self.id, %resource_type, reason, "proxy refused configuration");
            }
            Received::UnknownType(type_url) => tracing::debug!(node = self.id, type_url, "type is not served"),
            Received::Subscription(_) | Received::Ack(_) | Received::Stale(_) => {}
        }
        self.idle = false;
        Ok(())
    }

    fn send(&mut self, permit: Permit<'_, Result<S::Response, Status>>) {
        match self.machine.next(&self.set) {
            Some(response) => permit.send(Ok(response)),
            None => {
                self.idle = true;
                let status = self.machine.status(&self.set);
                self.entry.update(self.generation, status, self.machine.report());
            }
        }
    }
}
