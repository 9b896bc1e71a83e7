//! What is rendered says what the bundle says.

use proptest::{collection::vec, prelude::*};

use super::strategies;
use crate::{
    SecretName,
    bundle::Bundle,
    cluster::{Discovery, EndpointAddress, Endpoints},
    id::SpiffeId,
    listener::{Listener, Protocol, RouteSource},
    route::RouteConfig,
    secret::SecretSource,
    source::Source,
    tls::{CertificateSource, TrustSource, Validation},
    xds::{
        bootstrap::{Ads, Bootstrap, Node},
        render::{ControlPlane, Files, Proxy, RenderError, Secrets, fixed, following},
    },
};

fn proxy() -> Proxy {
    Proxy {
        node: Node {
            id: "router~10.1.4.12~egress.istio-egress~istio-egress.svc.cluster.local".into(),
            cluster: "egress".into(),
            metadata: serde_json::Map::from_iter([("NAMESPACE".into(), "istio-egress".into())]),
        },
        admin: Some(([127, 0, 0, 1], 15000).into()),
        resolvers: vec![([127, 0, 0, 1], 5353).into()],
        secrets: Secrets::Files(Files {
            chain: "/certs/cert-chain.pem".into(),
            key: "/certs/key.pem".into(),
            roots: "/certs/root-cert.pem".into(),
            system_roots: "/certs/system.pem".into(),
        }),
    }
}

/// Listeners and clusters with everything that they point at.
fn bundle() -> BoxedStrategy<Bundle> {
    let routed = (strategies::listener(), strategies::route_config());
    let placed = (strategies::cluster(), strategies::endpoints());
    (vec(routed, 0..4), vec(placed, 0..4))
        .prop_map(|(routed, placed)| {
            let mut bundle = Bundle::default();
            for (listener, routes) in routed {
                for name in routes_of(&listener) {
                    let config = RouteConfig {
                        name: name.clone(),
                        ..routes.clone()
                    };
                    bundle.routes.insert(name, config.into());
                }
                bundle.listeners.insert(listener.name.clone(), listener.into());
            }
            for (cluster, (_, endpoints)) in placed {
                if let Discovery::Eds {
                    service_name,
                    source: Source::Ads,
                } = &cluster.discovery
                {
                    let name = service_name.as_ref().unwrap_or(&cluster.name);
                    bundle.endpoints.insert(name.clone(), endpoints.into());
                }
                bundle.clusters.insert(cluster.name.clone(), cluster.into());
            }
            bundle
        })
        .boxed()
}

fn routes_of(listener: &Listener) -> Vec<crate::RouteConfigName> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let name = |protocol: &Protocol| match protocol {
        Protocol::Http(http) => match &http.routes {
            RouteSource::Rds(name, Source::Ads) => Some(name.clone()),
            RouteSource::Rds(_, Source::File(_)) | RouteSource::Inline(_) => None,
        },
        Protocol::Tcp(_) => None,
    };
    chains.filter_map(|chain| name(&chain.protocol)).collect()
}

/// What a cluster's endpoints are, wherever they are written.
fn assigned(discovery: &Discovery, bundle: &Bundle, cluster: &crate::ClusterName) -> Option<Endpoints> {
    match discovery {
        Discovery::Static(endpoints) => Some(endpoints.clone()),
        Discovery::Eds {
            service_name,
            source: Source::Ads,
        } => bundle
            .endpoints
            .get(service_name.as_ref().unwrap_or(cluster))
            .map(|endpoints| Endpoints::clone(endpoints)),
        Discovery::Eds { .. } | Discovery::StrictDns(..) | Discovery::LogicalDns(..) | Discovery::OriginalDst => None,
    }
}

/// Secrets are the bootstrap's own, whoever had them.
fn certificate_of_the_bootstrap(certificate: &mut CertificateSource) {
    if let CertificateSource::Sds(secret) = certificate {
        secret.source = SecretSource::Static;
    }
}

