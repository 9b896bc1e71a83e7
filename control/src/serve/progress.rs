//! Who is connected, and how far each of them is.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh::{
    id::SpiffeId,
    xds::ads::server::{Refusal, Report, Status},
};
use tokio::sync::watch;

/// A connected proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its node id.
    pub node: String,
    /// Who it proved to be; `None` on a plaintext connection.
    pub identity: Option<SpiffeId>,
    /// The generation that [`Self::status`] is about.
    pub generation: u64,
    /// Where it stands in respect of that.
    pub status: Status,
    /// The same, type by type.
    pub reports: Vec<Report>,
}

/// A proxy does not run what it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node} refused a part of its configuration: {}", texts(.refusals))]
pub struct NotAcknowledged {
    /// The proxy's node id.
    pub node: String,
    /// What it refused, and why.
    pub refusals: Vec<Refusal>,
}

/// All connected proxies. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    connected: Arc<watch::Sender<BTreeMap<u64, Proxy>>>,
    numbers: Arc<AtomicU64>,
}

/// A proxy's entry; ends with it.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    proxies: Proxies,
}

impl Proxies {
    /// Adds a proxy that was sent nothing yet.
    pub(super) fn enter(&self, node: String, identity: Option<SpiffeId>) -> Entry {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let proxy = Proxy {
            node,
            identity,
            generation: 0,
            status: Status::Pending,
            reports: Vec::new(),
        };
        self.connected
            .send_modify(|connected| drop(connected.insert(number, proxy)));
        Entry {
            number,
            proxies: self.clone(),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<Proxy> {
        self.connected.borrow().values().cloned().collect()
    }

    /// Waits until every proxy (with this node id, of which there is at least one) took `generation` or a later one.
    pub(super) async fn acknowledged(&self, generation: u64, node: Option<&str>) -> Result<(), NotAcknowledged> {
        let mut changes = self.connected.subscribe();
        loop {
            if let Some(outcome) = judge(&changes.borrow_and_update(), generation, node) {
                return outcome;
            }
            // We hold a sender, so there is always another change to wait for.
            let _ = changes.changed().await;
        }
    }
}

/// `None`: it cannot be told yet.
fn judge(connected: &BTreeMap<u64, Proxy>, generation: u64, node: Option<&str>) -> Option<Result<(), NotAcknowledged>> {
    let mut missing = node.is_some();
    let mut pending = false;
    for proxy in connected
        .values()
        .filter(|proxy| node.is_none_or(|node| proxy.node == node))
    {
        missing = false;
        match &proxy.status {
            _ if proxy.generation < generation => pending = true,
            Status::Pending => pending = true,
            Status::Acknowledged => {}
            Status::Rejected(refusals) => {
                return Some(Err(NotAcknowledged {
                    node: proxy.node.clone(),
                    refusals: refusals.clone(),
                }));
            }
        }
    }
    (!pending && !missing).then_some(Ok(()))
}

impl Entry {
    /// Notes where the proxy stands.
    pub(super) fn update(&self, generation: u64, status: Status, reports: Vec<Report>) {
        self.proxies.connected.send_if_modified(|connected| {
            let Some(proxy) = connected.get_mut(&self.number) else {
                return false;
            };
            let changed = proxy.generation != generation || proxy.status != status || proxy.reports != reports;
            (proxy.generation, proxy.status, proxy.reports) = (generation, status, reports);
            changed
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.proxies
            .connected
            .send_modify(|connected| drop(connected.remove(&self.number)));
    }
}

fn texts(refusals: &[Refusal]) -> impl fmt::Display {
    let texts: Vec<_> = refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
    texts.join("; ")
}
