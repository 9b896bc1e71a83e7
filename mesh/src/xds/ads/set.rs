//! What a proxy is to be served: its bundle, encoded once.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    sync::{Arc, LazyLock},
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
    /// Depends on the content alone, so it means the same after a restart and at another control plane. Not of a secret.
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
    /// Encodes a secret. Versions are shown to anybody: this one depends on the public part, and on the key only through a
    /// function that nobody else can compute, so that it differs from process to process.
    pub fn secret(secret: &Secret) -> Self {
        let version = match &secret.content {
            SecretContent::Certificate { chain, key } => {
                let (public, private) = (digest(&[bytes(chain)]), PROCESS.hash_one(bytes(key)));
                format!("{public}{private:016x}").into()
            }
            SecretContent::Trust(roots) => digest(&[bytes(roots)]),
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
        Self::new(resource, resource.encode())
    }

    /// A resource with its encoding.
    pub(super) fn new(resource: &Resource, any: Any) -> Self {
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
pub(super) fn resources(bundle: Bundle) -> impl Iterator<Item = Resource> {
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

/// Keyed at random, anew in each process.
static PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn bytes(material: &Material) -> &[u8] {
    match material {
        Material::Inline(text) => text,
        Material::File(path) => path.as_os_str().as_encoded_bytes(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretName;

    #[test]
    fn a_secret_s_version_changes_with_each_of_its_parts_and_nothing_is_shown() {
        let entry = |chain: &str, key: &str| {
            let [chain, key] = [chain, key].map(|text| Material::Inline(text.into()));
            Entry::secret(&Secret {
                name: SecretName::parse("default").unwrap(),
                content: SecretContent::Certificate { chain, key },
            })
        };
        let one = entry("chain", "key");
        assert_eq!(one.version, entry("chain", "key").version);
        assert_ne!(one.version, entry("chain", "other").version);
        assert_ne!(one.version, entry("other", "key").version);
        let shown = format!("{one:?}");
        assert!(shown.starts_with("Entry(default ") && !shown.contains("key"), "{shown}");
    }
}
