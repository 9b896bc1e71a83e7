//! Opaque TCP: SNI passthrough and whatever else is relayed byte by byte. [`serve_connection`] is the data path, in order.
//!
//! Unlike in Envoy, which dials as soon as a connection is accepted, authorization is asked first: a connection that may
//! not pass never makes us send a packet anywhere.

pub(crate) mod relay;

use std::{rc::Rc, sync::Arc, time::Duration};

use mesh::listener::TcpProxy;
use rand::RngExt;
use tokio::time::{sleep, sleep_until};

use crate::{
    access_log::{AccessRecord, Loggers, Sinks},
    authz::Verdict,
    connection::Connection,
    error::{ConnectError, ProxyError, denial},
    flags::Flag,
    limits,
    snapshot::Chain,
    stream::{Downstream, Upstream},
    upstream::{
        balance::Host,
        breaker::Permit,
        cluster::Cluster,
        connect::{Purpose, connect},
    },
    worker::Worker,
};
use relay::{Broken, Counts, relay};

/// A filter chain that relays bytes.
pub(crate) struct TcpChain {
    settings: TcpProxy,
    logs: Arc<Loggers>,
}

impl TcpChain {
    /// Compiles the settings. Off the data path.
    ///
    /// # Errors
    /// What of them cannot be served, in words for an operator.
    pub(crate) fn build(settings: &TcpProxy, sinks: &Sinks) -> Result<Self, String> {
        let logs = Loggers::build(&settings.access_logs, sinks).map_err(|error| error.to_string())?;
        Ok(Self {
            settings: settings.clone(),
            logs: Arc::new(logs),
        })
    }

    fn idle_timeout(&self) -> Option<Duration> {
        let idle = self.settings.idle_timeout.unwrap_or(limits::TCP_IDLE);
        Some(idle).filter(|idle| !idle.is_zero())
    }
}

/// One connection being served.
struct Session {
    worker: Rc<Worker>,
    chain: Arc<Chain>,
    tcp: Arc<TcpChain>,
    conn: Arc<Connection>,
}

/// Serves one connection until it ends, and leaves one record.
pub(crate) async fn serve_connection(
    worker: Rc<Worker>,
    chain: Arc<Chain>,
    tcp: Arc<TcpChain>,
    conn: Arc<Connection>,
    mut io: Downstream,
) {
    let mut record = AccessRecord::tcp(tcp.logs.clone(), conn.clone());
    let session = Session {
        worker,
        chain,
        tcp,
        conn,
    };
    if let Err(error) = session.proxy(&mut io, &mut record).await {
        note(&error, &mut record);
        // What was looked at and cannot be delivered is lost, which the kernel would say with a reset, too.
        if io.has_unread() && !matches!(error, ProxyError::Denied(_)) {
            io.reset();
        }
    }
    record.finish();
}

impl Session {
    /// The phases of a connection.
    async fn proxy(&self, io: &mut Downstream, record: &mut AccessRecord) -> Result<(), ProxyError> {
        // First, so that a denial names its cluster in the log.
        let cluster = self.choose_cluster(record);
        authorize(&self.chain, &self.conn, record)?;
        let cluster = cluster?;
        let _place = enter(&cluster)?;
        let host = self.choose_host(&cluster, record)?;
        let _busy = host.begin();
        let mut upstream = self.dial(&cluster, &host, record).await?;
        self.carry(io, &mut upstream, record).await
    }

    /// The snapshot is not kept, so that a long connection does not keep an old one alive.
    fn choose_cluster(&self, record: &mut AccessRecord) -> Result<Arc<Cluster>, ProxyError> {
        let name = self.tcp.settings.clusters.pick(self.worker.rng.borrow_mut().random());
        let snapshot = self.worker.shared.snapshot.load();
        let cluster = snapshot.cluster(name).ok_or(ProxyError::ClusterNotFound)?;
        record.upstream.cluster = Some(cluster.name().clone());
        record.upstream.alt_stat_name = cluster.alt_stat_name().cloned();
        Ok(cluster.clone())
    }

    fn choose_host(&self, cluster: &Cluster, record: &mut AccessRecord) -> Result<Arc<Host>, ProxyError> {
        let host = cluster.pick(&self.conn, &[], &mut *self.worker.rng.borrow_mut())?;
        record.upstream.host = Some(host.address);
        record.upstream.host_name = Some(host.hostname.clone());
        Ok(host)
    }