fn trust_of_the_bootstrap(validation: &mut Validation) {
    if let TrustSource::Sds(secret) = &mut validation.trust {
        secret.source = SecretSource::Static;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_fixed_bootstrap_is_the_bundle_with_nothing_left_to_ask_for(bundle in bundle()) {
        let document = fixed(&proxy(), &bundle).unwrap().to_string();
        prop_assert!(!document.contains("sds_config\""), "{}", document);
        let read = Bootstrap::parse(&document).unwrap();
        prop_assert_eq!(read.ads, None);
        prop_assert_eq!(read.listeners.len(), bundle.listeners.len());
        for listener in &read.listeners {
            let mut expected = Listener::clone(&bundle.listeners[&listener.name]);
            let chains = expected.filter_chains.iter_mut().chain(&mut expected.default_filter_chain);
            for chain in chains {
                if let Some(tls) = &mut chain.tls {
                    certificate_of_the_bootstrap(&mut tls.certificate);
                    tls.validation.iter_mut().for_each(trust_of_the_bootstrap);
                }
                if let Protocol::Http(http) = &mut chain.protocol
                    && let RouteSource::Rds(name, Source::Ads) = &http.routes
                {
                    http.routes = RouteSource::Inline(RouteConfig::clone(&bundle.routes[name]));
                }
            }
            prop_assert_eq!(listener, &expected);
        }
        prop_assert_eq!(read.clusters.len(), bundle.clusters.len());
        for cluster in &read.clusters {
            let mut expected = crate::cluster::Cluster::clone(&bundle.clusters[&cluster.name]);
            if let Some(endpoints) = assigned(&expected.discovery, &bundle, &cluster.name) {
                expected.discovery = Discovery::Static(endpoints);
            }
            if let Some(tls) = &mut expected.tls {
                tls.certificate.iter_mut().for_each(certificate_of_the_bootstrap);
                tls.validation.iter_mut().for_each(trust_of_the_bootstrap);
            }
            prop_assert_eq!(cluster, &expected);
        }
    }
}

#[test]
fn a_following_bootstrap_says_where_to_ask_and_whom_to_believe() {
    let control = ControlPlane {
        address: EndpointAddress::Name(crate::host::Host::parse("istiod.istio-system").unwrap(), 15012),
        identity: Some(SpiffeId::parse("spiffe://cluster.local/ns/istio-system/sa/istiod").unwrap()),
        delta: true,
    };
    let read = Bootstrap::parse(&following(&proxy(), &control).unwrap().to_string()).unwrap();
    assert_eq!(
        (&read.node, read.admin, &read.resolvers),
        (&proxy().node, proxy().admin, &proxy().resolvers)
    );
    let [cluster] = read.clusters.as_slice() else {
        panic!("{:?}", read.clusters);
    };
    let expected = Ads {
        cluster: cluster.name.clone(),
        delta: true,
    };
    assert_eq!(read.ads, Some(expected));
    let validation = cluster.tls.as_ref().unwrap().validation.as_ref().unwrap();
    assert!(
        validation.sans[0]
            .name
            .matches("spiffe://cluster.local/ns/istio-system/sa/istiod")
    );
    let secrets: Vec<_> = read.secrets.keys().map(SecretName::as_str).collect();
    assert_eq!(secrets, ["ROOTCA", "default", "file-root:system"]);
}

#[test]
fn a_bundle_that_points_at_nothing_is_refused_by_name() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut complete = || {
        let tree = proptest::strategy::Strategy::new_tree(&bundle(), &mut runner).unwrap();
        proptest::strategy::ValueTree::current(&tree)
    };
    let all: Vec<_> = std::iter::repeat_with(&mut complete).take(64).collect();
    let routed = all.iter().find(|bundle| !bundle.routes.is_empty()).unwrap();
    let placed = all.iter().find(|bundle| !bundle.endpoints.is_empty()).unwrap();
    let mut broken = routed.clone();
    broken.routes.clear();
    assert!(matches!(fixed(&proxy(), &broken), Err(RenderError::Routes { .. })));
    let mut broken = Bundle {
        listeners: std::collections::BTreeMap::new(),
        ..placed.clone()
    };
    broken.endpoints.clear();
    assert!(matches!(fixed(&proxy(), &broken), Err(RenderError::Endpoints { .. })));
}
