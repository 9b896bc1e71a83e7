//! Follows a control plane: every change it sends is applied, then acknowledged; what cannot be applied is refused by name.
//!
//! Invariants: nothing is acknowledged before it is in force; losing the control plane changes nothing that runs; after a
//! reconnect only the difference travels. Runs beside the workers, never on them.

mod backoff;
mod driver;
mod publish;
mod sds;
mod transport;

pub use mesh::xds::ads::client::Wants;
pub use transport::{Security, SettingsError, UNIX};

use std::sync::Arc;

use mesh::xds::{
    ResourceType,
    ads::{
        self, Name, Rejection,
        client::{Delta, Outside, Sotw},
    },
    bootstrap::Node,
};
use serde_json::{Map, Value};
use tokio::sync::watch;

use self::{
    driver::{Apply, Driver},
    transport::Connector,
};
use crate::tls::secrets::{Feed, Secrets};

/// How to follow a control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port` of the control plane, or `unix:` and the path of its socket.
    pub server: String,
    /// How it is known to be the right one, and we to it.
    pub security: Security,
    /// Which protocol.
    pub protocol: Protocol,
    /// What it is asked for. What listeners and clusters that come from elsewhere want of it, it is asked for anyway.
    pub wants: Wants,
    /// Our node id: `router~<address>~<pod>.<namespace>~<namespace>.svc.<domain>`.
    pub node_id: String,
    /// Our `service-cluster`, for whoever reads it.
    pub node_cluster: String,
    /// What else it should know of us: `NAMESPACE`, `LABELS`, …
    pub metadata: Map<String, Value>,
}

/// The two forms of ADS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Changes only.
    #[default]
    Delta,
    /// Everything, whenever something changes.
    StateOfTheWorld,
}

/// Where following stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// A stream is open.
    pub connected: bool,
    /// Clusters and listeners were received once and nothing waits for what it points at: the configuration is complete.
    pub complete: bool,
    /// What waits: kind and name.
    pub warming: Vec<(ResourceType, Name)>,
    /// What was refused in the last response of each type that had something to refuse.
    pub refused: Vec<Rejection>,
    /// Why the last stream ended.
    pub last_error: Option<String>,
}

/// Follows until it is dropped, telling `state`.
///
/// # Errors
/// The settings cannot work; nothing was tried.
pub(crate) fn follow<A: Apply>(
    settings: Settings,
    secrets: &Arc<Secrets>,
    apply: A,
    outside: watch::Receiver<Arc<Outside>>,
    state: watch::Sender<State>,
) -> Result<impl Future<Output = ()> + Send + 'static, SettingsError> {
    let node = ads::Node {
        id: settings.node_id,
        cluster: settings.node_cluster,
        metadata: Some(ads::struct_of(&settings.metadata)),
        ..ads::Node::default()
    };
    let connector = Connector::new(&settings.server, settings.security, secrets)?;
    let (protocol, who) = (settings.protocol, (node, settings.wants));
    let secrets = secrets.control().clone();
    Ok(async move {
        match protocol {
            Protocol::Delta => {
                let driver = Driver::<Delta, A>::new(who, connector, apply, (outside, secrets), state);
                driver.run().await;
            }
            Protocol::StateOfTheWorld => {
                let driver = Driver::<Sotw, A>::new(who, connector, apply, (outside, secrets), state);
                driver.run().await;
            }
        }
    })
}

/// Fills a feed from a secret discovery service, in plaintext on loopback or a Unix socket, until it is dropped.
///
/// # Errors
/// The address cannot work; nothing was tried.
pub(crate) fn follow_secrets(
    server: &str,
    delta: bool,
    node: &Node,
    feed: Arc<Feed>,
) -> Result<impl Future<Output = ()> + Send + 'static, SettingsError> {
    let connector = Connector::plaintext(server)?;
    let node = ads::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        metadata: Some(ads::struct_of(&node.metadata)),
        ..ads::Node::default()
    };
    Ok(async move {
        match delta {
            true => sds::Driver::<Delta>::new(node, connector, feed).run().await,
            false => sds::Driver::<Sotw>::new(node, connector, feed).run().await,
        }
    })
}
