//! A bundle as a file that a reader, or a real Envoy, can take.

use std::{env, fs, path::PathBuf};

use mesh::{
    bundle::Bundle,
    xds::{Resource, json},
};
use serde_json::{Map, Value};

/// Compares a bundle with `tests/golden/<name>.json`, and checks that the wire form loses nothing.
#[track_caller]
pub(crate) fn golden(name: &str, bundle: &Bundle) {
    let text = render(bundle);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    if wanted != text {
        let differs = wanted.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = differs.unwrap_or_else(|| wanted.lines().count().min(text.lines().count()));
        let near = |text: &str| {
            text.lines()
                .skip(line.saturating_sub(6))
                .take(14)
                .collect::<Vec<_>>()
                .join("\n")
        };
        panic!(
            "{} differs at line {}\n--- wanted\n{}\n--- got\n{}",
            path.display(),
            line + 1,
            near(&wanted),
            near(&text)
        );
    }
}

/// Every resource of a bundle.
pub(crate) fn resources(bundle: &Bundle) -> Vec<Resource> {
    let clusters = bundle.clusters.values().cloned().map(Resource::Cluster);
    let endpoints = bundle
        .endpoints
        .iter()
        .map(|(name, endpoints)| Resource::Endpoints(name.clone(), endpoints.clone()));
    let listeners = bundle.listeners.values().cloned().map(Resource::Listener);
    let routes = bundle.routes.values().cloned().map(Resource::RouteConfig);
    clusters.chain(endpoints).chain(listeners).chain(routes).collect()
}

#[track_caller]
fn render(bundle: &Bundle) -> String {
    let mut all: Map<String, Value> = Map::new();
    for resource in resources(bundle) {
        let any = resource.encode();
        let back = Resource::decode(&any.type_url, &any).unwrap_or_else(|error| panic!("{}: {error}", resource.name()));
        assert_eq!(back, resource);
        let kind = any.type_url.rsplit('.').next().unwrap().to_owned();
        let kind = all.entry(kind).or_insert_with(|| Value::Object(Map::new()));
        kind.as_object_mut()
            .unwrap()
            .insert(resource.name().to_owned(), json::to_json(&resource).unwrap());
    }
    serde_json::to_string_pretty(&all).unwrap() + "\n"
}
