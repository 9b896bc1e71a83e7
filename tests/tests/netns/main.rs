//! The tutorial on a real network: namespaces, a firewall, iptables redirection, real ports, plain curl, one process per part, and
//! a real Envoy wherever a proxy of ours can be.
//!
//! The claims are those of `sallyport demo`, the very same list. Needs root, and Envoy for some, and says so where it does not
//! have it: on standard error, in capitals, whether the output of tests is captured or not.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    io::{self, Write},
    path::Path,
};

use sallyport::{
    demo::{Stage, script},
    lab::{
        envoy,
        namespaces::{APPLICATION_USER, Mesh, Network, Place, Program, Setup, Surroundings, application},
    },
};

mod events;
mod record;

use record::Record;

/// Whether the network can be had.
fn possible(what: &str) -> bool {
    let missing = Network::missing();
    if let Some(why) = &missing {
        shout(&format!("NOT RUN: {}: {why}", what.to_uppercase()));
    }
    missing.is_none()
}

/// Says something to whoever runs the tests, also where the output of tests is captured.
fn shout(text: &str) {
    // Nobody is there to hear it, then.
    let _ = writeln!(io::stderr(), "{text}");
}

fn sallyport() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sallyport-under-test"))
}

/// A real Envoy, if there is one.
fn real(what: &str) -> Option<Program> {
    match envoy::find(None) {
        Ok(binary) => Some(Program::Envoy(binary)),
        Err(why) => {
            shout(&format!("NOT RUN: {}: {why:#}", what.to_uppercase()));
            None
        }
    }
}

/// Walks through the whole script with these proxies.
async fn holds(sidecar: Program, gateway: Program) {
    let what = format!("{sidecar} as sidecars, {gateway} as gateway");
    let setup = Setup {
        sallyport: sallyport().to_owned(),
        sidecar,
        gateway,
    };
    let mut mesh = Box::pin(Mesh::start(&setup)).await.unwrap();
    let (mut claims, mut broken, mut record) = (0, Vec::new(), Record::default());
    for chapter in script() {
        if let Err(error) = mesh.apply(&chapter).await {
            panic!("{what}: {}: {error:#}\n{}", chapter.title, mesh.said());
        }
        for claim in chapter.claims {
            let (claim, evidence, contradictions) = Box::pin(mesh.judge(claim)).await.unwrap();
            claims += 1;
            record.add(claim.text, &evidence);
            if !contradictions.is_empty() {
                let claim = format!("{}: {}", chapter.title, claim.text);
                broken.push(format!("{claim}: {contradictions:#?}\n{evidence:#?}"));
            }
        }
    }
    let (said, rules) = (mesh.said(), mesh.release().unwrap());
    let strays = Box::pin(mesh.finish()).await.unwrap();
    let held = claims - broken.len();
    shout(&format!(
        "the tutorial on a real network, {what}: {held} of {claims} claims hold"
    ));
    assert!(broken.is_empty(), "{what}\n{}\n{said}", broken.join("\n"));
    record.check(&what);
    assert_eq!(rules, "", "capture leaves nothing behind");
    assert!(strays.is_empty(), "{what}: said, and about no call: {strays:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_holds_on_a_real_network() {
    if possible("the tutorial on a real network") {
        holds(Program::Sallyport, Program::Sallyport).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_holds_with_an_envoy_gateway() {
    let what = "the tutorial with an Envoy gateway";
    if possible(what)
        && let Some(envoy) = real(what)
    {
        holds(Program::Sallyport, envoy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_holds_with_envoy_sidecars() {
    let what = "the tutorial with Envoy sidecars";
    if possible(what)
        && let Some(envoy) = real(what)
    {
        holds(envoy, Program::Sallyport).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_holds_with_nothing_but_envoys() {
    let what = "the tutorial with Envoys only";
    if possible(what)
        && let Some(envoy) = real(what)
    {
        holds(envoy.clone(), envoy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_firewall_lets_only_the_gateway_out() {
    if !possible("the firewall of the real network") {
        return;
    }
    let network = Network::build().unwrap();
    let around = Surroundings::start(&network, sallyport()).await.unwrap();
    let (site, other, google) = (
        "example.com",
        "https://httpbin.org/status/418",
        "https://storage.googleapis.com",
    );
    for (place, url, expected) in [
        (Place::Gateway, site, Ok(200)),
        (Place::Gateway, other, Ok(418)),
        (Place::Gateway, "http://example.com:8080", Err("could not connect: ")),
        (Place::TeamX, site, Err("could not connect: ")),
        (Place::TeamY, other, Err("could not connect: ")),
        (Place::TeamX, google, Ok(404)),
    ] {
        let mut curl = around.curl(&network, APPLICATION_USER, place);
        curl.arg(url);
        let got = application::run(curl)
            .await
            .unwrap()
            .map(|reply| reply.status.as_u16())
            .map_err(|failure| failure.to_string());
        let is_expected = match (&got, expected) {
            (Ok(status), Ok(expected)) => *status == expected,
            (Err(error), Err(expected)) => error.starts_with(expected),
            _ => false,
        };
        assert!(is_expected, "{place:?} {url}: {got:?}, expected {expected:?}");
    }
}

#[test]
fn capture_can_be_applied_twice_and_removed_twice() {
    if !possible("capture rules") {
        return;
    }
    let network = Network::build().unwrap();
    let program = sallyport().display();
    let run = |command: &str| network.run(Place::TeamX, command).unwrap();
    let capture = |action: &str| run(&format!("{program} sidecar capture {action}"));
    let rules = || {
        let saved = run("iptables-save") + &run("ip6tables-save");
        let ours = saved.lines().filter(|line| line.starts_with("-A"));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let theirs = "-A OUTPUT -p tcp -m tcp --dport 1 -j ACCEPT";
    run("iptables -w -t nat -A OUTPUT -p tcp --dport 1 -j ACCEPT");

    capture("apply");
    let once = rules();
    capture("apply");
    assert_eq!(rules(), once);
    let first = once.iter().position(|rule| rule.starts_with("-A OUTPUT"));
    assert_eq!(
        first.map(|at| once[at].as_str()),
        Some("-A OUTPUT -p tcp -j SALLYPORT_OUTPUT"),
        "{once:#?}"
    );
    assert!(once.iter().any(|rule| rule == theirs), "{once:#?}");

    capture("remove");
    assert_eq!(rules(), [theirs]);
    capture("remove");
    assert_eq!(rules(), [theirs]);
}