    async fn dial(&self, cluster: &Cluster, host: &Host, record: &mut AccessRecord) -> Result<Upstream, ProxyError> {
        record.upstream.attempts = 1;
        let (network, purpose) = (&*self.worker.shared.network, Purpose::default());
        let connected = connect(network, cluster, host, &purpose)
            .await
            .map_err(ProxyError::Connect)?;
        record.upstream.local = Some(connected.local);
        Ok(connected.io)
    }

    /// Relays until both sides have closed, time is up, or the connection may not go on.
    async fn carry(
        &self,
        io: &mut Downstream,
        upstream: &mut Upstream,
        record: &mut AccessRecord,
    ) -> Result<(), ProxyError> {
        let tally = Tally::new(record);
        let relayed = tokio::select! {
            // In this order: not a byte moves under a policy that has just been withdrawn.
            biased;
            ended = self.revoked() => return ended,
            () = self.expired() => return Err(ProxyError::DurationTimeout),
            relayed = relay(io, upstream, &tally.counts, self.tcp.idle_timeout()) => relayed,
        };
        match relayed {
            Ok(()) | Err(Broken::Idle) => {}
            Err(Broken::Downstream(error)) => {
                tracing::debug!(connection = self.conn.id, %error, "client broke off");
                upstream.reset();
            }
            Err(Broken::Upstream(error)) => {
                tracing::debug!(connection = self.conn.id, %error, "upstream broke off");
                tally.record.flag(Flag::Ur);
                io.reset();
            }
        }
        Ok(())
    }

    /// Resolves when the connection has reached its configured life.
    async fn expired(&self) {
        match self.tcp.settings.max_connection_duration.filter(|life| !life.is_zero()) {
            Some(life) => sleep_until(self.conn.started.instant + life).await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the connection may not go on: a newer policy refuses it, or its chain is gone and it had its time to
    /// finish.
    async fn revoked(&self) -> Result<(), ProxyError> {
        let cell = &self.worker.shared.snapshot;
        let mut changes = cell.subscribe();
        loop {
            match cell.load().chain(self.conn.chain) {
                Some(chain) => check(chain, &self.conn)?,
                None => break,
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        sleep(limits::DRAIN).await;
        Ok(())
    }
}

/// Copies the counts into the record when it goes, however the relay ended.
struct Tally<'r> {
    record: &'r mut AccessRecord,
    counts: Counts,
}

impl<'r> Tally<'r> {
    fn new(record: &'r mut AccessRecord) -> Self {
        Self {
            record,
            counts: Counts::default(),
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.record.bytes_received = self.counts.received.get();
        self.record.bytes_sent = self.counts.sent.get();
    }
}

fn authorize(chain: &Chain, conn: &Connection, record: &mut AccessRecord) -> Result<(), ProxyError> {
    if chain.authz.has_dry_run() {
        record.metadata = chain.authz.dry_run(conn);
    }
    check(chain, conn)
}

fn check(chain: &Chain, conn: &Connection) -> Result<(), ProxyError> {
    match chain.authz.check(conn) {
        Verdict::Allow => Ok(()),
        Verdict::Deny(policy) => Err(ProxyError::Denied(policy.cloned())),
    }
}

/// Takes a place among the cluster's connections.
fn enter(cluster: &Cluster) -> Result<Permit, ProxyError> {
    cluster.breakers().connections.acquire().ok_or(ProxyError::Overflow)
}

/// What Envoy's TCP proxy logs of an error: flags, a denial's policy, a connect failure's reason, and no details.
fn note(error: &ProxyError, record: &mut AccessRecord) {
    if let Some(flag) = error.flag() {
        record.flag(flag);
    }
    record.termination = termination(error);
    if let ProxyError::Connect(failure) = error {
        record.flag(Flag::Urx);
        record.upstream.failure = match failure {
            ConnectError::Io(reason) | ConnectError::Tls(reason) => Some(reason.clone()),
            ConnectError::Timeout(_) => None,
        };
    }
}

fn termination(error: &ProxyError) -> Option<String> {
    match error {
        ProxyError::Denied(policy) => Some(denial(policy.as_ref())),
        _ => None,
    }
}
