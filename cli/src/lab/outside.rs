//! The world outside the mesh: web sites at addresses of their own, on port 80 and, with certificates of a public CA that has
//! nothing to do with the mesh's, on port 443.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gateway::network::{Accepted, Network};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes};
use rustls::ServerConfig;
use tokio::task::JoinSet;

use super::{
    network::VirtualNetwork,
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
    /// How it speaks TLS on port 443.
    pub tls: Arc<ServerConfig>,
    /// What it says.
    pub page: Page,
}

/// The running sites; they end when this is dropped.
pub struct Outside {
    requests: HashMap<&'static str, Arc<AtomicU64>>,
    _servers: JoinSet<()>,
}

impl Outside {
    /// Starts the sites.
    ///
    /// # Errors
    /// Two sites share an address, or a socket cannot be had.
    pub fn start(network: &VirtualNetwork, sites: impl IntoIterator<Item = Site>) -> io::Result<Self> {
        let mut outside = Self {
            requests: HashMap::new(),
            _servers: JoinSet::new(),
        };
        for site in sites {
            outside.open(network, site)?;
        }
        Ok(outside)
    }

    /// How many requests have reached a site, over whichever port.
    pub fn requests(&self, host: &str) -> u64 {
        self.requests.get(host).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn open(&mut self, network: &VirtualNetwork, site: Site) -> io::Result<()> {
        let process = network.process(site.address);
        let count = Arc::new(AtomicU64::new(0));
        let page = counting(site.page, count.clone());
        for (port, tls) in [(80, None), (443, Some(site.tls))] {
            let listener = process.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
            let service = Service {
                process: process.clone(),
                tls,
                page: page.clone(),
            };
            self._servers.spawn(serve::serve(listener, service));
        }
        self.requests.insert(site.host, count);
        Ok(())
    }
}

fn counting(page: Page, count: Arc<AtomicU64>) -> Page {
    Arc::new(move |peer, request| {
        count.fetch_add(1, Ordering::Relaxed);
        page(peer, request)
    })
}
