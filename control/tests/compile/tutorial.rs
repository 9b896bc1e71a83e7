//! The tutorial, step by step.

use std::{fs, path::Path};

use super::{
    golden::golden,
    world::{clean, examples, gateway, sidecar},
};

const BASE: &[&str] = &[
    "tutorial/00-cluster.yaml",
    "tutorial/10-strict-mtls.yaml",
    "tutorial/20-test-app-team-x.yaml",
];
const RELAY: &[&str] = &[
    "tutorial/30-sidecar-team-x.yaml",
    "tutorial-steps/relay/40-gateway.yaml",
    "tutorial-steps/relay/41-target-egress-gateway.yaml",
    "tutorial/42-example-com.yaml",
    "tutorial-steps/relay/43-example-com-route.yaml",
];
const TEAM_Y: &[&str] = &[
    "tutorial/50-sidecar-team-y.yaml",
    "tutorial/51-test-app-team-y.yaml",
    "tutorial/52-httpbin-org.yaml",
    "tutorial-steps/relay/53-httpbin-org-route.yaml",
];
const POLICIES: &[&str] = &[
    "tutorial/60-policy-team-x-example-com.yaml",
    "tutorial/61-policy-team-y-httpbin-teapot.yaml",
];
const ORIGINATION: &[&str] = &[
    "tutorial/70-example-com-originate-tls.yaml",
    "tutorial-steps/origination/43-example-com-route.yaml",
];

/// Compares the given proxies with their golden files.
#[track_caller]
fn check(step: &str, parts: &[&[&str]], proxies: &[&str]) {
    let objects = examples(&parts.concat());
    for proxy in proxies {
        let node = if *proxy == "gateway" { gateway() } else { sidecar(proxy) };
        golden(&format!("tutorial-{step}/{proxy}"), &clean(&objects, &node));
    }
}

#[test]
fn before_any_route_nothing_leaves() {
    check(
        "1-base",
        &[BASE, &["tutorial/30-sidecar-team-x.yaml"]],
        &["gateway", "team-x"],
    );
}

#[test]
fn plain_http_is_relayed_through_the_gateway() {
    check("2-relay", &[BASE, RELAY, TEAM_Y], &["gateway", "team-x", "team-y"]);
}

#[test]
fn policies_tell_teams_apart() {
    check("3-policies", &[BASE, RELAY, TEAM_Y, POLICIES], &["gateway"]);
}

#[test]
fn the_gateway_originates_tls() {
    check(
        "4-origination",
        &[BASE, RELAY, TEAM_Y, POLICIES, ORIGINATION],
        &["gateway"],
    );
}

#[test]
fn in_the_end_tls_passes_through_too() {
    check(
        "5-final",
        &[&all().iter().map(String::as_str).collect::<Vec<_>>()],
        &["gateway", "team-x", "team-y"],
    );
}

/// The tutorial as it stands at its end.
fn all() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tutorial");
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let yaml = names.filter(|name| name.ends_with(".yaml"));
    yaml.map(|name| format!("tutorial/{name}")).collect()
}
