//! An object whose kind is known.

use std::{cmp::Ordering, marker::PhantomData, ops::Deref, sync::Arc};

use crate::istio::{Kind, Object};

/// An object of kind `K`; dereferences to what it says.
#[derive(Debug)]
pub struct Of<K> {
    object: Arc<Object>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Of<K> {
    /// The object, if it is of this kind.
    pub(super) fn new(object: &Arc<Object>) -> Option<Self> {
        K::of(&object.spec).map(|_| Self {
            object: Arc::clone(object),
            kind: PhantomData,
        })
    }
}

impl<K> Of<K> {
    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The object's namespace.
    pub fn namespace(&self) -> &str {
        self.object.namespace()
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.object.name()
    }
}

impl<K: Kind> Deref for Of<K> {
    type Target = K;

    fn deref(&self) -> &K {
        K::of(&self.object.spec).expect("the kind was checked when this was made")
    }
}

/// Oldest first, then by name and namespace, as Istio orders competing objects. What has no time of creation, such as an object
/// in a file, counts as older than what has one.
pub(crate) fn by_age(a: &Object, b: &Object) -> Ordering {
    let key = |object: &Object| {
        (
            object.metadata.creation_timestamp.clone(),
            object.id.name.clone(),
            object.id.namespace.clone(),
        )
    };
    key(a).cmp(&key(b))
}
