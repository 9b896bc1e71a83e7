//! The world outside the mesh: web sites at addresses of their own, on port 80 and, with certificates of a public CA that has
//! nothing to do with the mesh's, on port 443.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use certs::{Identity, Live};
use gateway::network::{Accepted, Network};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes};
use tokio::task::JoinSet;

use super::{
    pki,
    serve::{self, Service},
};

pub mod pages;

/// A page: takes a whole request, gives a whole response.
pub type Page = Arc<dyn Fn(&Accepted, &Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync>;

/// A web site.
pub struct Site {
    /// The name it is known by.
    pub host: &'static str,
    /// Its address.
    pub address: IpAddr,
    /// What it shows on port 443.
    pub identity: Identity,
    /// What it says.
    pub page: Page,
}

/// The running sites; they end when this is dropped.
pub struct Outside {
    sites: HashMap<&'static str, Running>,
    servers: JoinSet<()>,
}

struct Running {
    requests: Arc<AtomicU64>,
    shown: Arc<Live<Identity>>,
}

impl Outside {
    /// Starts the sites, each on the network that its host is on.
    ///
    /// # Errors
    /// A socket cannot be had.
    pub fn start(
        network: impl Fn(IpAddr) -> Arc<dyn Network>,
        sites: impl IntoIterator<Item = Site>,
    ) -> anyhow::Result<Self> {
        let mut outside = Self {
            sites: HashMap::new(),
            servers: JoinSet::new(),
        };
        for site in sites {
            outside.open(&network(site.address), site)?;
        }
        Ok(outside)
    }

    /// How many requests have reached a site, over whichever port; 0 for an unknown site.
    pub fn requests(&self, host: &str) -> u64 {
        let site = self.sites.get(host);
        site.map_or(0, |site| site.requests.load(Ordering::Relaxed))
    }

    /// Has a site show another certificate to new connections. Nothing happens to an unknown site.
    pub fn show(&self, host: &str, identity: Identity) {
        if let Some(site) = self.sites.get(host) {
            site.shown.replace(identity);
        }
    }

    fn open(&mut self, network: &Arc<dyn Network>, site: Site) -> anyhow::Result<()> {
        let (requests, shown) = (Arc::new(AtomicU64::new(0)), Arc::new(Live::new(site.identity)));
        let page = counting(site.page, requests.clone());
        for (port, tls) in [(80, None), (443, Some(pki::web_server(shown.clone())?))] {
            let listener = network.listen(SocketAddr::new(site.address, port))?;
            let service = Service {
                network: network.clone(),
                tls,
                page: page.clone(),
            };
            self.servers.spawn(serve::serve(listener, service));
        }
        self.sites.insert(site.host, Running { requests, shown });
        Ok(())
    }
}

fn counting(page: Page, count: Arc<AtomicU64>) -> Page {
    Arc::new(move |peer, request| {
        count.fetch_add(1, Ordering::Relaxed);
        page(peer, request)
    })
}
