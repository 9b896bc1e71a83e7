//! The tutorial on a real network: namespaces, a firewall, iptables redirection, real ports, plain curl, one process per part.
//!
//! The claims are those of `sallyport demo`, the very same list, and a few about the explicit proxy. Needs root, and says so
//! where it does not have it: on standard error, in capitals, whether the output of tests is captured or not.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use sallyport::{
    demo::{
        claim::{Caller, Chapter, Claim, Expected, Team},
        script,
    },
    lab::{client::Call, log::Field},
};

mod credentials;
mod curl;
mod network;
mod outside;
mod process;
mod world;

use network::{Network, Place};
use outside::Outside;
use process::shout;
use world::{APPLICATION_USER, EXPLICIT_PROXY, World};

/// Whether the network can be had.
fn possible(what: &str) -> bool {
    let missing = Network::missing();
    if let Some(why) = &missing {
        shout(&format!("NOT RUN: {}: {why}", what.to_uppercase()));
    }
    missing.is_none()
}

#[test]
fn the_tutorial_holds_on_a_real_network() {
    if !possible("the tutorial on a real network") {
        return;
    }
    let mut world = World::build();
    let (mut claims, mut broken) = (0, Vec::new());
    for chapter in script().into_iter().chain([explicit_proxy()]) {
        world.apply(chapter.apply);
        for mut claim in chapter.claims {
            claim.reply = curl::expected(claim.reply);
            let evidence = world.observe(&claim);
            let contradictions = claim.contradictions(&evidence);
            claims += 1;
            if !contradictions.is_empty() {
                broken.push(format!(
                    "{}: {}: {contradictions:#?}\n{evidence:#?}",
                    chapter.title, claim.text
                ));
            }
        }
    }
    let (said, rules) = (world.said(), world.release());
    let strays = world.stop();
    shout(&format!(
        "the tutorial on a real network: {} of {claims} claims hold",
        claims - broken.len()
    ));
    assert!(broken.is_empty(), "{}\n{said}", broken.join("\n"));
    assert_eq!(rules, "", "capture leaves nothing behind");
    assert!(strays.is_empty(), "lines that belong to no call: {strays:#?}");
}

/// Where an application names its proxy, the kernel has nothing to redirect.
fn explicit_proxy() -> Chapter {
    let claim = |text, url, status| {
        let call = Call::get(url).through(EXPLICIT_PROXY.into());
        Claim::new(text, Caller::App(Team::X), call, Expected::Status(status))
    };
    Chapter {
        title: "The explicit proxy",
        about: "The same rules for an application that names its proxy.",
        apply: &[],
        claims: vec![
            claim("http leaves through the gateway", "http://example.com", 200)
                .arrives()
                .sidecar(&[(Field::Code, "200"), (Field::UpstreamHost, "10.1.4.12:8080")])
                .gateway(&[(Field::Code, "200"), (Field::UpstreamHost, "93.184.216.34:443")]),
            claim(
                "the application's own TLS passes through a tunnel",
                "https://example.com",
                200,
            )
            .arrives()
            .sidecar(&[(Field::Request, "CONNECT *"), (Field::UpstreamHost, "10.1.4.12:8443")])
            .gateway(&[(Field::Request, "- - -"), (Field::Cluster, "outbound|443||example.com")]),
            claim("policy is the same", "http://httpbin.org", 403)
                .sidecar(&[(Field::Code, "403")])
                .gateway(&[
                    (Field::Code, "403"),
                    (Field::Details, "rbac_access_denied_matched_policy[none]"),
                ]),
        ],
    }
}

#[test]
fn the_firewall_lets_only_the_gateway_out() {
    if !possible("the firewall of the real network") {
        return;
    }
    let network = Network::build();
    let outside = Outside::start(&network);
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
        let mut curl = outside.curl(&network, APPLICATION_USER, place);
        curl.arg(url);
        let got = curl::run(curl)
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
    let network = Network::build();
    let files = tempfile::tempdir().unwrap();
    let program = outside::program(files.path());
    let capture = |action: &str| network.must(Place::TeamX, &format!("{} sidecar capture {action}", program.display()));
    let rules = || {
        let saved = network.must(Place::TeamX, "iptables-save") + &network.must(Place::TeamX, "ip6tables-save");
        let ours = saved.lines().filter(|line| line.starts_with("-A"));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let theirs = "-A OUTPUT -p tcp -m tcp --dport 1 -j ACCEPT";
    network.must(Place::TeamX, "iptables -w -t nat -A OUTPUT -p tcp --dport 1 -j ACCEPT");

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
