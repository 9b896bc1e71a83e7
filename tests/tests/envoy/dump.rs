//! What an Envoy runs, from its `/config_dump`, held against what it should run.

use std::collections::{BTreeMap, BTreeSet};

use mesh::{
    bundle::Bundle,
    cluster::{Endpoint, EndpointAddress, Endpoints},
    xds::{Resource, json::to_json},
};
use serde_json::Value;

/// Where the dump is, endpoints and all.
pub(crate) const PATH: &str = "/config_dump?include_eds";

/// One list of the dump: in which section, under which key, and where the resource is in an entry.
struct List {
    section: &'static str,
    key: &'static str,
    resource: &'static str,
}

const LISTENERS: List = List {
    section: "Listeners",
    key: "dynamic_listeners",
    resource: "/active_state/listener",
};
const CLUSTERS: List = List {
    section: "Clusters",
    key: "dynamic_active_clusters",
    resource: "/cluster",
};
const ROUTES: List = List {
    section: "Routes",
    key: "dynamic_route_configs",
    resource: "/route_config",
};

/// Says what keeps the dump from being a bundle in force: every resource active as it was compiled, nothing else, nothing
/// warming, nothing refused.
pub(crate) fn difference(dump: &str, bundle: &Bundle) -> Result<(), String> {
    let dump: Value = serde_json::from_str(dump).map_err(|error| error.to_string())?;
    let sections = &dump["configs"];
    let listeners = bundle.listeners.values().cloned().map(Resource::Listener);
    let clusters = bundle.clusters.values().cloned().map(Resource::Cluster);
    let routes = bundle.routes.values().cloned().map(Resource::RouteConfig);
    compare(&LISTENERS, sections, listeners)?;
    compare(&CLUSTERS, sections, clusters)?;
    compare(&ROUTES, sections, routes)?;
    for (name, endpoints) in &bundle.endpoints {
        endpoints_of(sections, name.as_str(), endpoints)?;
    }
    unsettled(sections)
}

fn compare(list: &List, sections: &Value, expected: impl Iterator<Item = Resource>) -> Result<(), String> {
    let expected: BTreeMap<String, Value> = expected
        .map(|resource| (resource.name().to_owned(), to_json(&resource).unwrap()))
        .collect();
    let mut found = BTreeMap::new();
    for entry in entries(sections, list.section, list.key) {
        let resource = entry.pointer(list.resource);
        let resource = resource.ok_or_else(|| format!("{}: not active: {entry:#}", list.section))?;
        let name = resource["name"].as_str().unwrap_or_default();
        found.insert(name.to_owned(), resource.clone());
    }
    if !expected.keys().eq(found.keys()) {
        return Err(format!(
            "{}: expected {:?}, found {:?}",
            list.section,
            expected.keys(),
            found.keys()
        ));
    }
    let differs = expected.iter().find(|(name, value)| found[*name] != **value);
    differs.map_or(Ok(()), |(name, value)| {
        Err(format!(
            "{} {name}: expected {value:#}\nfound {:#}",
            list.section, found[name]
        ))
    })
}

/// Endpoints are shown as Envoy has them, with those of every cluster and with states that are its own.
fn endpoints_of(sections: &Value, name: &str, expected: &Endpoints) -> Result<(), String> {
    let entries = || entries(sections, "Endpoints", "dynamic_endpoint_configs").map(|entry| &entry["endpoint_config"]);
    let entry = entries().find(|entry| entry["cluster_name"] == name);
    let entry = entry.ok_or_else(|| format!("endpoints {name} are missing"))?;
    let localities = entry["endpoints"].as_array().into_iter().flatten();
    let found = localities.flat_map(|locality| locality["lb_endpoints"].as_array().into_iter().flatten());
    let found: BTreeSet<_> = found
        .map(|endpoint| &endpoint["endpoint"]["address"]["socket_address"])
        .map(|address| {
            format!(
                "{}:{}",
                address["address"].as_str().unwrap_or_default(),
                address["port_value"]
            )
        })
        .collect();
    let expected: BTreeSet<_> = expected.0.iter().map(address).collect();
    if found == expected {
        Ok(())
    } else {
        Err(format!("endpoints {name}: expected {expected:?}, found {found:?}"))
    }
}

fn address(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        EndpointAddress::Socket(address) => format!("{}:{}", address.ip(), address.port()),
        EndpointAddress::Name(..) | EndpointAddress::Pipe(_) => panic!("endpoints are addresses"),
    }
}

/// Nothing waits and nothing was refused.
fn unsettled(sections: &Value) -> Result<(), String> {
    let waiting = [
        ("Clusters", "dynamic_warming_clusters"),
        ("Secrets", "dynamic_warming_secrets"),
    ];
    let waiting = waiting
        .into_iter()
        .flat_map(|(section, key)| entries(sections, section, key));
    let troubled = |entry: &&Value| entry.get("warming_state").is_some() || entry.get("error_state").is_some();
    let dynamic = [
        ("Listeners", "dynamic_listeners"),
        ("Clusters", "dynamic_active_clusters"),
        ("Routes", "dynamic_route_configs"),
        ("Endpoints", "dynamic_endpoint_configs"),
        ("Secrets", "dynamic_active_secrets"),
    ];
    let dynamic = dynamic
        .into_iter()
        .flat_map(|(section, key)| entries(sections, section, key));
    match waiting.chain(dynamic.filter(troubled)).next() {
        None => Ok(()),
        Some(entry) => Err(format!("unsettled: {entry:#}")),
    }
}

/// Entries of a list in every section of a kind.
fn entries<'a>(sections: &'a Value, section: &'static str, key: &'static str) -> impl Iterator<Item = &'a Value> {
    let kind = format!("type.googleapis.com/envoy.admin.v3.{section}ConfigDump");
    let sections = sections.as_array().into_iter().flatten();
    sections
        .filter(move |value| value["@type"] == kind.as_str())
        .filter_map(move |value| value.get(key)?.as_array())
        .flatten()
}
