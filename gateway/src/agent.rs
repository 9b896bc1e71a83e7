//! An identity from the agent beside a proxy, for a proxy that is started without a bootstrap.
//!
//! Invariants: who the workload is never changes while it runs; its roots are those of its own trust domain; what was
//! there once stays when the agent is away.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use certs::{FileWatcher, Identity, Live, SvidError, Trust, TrustBundle, Workload};
use mesh::{
    ClusterName, SecretName,
    id::{SpiffeId, TrustDomain},
    secret::{AGENT_CLUSTER, SecretRef},
    tls::{CertificateSource, TrustSource},
};
use tokio::sync::Notify;

use crate::{
    drain::Runtime,
    tls::secrets::{MESH_ROOTS, OWN, Origins, Reference, Secrets, Tools},
};

/// An identity agent and what it serves: Istio's, or `sallyport certs agent`.
pub struct Agent {
    workload: Workload,
    identity: Arc<Live<Identity>>,
    roots: Arc<Live<Trust>>,
    /// What was last said of an identity that cannot be taken.
    reported: Mutex<Option<String>>,
    /// Follows the agent as long as it is there.
    _secrets: Secrets,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The agent cannot be asked.
    #[error("{0}")]
    Unusable(String),
    /// What it serves is no workload's identity.
    #[error("the identity agent serves no identity of a workload: {0}")]
    Identity(#[from] SvidError),
}

impl Agent {
    /// Asks the agent at `server`, `unix:<path>` or `host:port` on loopback, until it has served an identity and its roots.
    /// `files` follows what secrets name; it must be run.
    ///
    /// # Errors
    /// No waiting would help.
    pub async fn wait(server: &str, files: Arc<FileWatcher>) -> Result<Self, AgentError> {
        let arrivals = Arc::new(Notify::new());
        let tools = Tools {
            files,
            runtime: Runtime::new(tokio::runtime::Handle::current()),
            arrivals: arrivals.clone(),
        };
        let agent = ClusterName::parse(AGENT_CLUSTER).expect("neither empty nor long");
        let origins = Origins {
            services: [(agent, server.to_owned())].into(),
            ..Origins::default()
        };
        let secrets = Secrets::new(origins, tools);
        secrets.begin();
        let (own, roots) = (reference(OWN), reference(MESH_ROOTS));
        let references = || [Reference::Certificate(&own), Reference::Trust(&roots)];
        // Both are asked for at once.
        while references()
            .map(|reference| secrets.is_awaited(reference))
            .contains(&true)
        {
            arrivals.notified().await;
        }
        let identity = secrets.certificate(&CertificateSource::Sds(own.clone()));
        let roots = secrets.trust(&TrustSource::Sds(roots.clone()));
        Self::of(
            identity.map_err(AgentError::Unusable)?,
            roots.map_err(AgentError::Unusable)?,
            secrets,
        )
    }

    fn of(identity: Arc<Live<Identity>>, roots: Arc<Live<Trust>>, secrets: Secrets) -> Result<Self, AgentError> {
        let now = SystemTime::now();
        let own = identity.load();
        let id = own.svid(now)?.id().clone();
        Ok(Self {
            workload: Workload::new(own, of_mesh(&id, &roots.load()), now)?,
            identity,
            roots,
            reported: Mutex::default(),
            _secrets: secrets,
        })
    }

    /// The workload; it stays current while [`Self::run`] is polled.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Takes over what the agent renews, for ever.
    pub async fn run(&self) {
        let (mut identity, mut roots) = (self.identity.subscribe(), self.roots.subscribe());
        loop {
            self.adopt_roots();
            self.adopt_identity();
            tokio::select! {
                Ok(()) = identity.changed() => {}
                Ok(()) = roots.changed() => {}
                // The cells are ours, so that there is always more to come.
                else => std::future::pending().await,
            }
        }
    }

    fn adopt_roots(&self) {
        let roots = of_mesh(self.workload.id(), &self.roots.load());
        if *self.workload.trust.load() != roots {
            self.workload.trust.replace(roots);
        }
    }

    fn adopt_identity(&self) {
        let renewed = self.identity.load();
        let problem = match renewed.svid(SystemTime::now()) {
            Ok(svid) if svid.id() == self.workload.id() => None,
            Ok(svid) => Some(format!("it is {}: restart to become another workload", svid.id())),
            Err(error) => Some(error.to_string()),
        };
        if problem.is_none() && *self.workload.identity.load() != *renewed {
            self.workload.identity.share(renewed);
        }
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = problem.as_ref().filter(|_| *reported != problem) {
            tracing::error!(id = %self.workload.id(), reason, "the identity that the agent serves cannot be taken, the last one stays");
        }
        *reported = problem;
    }
}

fn reference(name: &str) -> SecretRef {
    SecretRef::of_agent(SecretName::parse(name).expect("neither empty nor long"))
}

/// The roots as those of a workload's own trust domain.
fn of_mesh(id: &SpiffeId, roots: &Trust) -> Trust {
    match roots {
        Trust::Roots(roots) => {
            let domain = TrustDomain::parse(id.trust_domain()).expect("an identity contains a valid trust domain");
            Trust::Mesh(TrustBundle::new(domain, roots.clone()))
        }
        Trust::Mesh(bundle) => Trust::Mesh(bundle.clone()),
    }
}
