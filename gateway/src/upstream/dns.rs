//! Names to addresses. The only user of the DNS library.
//!
//! Names are looked up as they are written: search domains are off, so that the name that was authorized is the name that
//! is resolved. Answers are not cached here; who asks keeps them for as long as their TTL says. Invariant: at most
//! [`limits::DNS_LOOKUPS`] lookups are under way, whatever the configuration asks for at once.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use mesh::{cluster::DnsFamily, host::Host};
use tokio::sync::Semaphore;

use crate::limits;

/// Looks names up.
pub(crate) struct Resolver {
    resolver: TokioResolver,
    lookups: Semaphore,
}

/// What a name stands for now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Its addresses; none if the name does not exist or has none of the wanted family.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long that holds, if the answer says so.
    pub(crate) ttl: Option<Duration>,
}

/// No answer: nobody knows what the name stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LookupError(String);

impl Resolver {
    /// Asks these servers, or those of the system if there are none.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub(crate) fn new(servers: &[SocketAddr]) -> Result<Self, LookupError> {
        let builder = match servers {
            [] => TokioResolver::builder_tokio(),
            servers => Ok(TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()),
                TokioRuntimeProvider::default(),
            )),
        };
        let mut builder = builder.map_err(LookupError::new)?;
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = limits::DNS_TIMEOUT;
        options.attempts = limits::DNS_RETRIES;
        options.edns0 = true;
        options.try_tcp_on_error = true;
        options.use_hosts_file = match servers {
            [] => ResolveHosts::Auto,
            _ => ResolveHosts::Never,
        };
        Ok(Self {
            resolver: builder.build().map_err(LookupError::new)?,
            lookups: Semaphore::new(limits::DNS_LOOKUPS),
        })
    }

    /// Looks up the addresses of a family.
    ///
    /// # Errors
    /// The servers could not be reached or failed. That a name does not exist is an answer, not an error.
    pub(crate) async fn resolve(&self, host: &Host, family: DnsFamily) -> Result<Answer, LookupError> {
        if let Some(ip) = host.ip() {
            return Ok(Answer {
                addresses: vec![ip],
                ttl: None,
            });
        }
        let _place = self.lookups.acquire().await;
        match family {
            DnsFamily::V4Only => self.lookup(host, RecordType::A).await,
            DnsFamily::V6Only => self.lookup(host, RecordType::AAAA).await,
            DnsFamily::Auto => self.either(host, [RecordType::AAAA, RecordType::A]).await,
            DnsFamily::V4Preferred => self.either(host, [RecordType::A, RecordType::AAAA]).await,
            DnsFamily::All => self.both(host).await,
        }
    }

    async fn either(&self, host: &Host, [first, second]: [RecordType; 2]) -> Result<Answer, LookupError> {
        match self.lookup(host, first).await {
            Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
            _ => self.lookup(host, second).await,
        }
    }

    async fn both(&self, host: &Host) -> Result<Answer, LookupError> {
        match tokio::join!(self.lookup(host, RecordType::A), self.lookup(host, RecordType::AAAA)) {
            (Ok(four), Ok(six)) => Ok(Answer {
                addresses: [four.addresses, six.addresses].concat(),
                ttl: four.ttl.into_iter().chain(six.ttl).min(),
            }),
            (Ok(answer), Err(_)) | (Err(_), Ok(answer)) if !answer.addresses.is_empty() => Ok(answer),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn lookup(&self, host: &Host, kind: RecordType) -> Result<Answer, LookupError> {
        match self.resolver.lookup(format!("{host}."), kind).await {
            Ok(found) => {
                let records = found.answers();
                Ok(Answer {
                    addresses: records
                        .iter()
                        .filter_map(|record| address(&record.data))
                        .take(limits::DNS_ADDRESSES)
                        .collect(),
                    ttl: records
                        .iter()
                        .map(|record| Duration::from_secs(record.ttl.into()))
                        .min(),
                })
            }
            Err(error) if error.is_no_records_found() => Ok(Answer::default()),
            Err(error) => Err(LookupError::new(error)),
        }
    }
}

impl LookupError {
    #[cfg(test)]
    pub(crate) fn for_tests(reason: &str) -> Self {
        Self(reason.to_owned())
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    fn new(error: NetError) -> Self {
        Self(error.to_string())
    }
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let connection = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    NameServerConfig::new(
        at.ip(),
        true,
        vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())],
    )
}

fn address(data: &RData) -> Option<IpAddr> {
    data.ip_addr()
}
