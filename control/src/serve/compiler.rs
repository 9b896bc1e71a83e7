//! What each proxy is to be served, computed once per generation and kind of proxy.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use mesh::{
    bundle::Bundle,
    xds::ads::{Encoding, ResourceSet},
};
use tokio::sync::{Semaphore, watch};

use crate::node::Node;

/// Where bundles come from: everything that was configured at one moment.
pub trait Source: Send + Sync + 'static {
    /// What a proxy is configured with. Pure, and may take a while.
    fn compile(&self, node: &Node) -> Bundle;
}

/// A source, and which one it is in their order.
#[derive(Clone)]
pub struct Generation {
    /// Grows with every change.
    pub number: u64,
    /// What is compiled from.
    pub source: Arc<dyn Source>,
}

/// Compiles.
pub(super) struct Compiler {
    generations: watch::Receiver<Generation>,
    cache: Mutex<Cache>,
    /// Bounds the cores that are busy compiling.
    cores: Semaphore,
}

/// The last encoding for each kind of proxy, and of which generation it is. Those of earlier ones are what the next share with.
#[derive(Default)]
struct Cache {
    generation: u64,
    encodings: HashMap<Node, (u64, Arc<Encoding>)>,
}

/// Descriptions of proxies remembered; replicas of a workload differ in their addresses only.
const MAX_CACHED: usize = 4096;
/// Generations after which a kind of proxy that did not ask again is forgotten.
const STALE: u64 = 16;

impl Compiler {
    pub(super) fn new(generations: watch::Receiver<Generation>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            generations,
            cache: Mutex::default(),
            cores: Semaphore::new(cores),
        }
    }

    /// Generations as they come.
    pub(super) fn generations(&self) -> watch::Receiver<Generation> {
        self.generations.clone()
    }

    /// The set for a node. `None`: compiling failed, which was logged; what the proxy has stays.
    pub(super) async fn compile(&self, generation: &Generation, node: &Node) -> Option<Arc<ResourceSet>> {
        if let Some(set) = self.cached(generation.number, node) {
            return Some(set);
        }
        let _permit = self.cores.acquire().await.ok()?;
        if let Some(set) = self.cached(generation.number, node) {
            return Some(set);
        }
        let (source, asking) = (Arc::clone(&generation.source), node.clone());
        let former = self.former(node);
        let compiled = tokio::task::spawn_blocking(move || former.followed_by(source.compile(&asking))).await;
        let encoding = compiled
            .inspect_err(|error| tracing::error!(?node, %error, "compiling failed; the proxy keeps what it has"))
            .ok()?;
        Some(self.remember(generation.number, node, Arc::new(encoding)))
    }

    /// The last encoding for a node, of whatever generation.
    fn former(&self, node: &Node) -> Arc<Encoding> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cache.encodings.get(node);
        known.map_or_else(Arc::default, |(_, encoding)| Arc::clone(encoding))
    }

    fn cached(&self, generation: u64, node: &Node) -> Option<Arc<ResourceSet>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, encoding) = cache.encodings.get(node)?;
        (*of == generation).then(|| Arc::clone(encoding.set()))
    }

    fn remember(&self, generation: u64, node: &Node, encoding: Arc<Encoding>) -> Arc<ResourceSet> {
        let set = Arc::clone(encoding.set());
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if generation > cache.generation {
            cache.generation = generation;
            cache.encodings.retain(|_, (of, _)| *of + STALE > generation);
        }
        if cache.encodings.len() >= MAX_CACHED {
            cache.encodings.clear();
        }
        if generation == cache.generation {
            cache.encodings.insert(node.clone(), (generation, encoding));
        }
        set
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
