//! Everything that is to run, from whatever source: the one place where static resources, those of files and those of a
//! control plane are put together.
//!
//! Invariants: static resources win over others of the same name, as in Envoy; a name that points at something means the
//! resource of that name *and source*; nothing is cloned for being put together.

mod files;
mod subscription;

pub(crate) use files::{Files, Moves};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use mesh::{
    ClusterName, ListenerName, RouteConfigName,
    bundle::Bundle,
    cluster::{Cluster, Endpoints},
    listener::Listener,
    route::RouteConfig,
    source::{FileSource, Source},
    xds::{ResourceType, ads::client::Outside},
};

use crate::{Rejected, Resource, snapshot::Snapshot};
use subscription::Subscription;

/// Everything that is to run.
pub(crate) struct Catalog {
    fixed: Bundle,
    listeners_from: Option<Subscription>,
    clusters_from: Option<Subscription>,
    control: Arc<Bundle>,
    files: Files,
    /// What was last said to be wrong with resources that nobody else is told of.
    reported: BTreeSet<String>,
}

/// What is to run, put together.
#[derive(Default)]
pub(crate) struct Desired<'a> {
    /// Listeners.
    pub(crate) listeners: BTreeMap<&'a ListenerName, &'a Arc<Listener>>,
    /// Clusters.
    pub(crate) clusters: BTreeMap<&'a ClusterName, &'a Arc<Cluster>>,
    /// Route configurations, by name and source.
    pub(crate) routes: BTreeMap<(&'a RouteConfigName, Origin<'a>), &'a Arc<RouteConfig>>,
    /// Endpoint resources, by name and source.
    pub(crate) endpoints: BTreeMap<(&'a ClusterName, Origin<'a>), &'a Arc<Endpoints>>,
}

/// What was rejected, by who is to be told.
#[derive(Default)]
pub(crate) struct Attributed {
    /// The control plane that sent it.
    pub(crate) control: Vec<Rejected>,
    /// Whoever starts the data plane.
    pub(crate) fixed: Vec<Rejected>,
    /// Whoever writes the files.
    pub(crate) files: Vec<Rejected>,
}

impl Attributed {
    /// Everything, when nobody waits for an answer.
    pub(crate) fn all(&self) -> Vec<Rejected> {
        self.control.iter().cloned().chain(self.others()).collect()
    }

    /// What no control plane is told of.
    pub(crate) fn others(&self) -> Vec<Rejected> {
        self.fixed.iter().chain(&self.files).cloned().collect()
    }
}

/// A [`Source`] by reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin<'a> {
    /// The control plane, or static.
    Ads,
    /// A file.
    File(&'a FileSource),
}

impl<'a> Origin<'a> {
    /// Of a source.
    pub(crate) fn of(source: &'a Source) -> Self {
        match source {
            Source::Ads => Self::Ads,
            Source::File(file) => Self::File(file),
        }
    }

    /// The source.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Ads => Source::Ads,
            Self::File(file) => Source::File(file.clone()),
        }
    }
}

impl Catalog {
    /// Of static resources, and files of listeners and of clusters.
    pub(crate) fn new(
        fixed: Bundle,
        listeners_from: Option<FileSource>,
        clusters_from: Option<FileSource>,
        files: Files,
    ) -> Self {
        let all = |kind| move |file| Subscription::all(kind, file);
        Self {
            fixed,
            listeners_from: listeners_from.map(all(ResourceType::Listener)),
            clusters_from: clusters_from.map(all(ResourceType::Cluster)),
            control: Arc::default(),
            files,
            reported: BTreeSet::new(),
        }
    }

    /// Takes what a control plane sends, in place of what it sent before.
    pub(crate) fn take(&mut self, control: Arc<Bundle>) {
        self.control = control;
    }

    /// Reads the files that are pointed at and were not read yet, and forgets those that nothing points at any more.
    /// `running`: what was in force so far, which stays where its successor cannot be taken.
    pub(crate) async fn read(&mut self, running: &Snapshot) {
        let roots = self.listeners_from.iter().chain(&self.clusters_from);
        self.files.ensure(roots.cloned().collect()).await;
        let pointed_at = self.pointed_at(running);
        self.files.ensure(pointed_at.clone()).await;
        let roots = [&self.listeners_from, &self.clusters_from];
        self.files
            .retain(|held| pointed_at.contains(held) || roots.contains(&&Some(held.clone())));
    }

    /// Reads again what was moved. Whether anything changed.
    pub(crate) async fn reread(&mut self, moved: Option<&BTreeSet<PathBuf>>) -> bool {
        self.files.reread(moved).await
    }

