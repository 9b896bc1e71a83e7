//! What a proxy is to be served: its bundle, encoded once.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use super::{
    Name,
    types::{ByType, requires},
};
use crate::{
    bundle::Bundle,
    secret::{Material, Secret, SecretContent},
    xds::{Any, Resource, ResourceType},
};

/// An encoded resource. Its content may be a secret, so that it is not shown.
#[derive(PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Depends on the content alone, so it means the same after a restart and at another control plane.
    pub version: Name,
    /// As it is sent.
    pub any: Any,
    /// The names it points at.
    pub(super) requires: Vec<Name>,
}

/// Everything one proxy is to be served, sorted by name. Entries are shared with earlier sets where nothing changed.
#[derive(Debug, Default)]
pub struct ResourceSet {
    entries: ByType<BTreeMap<Name, Arc<Entry>>>,
    versions: ByType<Name>,
}

impl Entry {
    /// Encodes a secret. Its version is of the public part alone: versions are shown, and no key is renewed without its
    /// certificate.
    pub fn secret(secret: &Secret) -> Self {
        let (SecretContent::Certificate { chain: public, .. } | SecretContent::Trust(public)) = &secret.content;
        let version = match public {
            Material::Inline(text) => digest(&[text]),
            Material::File(path) => digest(&[path.as_os_str().as_encoded_bytes()]),
        };
        Self {
            name: secret.name.as_str().into(),
            version,
            any: crate::xds::secret::encode(secret),
            requires: Vec::new(),
        }
    }

    /// Encodes a resource.
    pub fn encode(resource: &Resource) -> Self {
        let any = resource.encode();
        Self {
            name: resource.name().into(),
            version: digest(&[&any.value]),
            requires: requires(resource).into_iter().map(Name::from).collect(),
            any,
        }
    }
}

impl ResourceSet {
    /// Encodes a bundle.
    pub fn encode(bundle: Bundle) -> Self {
        Self::new(resources(bundle).map(|resource| (resource.resource_type(), Arc::new(Entry::encode(&resource)))))
    }

    /// A set of these entries; of two with the same type and name the later one counts.
    pub fn new(entries: impl IntoIterator<Item = (ResourceType, Arc<Entry>)>) -> Self {
        let mut set = Self::default();
        for (resource_type, entry) in entries {
            set.entries.get_mut(resource_type).insert(entry.name.clone(), entry);
        }
        for resource_type in ResourceType::ALL {
            *set.versions.get_mut(resource_type) = version_of(set.entries.get(resource_type));
        }
        set
    }

    /// One resource.
    pub fn get(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(resource_type).get(name)
    }

    /// All resources of a type, by name.
    pub fn iter(&self, resource_type: ResourceType) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.get(resource_type).values()
    }

    /// The version of all resources of a type together.
    pub fn version(&self, resource_type: ResourceType) -> &Name {
        self.versions.get(resource_type)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Entry({} {}, {} bytes)",
            self.name,
            self.version,
            self.any.value.len()
        )
    }
}

/// Two sets are equal if they would be sent in the same bytes.
impl PartialEq for ResourceSet {
    fn eq(&self, other: &Self) -> bool {
        ResourceType::ALL
            .into_iter()
            .all(|resource_type| self.entries.get(resource_type) == other.entries.get(resource_type))
    }
}

/// The resources of a bundle, in push order.
fn resources(bundle: Bundle) -> impl Iterator<Item = Resource> {
    let Bundle {
        listeners,
        routes,
        clusters,
        endpoints,
    } = bundle;
    let clusters = clusters.into_values().map(Resource::Cluster);
    let endpoints = endpoints
        .into_iter()
        .map(|(name, endpoints)| Resource::Endpoints(name, endpoints));
    let listeners = listeners.into_values().map(Resource::Listener);
    let routes = routes.into_values().map(Resource::RouteConfig);
    clusters.chain(endpoints).chain(listeners).chain(routes)
}

fn version_of(entries: &BTreeMap<Name, Arc<Entry>>) -> Name {
    let parts: Vec<_> = entries
        .values()
        .flat_map(|entry| [entry.name.as_bytes(), entry.version.as_bytes()])
        .collect();
    digest(&parts)
}

/// 128 bits that depend on nothing but `parts`. Guards against accidents, not against an adversary: whoever can choose a
/// resource's bytes needs no collision to serve old ones.
fn digest(parts: &[&[u8]]) -> Name {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1)).into()
}
