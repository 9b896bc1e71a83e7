//! What is served: a workload's credentials as a set of secrets, made anew whenever they change.

use std::sync::Arc;

use mesh::{
    SecretName,
    secret::{Material, Secret, SecretContent},
    xds::{
        ResourceType,
        ads::{Entry, ResourceSet},
    },
};
use tokio::sync::watch;

use crate::{Live, Roots, Trust, Workload, store::trust_domain};

/// The workload's own chain and key.
const OWN: &str = "default";
/// The roots of its trust domain.
const MESH_ROOTS: &str = "ROOTCA";
/// The operating system's roots.
const SYSTEM_ROOTS: &str = "file-root:system";

/// Keeps the set current.
pub(super) struct Secrets {
    workload: Workload,
    system_roots: Option<Arc<Live<Trust>>>,
    sets: watch::Sender<Arc<ResourceSet>>,
}

impl Secrets {
    /// The set of now, and its successors while [`Self::follow`] runs.
    pub(super) fn new(
        workload: Workload,
        system_roots: Option<Arc<Live<Trust>>>,
    ) -> (Self, watch::Receiver<Arc<ResourceSet>>) {
        let (sets, receiver) = watch::channel(Arc::default());
        let secrets = Self {
            workload,
            system_roots,
            sets,
        };
        secrets.publish();
        (secrets, receiver)
    }

    /// Follows every change, for ever.
    pub(super) async fn follow(self) {
        let mut identity = self.workload.identity.subscribe();
        let mut trust = self.workload.trust.subscribe();
        let mut system = self.system_roots.as_ref().map(|roots| roots.subscribe());
        // What changed before we subscribed.
        self.publish();
        loop {
            tokio::select! {
                Ok(()) = identity.changed() => {}
                Ok(()) = trust.changed() => {}
                () = changed(&mut system) => {}
            }
            self.publish();
        }
    }

    fn publish(&self) {
        let set = ResourceSet::new(self.secrets().map(|secret| {
            let entry = Entry::secret(&secret);
            (ResourceType::Secret, Arc::new(entry))
        }));
        self.sets.send_if_modified(|current| {
            let differs = **current != set;
            if differs {
                *current = Arc::new(set);
            }
            differs
        });
    }

    fn secrets(&self) -> impl Iterator<Item = Secret> {
        let identity = self.workload.identity.load();
        let own = SecretContent::Certificate {
            chain: Material::Inline(identity.chain_pem().into_bytes()),
            key: Material::Inline(identity.key_pem().into_bytes()),
        };
        let mesh = self.roots(&self.workload.trust.load()).map(trust);
        let system = self
            .system_roots
            .as_ref()
            .and_then(|roots| self.roots(&roots.load()).map(trust));
        let all = [(OWN, Some(own)), (MESH_ROOTS, mesh), (SYSTEM_ROOTS, system)];
        all.into_iter().filter_map(|(name, content)| {
            Some(Secret {
                name: SecretName::parse(name).expect("a short name"),
                content: content?,
            })
        })
    }

    /// Of a bundle, the roots of our own domain: a proxy would lend those of others to it.
    fn roots(&self, trust: &Trust) -> Option<Roots> {
        match trust {
            Trust::Roots(roots) => Some(roots.clone()),
            Trust::Mesh(bundle) => bundle.roots(trust_domain(self.workload.id()).as_str()).cloned(),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map takes")]
fn trust(roots: Roots) -> SecretContent {
    SecretContent::Trust(Material::Inline(roots.pem().into_bytes()))
}

/// Resolves when what may be there changed.
async fn changed(notices: &mut Option<watch::Receiver<()>>) {
    if let Some(notices) = notices
        && notices.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
