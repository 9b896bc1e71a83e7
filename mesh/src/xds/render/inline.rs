//! A bundle whose listeners and clusters point at nothing outside themselves.

use std::sync::Arc;

use super::RenderError;
use crate::{
    bundle::Bundle,
    cluster::{Cluster, Discovery, DnsSettings, EndpointAddress},
    listener::{Listener, Protocol, RouteSource},
    source::Source,
};

/// Writes route configurations into the listeners, and endpoints into the clusters, that point at them.
pub(super) fn inline(bundle: &Bundle) -> Result<Bundle, RenderError> {
    let mut out = Bundle {
        listeners: bundle.listeners.clone(),
        clusters: bundle.clusters.clone(),
        ..Bundle::default()
    };
    for listener in out.listeners.values_mut() {
        routes(Arc::make_mut(listener), bundle)?;
    }
    for cluster in out.clusters.values_mut() {
        endpoints(Arc::make_mut(cluster), bundle)?;
    }
    Ok(out)
}

fn routes(listener: &mut Listener, bundle: &Bundle) -> Result<(), RenderError> {
    let chains = listener
        .filter_chains
        .iter_mut()
        .chain(&mut listener.default_filter_chain);
    for chain in chains {
        let Protocol::Http(http) = &mut chain.protocol else {
            continue;
        };
        let RouteSource::Rds(name, Source::Ads) = &http.routes else {
            continue;
        };
        let config = bundle.routes.get(name).ok_or_else(|| RenderError::Routes {
            listener: listener.name.clone(),
            routes: name.clone(),
        })?;
        http.routes = RouteSource::Inline((**config).clone());
    }
    Ok(())
}

fn endpoints(cluster: &mut Cluster, bundle: &Bundle) -> Result<(), RenderError> {
    let Discovery::Eds {
        service_name,
        source: Source::Ads,
    } = &cluster.discovery
    else {
        return Ok(());
    };
    let name = service_name.as_ref().unwrap_or(&cluster.name);
    let endpoints = bundle.endpoints.get(name).ok_or_else(|| RenderError::Endpoints {
        cluster: cluster.name.clone(),
        endpoints: name.clone(),
    })?;
    let resolved = |endpoint: &crate::cluster::Endpoint| matches!(endpoint.address, EndpointAddress::Socket(_));
    cluster.discovery = if endpoints.0.iter().all(resolved) {
        Discovery::Static((**endpoints).clone())
    } else {
        Discovery::StrictDns((**endpoints).clone(), DnsSettings::default())
    };
    Ok(())
}
