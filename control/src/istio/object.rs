//! One object of any kind, and all objects of a configuration.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeSet, sync::Arc};

use super::{
    authorization_policy::AuthorizationPolicy,
    destination_rule::DestinationRule,
    gateway::Gateway,
    kubernetes::{EndpointSlice, Namespace, Service},
    metadata::{Metadata, ObjectId},
    path::FieldPath,
    peer_authentication::PeerAuthentication,
    service_entry::ServiceEntry,
    sidecar::Sidecar,
    virtual_service::VirtualService,
    yaml::{Node, Position},
};
use crate::diag::Location;

/// An object: what it says, and where it says it.
#[derive(Debug, PartialEq)]
pub struct Object {
    /// Which one it is.
    pub id: ObjectId,
    /// Its labels and annotations.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
    pub(super) source: Source,
}

/// Where an object was read.
#[derive(Debug, PartialEq)]
pub(super) struct Source {
    pub(super) file: Arc<str>,
    pub(super) root: Arc<Node>,
}

/// All objects of a configuration, each once, in order of kind, namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Objects(BTreeSet<ById>);

/// An object that is filed by which one it is.
#[derive(Debug, Clone)]
struct ById(Arc<Object>);

/// A kind of object that is read.
pub trait Kind: Sized + 'static {
    /// The kind's name.
    const NAME: &'static str;

    /// The content, if it is of this kind.
    fn of(spec: &Spec) -> Option<&Self>;
}

macro_rules! kinds {
    ($($name:ident),+ $(,)?) => {
        /// The content of an object, by kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Spec {
            $(
                #[doc = concat!("A ", stringify!($name), ".")]
                $name($name),
            )+
        }

        impl Spec {
            /// The kind's name.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }
        }

        $(impl Kind for $name {
            const NAME: &'static str = stringify!($name);

            #[allow(clippy::match_wildcard_for_single_variants, reason = "written once for every kind")]
            fn of(spec: &Spec) -> Option<&Self> {
                match spec {
                    Spec::$name(content) => Some(content),
                    _ => None,
                }
            }
        })+
    };
}

kinds! {
    AuthorizationPolicy, DestinationRule, EndpointSlice, Gateway, Namespace, PeerAuthentication, Service, ServiceEntry, Sidecar,
    VirtualService,
}

impl Object {
    /// The object's namespace; empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        &self.id.namespace
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.id.name
    }

    /// The file it was read from.
    pub fn file(&self) -> &Arc<str> {
        &self.source.file
    }

    /// A policy that lets nothing pass in its namespace, in place of one that cannot be read.
    pub(crate) fn closed_policy(id: ObjectId, at: &Location) -> Self {
        let position = Position {
            line: at.line,
            column: at.column,
        };
        let metadata = Metadata {
            name: id.name.clone(),
            namespace: id.namespace.clone(),
            ..Metadata::default()
        };
        let source = Source {
            file: Arc::clone(&at.file),
            root: Arc::new(Node::empty(position)),
        };
        Self {
            id,
            metadata,
            spec: Spec::AuthorizationPolicy(AuthorizationPolicy::default()),
            source,
        }
    }

    /// Whether it is a stand-in made by [`Object::closed_policy`].
    pub(crate) fn is_closed_policy(&self) -> bool {
        self.source.root.is_empty()
    }

    /// Where a field is, or what is around it if it is not written.
    pub fn locate(&self, path: &FieldPath<'_>) -> Location {
        self.source.locate(path)
    }
}

impl Source {
    pub(super) fn locate(&self, path: &FieldPath<'_>) -> Location {
        let position = self.root.locate(path);
        Location {
            file: Arc::clone(&self.file),
            line: position.line,
            column: position.column,
        }
    }
}

impl Objects {
    /// Every object of a kind, in order of namespace and name.
    pub fn of<K: Kind>(&self) -> impl Iterator<Item = (&Arc<Object>, &K)> {
        let from = ObjectId::new(K::NAME, "", "");
        let same = self.0.range(from..).map(|ById(object)| object);
        let same = same.take_while(|object| object.id.kind == K::NAME);
        same.filter_map(|object| K::of(&object.spec).map(|content| (object, content)))
    }

    /// One object of a kind.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<(&Arc<Object>, &K)> {
        let object = self.by_id(&ObjectId::new(K::NAME, namespace, name))?;
        K::of(&object.spec).map(|content| (object, content))
    }

    /// One object.
    pub fn by_id(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        self.0.get(id).map(|ById(object)| object)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.iter().map(|ById(object)| object)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an object; one of the same name is replaced and returned.
    pub fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        self.0.replace(ById(object)).map(|ById(object)| object)
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: &ObjectId) -> Option<Arc<Object>> {
        self.0.take(id).map(|ById(object)| object)
    }
}

impl FromIterator<Arc<Object>> for Objects {
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        Self(objects.into_iter().map(ById).collect())
    }
}

impl Borrow<ObjectId> for ById {
    fn borrow(&self) -> &ObjectId {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}
