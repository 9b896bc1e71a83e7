//! The tutorial's cluster and what surrounds it, as addresses: pods, service addresses, web sites, names, firewall rules.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use certs::Identity;
use ipnet::{IpNet, Ipv4Net};

use super::{
    dns::{Answer, Zone},
    network::{
        VirtualNetwork,
        firewall::{Firewall, Rule, Verdict},
    },
    outside::{Page, Site, pages},
    pki::PublicCa,
};

/// The pod of team-x's test application and its sidecar.
pub const TEAM_X: IpAddr = v4(10, 1, 0, 17);
/// The pod of team-y's test application and its sidecar.
pub const TEAM_Y: IpAddr = v4(10, 1, 1, 25);
/// The pod of the egress gateway, on a node of its own.
pub const GATEWAY: IpAddr = v4(10, 1, 4, 12);
/// The cluster address of the egress gateway's Service.
pub const GATEWAY_SERVICE: IpAddr = v4(10, 2, 0, 12);
/// Service port and target port of the egress gateway.
pub const GATEWAY_PORTS: [(u16, u16); 2] = [(80, 8080), (443, 8443)];

/// The sidecars' explicit proxy, on their pod's loopback.
pub const EXPLICIT_PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15080);

/// The rule that stops whatever tries to leave the cluster without permission.
pub const DENY_ALL: &str = "global-deny-egress-all";
/// The rule that lets the gateway's nodes out.
pub const GATEWAY_WEB: &str = "gateway-allow-egress-web";
/// The rule that lets every node reach Google's private addresses.
pub const GOOGLE_APIS: &str = "allow-egress-gcp-apis";

/// A web site as data.
struct Place {
    host: &'static str,
    address: Ipv4Addr,
    page: fn() -> Page,
}

/// `httpbin.org` has an address reserved for documentation; the others are what the tutorial shows.
const SITES: [Place; 4] = [
    Place {
        host: "example.com",
        address: Ipv4Addr::new(93, 184, 216, 34),
        page: || Arc::new(pages::example_com),
    },
    Place {
        host: "httpbin.org",
        address: Ipv4Addr::new(203, 0, 113, 80),
        page: || Arc::new(pages::httpbin_org),
    },
    Place {
        host: "storage.googleapis.com",
        address: Ipv4Addr::new(199, 36, 153, 8),
        page: || Arc::new(pages::storage_googleapis_com),
    },
    Place {
        host: "metadata.google.internal",
        address: Ipv4Addr::new(169, 254, 169, 254),
        page: || Arc::new(pages::metadata),
    },
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The network of the tutorial, nobody listening yet.
pub fn network() -> VirtualNetwork {
    let service = |(port, target)| (SocketAddr::new(GATEWAY_SERVICE, port), SocketAddr::new(GATEWAY, target));
    VirtualNetwork::new(firewall(), GATEWAY_PORTS.map(service))
}

/// The sites outside, with certificates of `ca`.
///
/// # Errors
/// A certificate cannot be made.
pub fn sites(ca: &PublicCa) -> anyhow::Result<Vec<Site>> {
    let site = |place: &Place| {
        Ok(Site {
            host: place.host,
            address: place.address.into(),
            identity: ca.certify(place.host)?,
            page: (place.page)(),
        })
    };
    SITES.iter().map(site).collect()
}

/// The site known as `host`, at another address; `None` if there is no such site.
pub(super) fn site_at(host: &str, address: IpAddr, identity: Identity) -> Option<Site> {
    let place = SITES.iter().find(|place| place.host == host)?;
    Some(Site {
        host: place.host,
        address,
        identity,
        page: (place.page)(),
    })
}

/// The names of the sites.
pub(super) fn hosts() -> impl Iterator<Item = &'static str> {
    SITES.iter().map(|place| place.host)
}

/// Enters the names of the sites.
pub fn publish(zone: &Zone) {
    for place in &SITES {
        zone.set(place.host, Answer::Addresses(vec![place.address]));
    }
}

/// The tutorial's rules that concern connections from pods. The metadata server is on the node itself, which no VPC rule covers.
fn firewall() -> Firewall {
    let (anyone, gateways) = (net(0, 0, 0, 0, 0), net(10, 1, 4, 0, 24));
    let (nodes, pods) = (net(10, 0, 0, 0, 24), net(10, 1, 0, 0, 16));
    let (google, metadata) = (net(199, 36, 153, 8, 30), net(169, 254, 169, 254, 32));
    Firewall::new(vec![
        Rule::new(GATEWAY_WEB, Verdict::Allow, vec![gateways], vec![anyone]).on_ports([80, 443]),
        Rule::new(
            "allow-egress-nodes-and-pods",
            Verdict::Allow,
            vec![pods],
            vec![nodes, pods],
        ),
        Rule::new(GOOGLE_APIS, Verdict::Allow, vec![pods], vec![google]),
        Rule::new("metadata-server-on-node", Verdict::Allow, vec![pods], vec![metadata]),
        Rule::new(DENY_ALL, Verdict::Deny, vec![anyone], vec![anyone]),
    ])
}

fn net(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix).into()
}
