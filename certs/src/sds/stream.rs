//! One stream: what its client asks for, now and after each change.

use std::sync::Arc;

use mesh::xds::{
    ResourceType,
    ads::{
        ResourceSet,
        server::{Received, Server},
    },
};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

/// Serves until the client leaves or breaks the rules, or `closed` resolves.
pub(super) async fn run<S: Server>(
    requests: Streaming<S::Request>,
    responses: mpsc::Sender<Result<S::Response, Status>>,
    sets: watch::Receiver<Arc<ResourceSet>>,
    closed: impl Future<Output = ()>,
) {
    let end = tokio::select! {
        end = serve::<S>(requests, &responses, sets) => end,
        () = closed => Some(Status::unavailable("the server is shutting down")),
    };
    if let Some(status) = end {
        tracing::debug!(%status, "ending a stream of secrets");
        // Nobody is left to tell if the queue is full or closed.
        let _ = responses.try_send(Err(status));
    }
}

async fn serve<S: Server>(
    mut requests: Streaming<S::Request>,
    responses: &mpsc::Sender<Result<S::Response, Status>>,
    mut sets: watch::Receiver<Arc<ResourceSet>>,
) -> Option<Status> {
    let mut machine = S::default();
    let mut idle = true;
    loop {
        tokio::select! {
            biased;
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    if let Err(status) = receive(&mut machine, request) {
                        return Some(status);
                    }
                }
                Ok(None) | Err(_) => return None,
            },
            changed = sets.changed() => {
                if changed.is_err() {
                    return Some(Status::unavailable("there will be no more changes"));
                }
            }
            permit = responses.reserve(), if !idle => {
                let Ok(permit) = permit else { return None };
                let set = sets.borrow_and_update().clone();
                match machine.next(&set) {
                    Some(response) => permit.send(Ok(response)),
                    None => idle = true,
                }
                continue;
            }
        }
        idle = false;
    }
}

fn receive<S: Server>(machine: &mut S, request: S::Request) -> Result<(), Status> {
    let received = machine.receive(request);
    match received.map_err(|error| Status::invalid_argument(error.to_string()))? {
        Received::Nack(_, reason) => {
            tracing::warn!(reason, "a proxy refused a secret");
            Ok(())
        }
        Received::Subscription(ResourceType::Secret) | Received::Ack(ResourceType::Secret) | Received::Stale(_) => {
            Ok(())
        }
        Received::Subscription(_) | Received::Ack(_) | Received::UnknownType(_) => Err(Status::invalid_argument(
            format!("this service has only {}", ResourceType::Secret.type_url()),
        )),
    }
}