    /// Files that are not there or cannot be watched.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.files.missing()
    }

    /// The same, and files that say something that cannot be taken.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.files.problems()
    }

    /// Everything put together.
    pub(crate) fn desired(&self) -> Desired<'_> {
        let files = [&self.listeners_from, &self.clusters_from];
        let files = files.into_iter().flatten().filter_map(|file| self.files.get(file));
        // Of what has the same name the last counts.
        let bundles: Vec<&Bundle> = [&*self.control].into_iter().chain(files).chain([&self.fixed]).collect();
        let of_control = bundles.iter().map(|bundle| (Origin::Ads, *bundle));
        let pointed_at: Vec<_> = of_control.chain(self.files.pointed_at()).collect();
        // Collecting sorted runs merges them, which inserting one by one would not.
        Desired {
            listeners: bundles.iter().flat_map(|bundle| &bundle.listeners).collect(),
            clusters: bundles.iter().flat_map(|bundle| &bundle.clusters).collect(),
            routes: Desired::by_origin(&pointed_at, |bundle| &bundle.routes),
            endpoints: Desired::by_origin(&pointed_at, |bundle| &bundle.endpoints),
        }
    }

    /// What static listeners and clusters, and those of files, want of the control plane.
    pub(crate) fn outside(&self, running: &Snapshot) -> Outside {
        let mut outside = Outside::default();
        let desired = self.desired();
        let theirs = |resource, name: &str| self.is_controls(resource, name);
        let listeners = running.listeners().map(|listener| listener.settings());
        for listener in listeners.chain(desired.listeners.values().copied()) {
            if !theirs(Resource::Listener, listener.name.as_str()) {
                let routes = listener.routes().filter(|(_, source)| **source == Source::Ads);
                outside.routes.extend(routes.map(|(name, _)| name.clone()));
            }
        }
        let clusters = running.clusters().map(|cluster| cluster.settings());
        for cluster in clusters.chain(desired.clusters.values().copied()) {
            if !theirs(Resource::Cluster, cluster.name.as_str()) {
                let endpoints = cluster.endpoints().filter(|(_, source)| **source == Source::Ads);
                outside.endpoints.extend(endpoints.map(|(name, _)| name.clone()));
            }
        }
        outside
    }

    /// Splits what was rejected by who is to be told.
    pub(crate) fn attribute(&self, rejected: Vec<(Source, Rejected)>) -> Attributed {
        let mut attributed = Attributed::default();
        for (source, rejected) in rejected {
            let controls = source == Source::Ads && self.is_controls(rejected.resource, &rejected.name);
            let whose = match source {
                _ if controls => &mut attributed.control,
                Source::Ads if self.is_fixed(rejected.resource, &rejected.name) => &mut attributed.fixed,
                Source::Ads | Source::File(_) => &mut attributed.files,
            };
            whose.push(rejected);
        }
        attributed
    }

    /// Says what is wrong with resources that are not the control plane's; once.
    pub(crate) fn report(&mut self, rejected: &[Rejected]) {
        let said: BTreeSet<String> = rejected.iter().map(ToString::to_string).collect();
        for rejected in said.difference(&self.reported) {
            tracing::error!(
                rejected,
                "a resource cannot be used; its last good version stays in force"
            );
        }
        self.reported = said;
    }

    /// Whether a resource is the control plane's: it is neither static nor in a file of all resources of its kind.
    fn is_controls(&self, resource: Resource, name: &str) -> bool {
        let from = match resource {
            Resource::Listener => &self.listeners_from,
            Resource::Cluster => &self.clusters_from,
            Resource::Routes | Resource::Endpoints => &None,
        };
        let file = from.as_ref().and_then(|from| self.files.get(from));
        !self.is_fixed(resource, name) && !file.is_some_and(|file| has(file, resource, name))
    }

    fn is_fixed(&self, resource: Resource, name: &str) -> bool {
        has(&self.fixed, resource, name)
    }

    /// The files that listeners and clusters point at, those that are to run and those that do.
    fn pointed_at(&self, running: &Snapshot) -> BTreeSet<Subscription> {
        let desired = self.desired();
        let listeners = running.listeners().map(|listener| listener.settings());
        let routes = listeners
            .chain(desired.listeners.values().copied())
            .flat_map(|listener| listener.routes())
            .filter_map(|(name, source)| Subscription::to(ResourceType::RouteConfig, name.as_str(), source));
        let clusters = running.clusters().map(|cluster| cluster.settings());
        let endpoints = clusters
            .chain(desired.clusters.values().copied())
            .filter_map(|cluster| cluster.endpoints())
            .filter_map(|(name, source)| Subscription::to(ResourceType::Endpoints, name.as_str(), source));
        routes.chain(endpoints).collect()
    }
}

fn has(bundle: &Bundle, resource: Resource, name: &str) -> bool {
    match resource {
        Resource::Listener => bundle.listeners.contains_key(name),
        Resource::Cluster => bundle.clusters.contains_key(name),
        Resource::Routes => bundle.routes.contains_key(name),
        Resource::Endpoints => bundle.endpoints.contains_key(name),
    }
}

impl<'a> Desired<'a> {
    /// What others point at.
    fn by_origin<K: Ord, V>(
        bundles: &[(Origin<'a>, &'a Bundle)],
        of: impl Fn(&'a Bundle) -> &'a BTreeMap<K, Arc<V>>,
    ) -> BTreeMap<(&'a K, Origin<'a>), &'a Arc<V>> {
        let each = bundles.iter().flat_map(|(origin, bundle)| {
            let resources = of(bundle).iter();
            resources.map(|(name, value)| ((name, *origin), value))
        });
        each.collect()
    }
}
