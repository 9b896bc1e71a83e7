//! What each proxy is to be served, computed once per generation and kind of proxy.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use mesh::{bundle::Bundle, xds::ads::ResourceSet};
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

#[derive(Default)]
struct Cache {
    generation: u64,
    sets: HashMap<Node, Arc<ResourceSet>>,
}

/// Descriptions of proxies remembered; replicas of a workload differ in their addresses only.
const MAX_CACHED: usize = 4096;

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
        let compiled = tokio::task::spawn_blocking(move || ResourceSet::encode(source.compile(&asking))).await;
        let set = compiled
            .inspect_err(|error| tracing::error!(?node, %error, "compiling failed; the proxy keeps what it has"))
            .ok()?;
        Some(self.remember(generation.number, node, Arc::new(set)))
    }

    fn cached(&self, generation: u64, node: &Node) -> Option<Arc<ResourceSet>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        (cache.generation == generation).then(|| cache.sets.get(node).cloned())?
    }

    fn remember(&self, generation: u64, node: &Node, set: Arc<ResourceSet>) -> Arc<ResourceSet> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if generation > cache.generation || cache.sets.len() >= MAX_CACHED {
            *cache = Cache {
                generation,
                sets: HashMap::new(),
            };
        }
        if generation == cache.generation {
            cache.sets.insert(node.clone(), Arc::clone(&set));
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
