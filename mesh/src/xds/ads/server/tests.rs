//! One script per rule of the protocols.

use envoy_types::pb::google::rpc;

use super::*;
use crate::xds::{
    Resource,
    ads::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, MAX_RESOURCES,
        fixtures::{cluster, endpoints, listener, routes, set},
    },
};

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::RouteConfig;

fn delta(kind: ResourceType, add: &[&str], remove: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: add.iter().map(|name| (*name).to_owned()).collect(),
        resource_names_unsubscribe: remove.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn claiming(request: DeltaDiscoveryRequest, claims: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        initial_resource_versions: claims
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
            .collect(),
        ..request
    }
}

fn error(message: &str) -> Option<rpc::Status> {
    Some(rpc::Status {
        code: 3,
        message: message.to_owned(),
        details: Vec::new(),
    })
}

fn delta_answer(response: &DeltaDiscoveryResponse, nack: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: nack.and_then(error),
        ..DeltaDiscoveryRequest::default()
    }
}

fn sotw(kind: ResourceType, names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// `+name` for each resource and `-name` for each removal, after the type.
fn show(response: &DeltaDiscoveryResponse) -> String {
    let kind = ResourceType::from_type_url(&response.type_url).unwrap();
    let added = response.resources.iter().map(|resource| format!(" +{}", resource.name));
    let removed = response.removed_resources.iter().map(|name| format!(" -{name}"));
    format!("{kind}:{}", added.chain(removed).collect::<String>())
}

/// Everything that is due, acknowledged by nobody.
fn due(server: &mut DeltaServer, set: &ResourceSet) -> Vec<DeltaDiscoveryResponse> {
    std::iter::from_fn(|| server.next(set)).collect()
}

#[track_caller]
fn check(server: &mut DeltaServer, set: &ResourceSet, expected: &[&str]) -> Vec<DeltaDiscoveryResponse> {
    let responses = due(server, set);
    assert_eq!(responses.iter().map(show).collect::<Vec<_>>(), expected);
    responses
}

#[track_caller]
fn check_and_ack(server: &mut DeltaServer, set: &ResourceSet, expected: &[&str]) {
    for response in check(server, set, expected) {
        server.receive(delta_answer(&response, None)).unwrap();
    }
}

fn whole() -> [Resource; 5] {
    [
        cluster("a", 0, false),
        cluster("b", 0, true),
        endpoints("b", 0),
        listener("l", 0, "r"),
        routes("r", 0, "a"),
    ]
}

/// A client that took all of [`whole`].
fn settled() -> DeltaServer {
    let (mut server, set) = (DeltaServer::default(), set(&whole()));
    for request in [
        delta(CDS, &[], &[]),
        delta(LDS, &["*"], &[]),
        delta(EDS, &["b"], &[]),
        delta(RDS, &["r"], &[]),
    ] {
        server.receive(request).unwrap();
    }
    check_and_ack(
        &mut server,
        &set,
        &[
            "cluster: +a +b",
            "endpoints: +b",
            "listener: +l",
            "route configuration: +r",
        ],
    );
    assert_eq!(server.status(&set), Status::Acknowledged);
    server
}

#[test]
fn what_is_pointed_at_goes_first_and_is_taken_away_last() {
    let mut server = settled();
    let next = set(&[cluster("c", 0, false), listener("l", 1, "r"), routes("r", 1, "c")]);
    let responses = check(
        &mut server,
        &next,
        &["cluster: +c", "listener: +l", "route configuration: +r"],
    );
    for response in &responses {
        assert_eq!(due(&mut server, &next).len(), 0, "removals wait for every answer");
        assert_eq!(server.status(&next), Status::Pending);
        server.receive(delta_answer(response, None)).unwrap();
    }
    check_and_ack(&mut server, &next, &["cluster: -a -b", "endpoints: -b"]);
    assert_eq!(server.status(&next), Status::Acknowledged);
}

#[test]
fn a_listener_waits_until_the_client_asks_for_endpoints_of_new_clusters() {
    let mut server = DeltaServer::default();
    let all = set(&whole());
    server.receive(delta(CDS, &[], &[])).unwrap();
    server.receive(delta(LDS, &[], &[])).unwrap();
    let clusters = check(&mut server, &all, &["cluster: +a +b"]);
    server.receive(delta(EDS, &["b"], &[])).unwrap();
    check(&mut server, &all, &["endpoints: +b", "listener: +l"]);
    server.receive(delta_answer(&clusters[0], None)).unwrap();
    assert_eq!(server.status(&all), Status::Pending, "answers are missing");
}

#[test]
fn a_listener_does_not_wait_for_a_client_that_asks_for_no_endpoints() {
    let mut server = DeltaServer::default();
    let all = set(&whole());
    server.receive(delta(CDS, &[], &[])).unwrap();
    server.receive(delta(LDS, &[], &[])).unwrap();
    check_and_ack(&mut server, &all, &["cluster: +a +b"]);
    check(&mut server, &all, &["listener: +l"]);
}

#[test]
fn unchanged_resources_are_not_sent_again() {
    let mut server = settled();
    check(&mut server, &set(&whole()), &[]);
    let mut resources = whole();
    resources[0] = cluster("a", 1, false);
    check(&mut server, &set(&resources), &["cluster: +a"]);
}

#[test]
fn endpoints_of_a_changed_cluster_are_sent_again() {
    let mut server = settled();
    let mut resources = whole();
    resources[1] = cluster("b", 1, true);
    check(&mut server, &set(&resources), &["cluster: +b", "endpoints: +b"]);
}

#[test]
fn endpoints_are_sent_again_after_a_request_for_clusters() {
    let mut server = settled();
    server.receive(delta(CDS, &["a"], &[])).unwrap();
    check(&mut server, &set(&whole()), &["cluster: +a", "endpoints: +b"]);
}

#[test]
fn a_reconnecting_client_gets_the_difference_with_removals() {
    let set = set(&whole());
    let version = |kind, name| set.get(kind, name).unwrap().version.clone();
    let mut server = DeltaServer::default();
    let clusters = [("a", &*version(CDS, "a")), ("b", "old"), ("gone", "1")];
    server.receive(claiming(delta(CDS, &[], &[]), &clusters)).unwrap();
    check_and_ack(&mut server, &set, &["cluster: +b"]);
    let endpoints = [("b", &*version(EDS, "b")), ("stranger", "1")];
    server.receive(claiming(delta(EDS, &["b"], &[]), &endpoints)).unwrap();
    check_and_ack(&mut server, &set, &[]);
    server
        .receive(claiming(delta(LDS, &[], &[]), &[("l", &version(LDS, "l"))]))
        .unwrap();
    server
        .receive(claiming(delta(RDS, &["r"], &[]), &[("r", "old")]))
        .unwrap();
    check_and_ack(&mut server, &set, &["listener:", "route configuration: +r"]);
    check_and_ack(&mut server, &set, &["cluster: -gone"]);
    assert_eq!(server.status(&set), Status::Acknowledged);
}

#[test]
fn a_reconnecting_client_keeps_its_clusters_until_it_has_said_what_else_it_has() {
    let mut server = DeltaServer::default();
    server.receive(claiming(delta(CDS, &[], &[]), &[("a", "old")])).unwrap();
    check_and_ack(&mut server, &set(&[cluster("a", 0, false)]), &["cluster: +a"]);
    check(&mut server, &set(&[]), &[]);
    // It has a listener that may point at the cluster: that goes first.
    server.receive(claiming(delta(LDS, &[], &[]), &[("l", "old")])).unwrap();
    check_and_ack(&mut server, &set(&[]), &["listener: -l"]);
    check(&mut server, &set(&[]), &["cluster: -a"]);
}

#[test]
fn what_does_not_exist_is_said_to_be_removed_once_and_sent_when_it_appears() {
    let mut server = settled();
    server.receive(delta(RDS, &["later"], &[])).unwrap();
    check_and_ack(&mut server, &set(&whole()), &["route configuration: -later"]);
    check_and_ack(&mut server, &set(&whole()), &[]);
    let resources: Vec<_> = whole().into_iter().chain([routes("later", 0, "a")]).collect();
    check_and_ack(&mut server, &set(&resources), &["route configuration: +later"]);
}

#[test]
fn subscriptions_follow_the_client() {
    let all = set(&whole());
    let mut server = settled();
    server.receive(delta(RDS, &["r"], &[])).unwrap();
    check_and_ack(&mut server, &all, &["route configuration: +r"]);
    server.receive(delta(RDS, &[], &["r"])).unwrap();
    let mut resources = whole();
    resources[4] = routes("r", 1, "a");
    check_and_ack(&mut server, &set(&resources), &[]);
    // To want nothing from the start, a client names everything and takes it back.
    let mut server = DeltaServer::default();
    server.receive(delta(CDS, &["*"], &["*"])).unwrap();
    check(&mut server, &all, &[]);
    server.receive(delta(CDS, &["a", "*"], &["*"])).unwrap();
    check(&mut server, &all, &["cluster: +a"]);
}

#[test]
fn a_refused_response_is_remembered_and_repeated_only_with_the_next_change() {
    let mut server = settled();
    let mut resources = whole();
    resources[0] = cluster("a", 1, false);
    let refused = check(&mut server, &set(&resources), &["cluster: +a"]).remove(0);
    let received = server.receive(delta_answer(&refused, Some("cluster a: no"))).unwrap();
    assert_eq!(received, Received::Nack(CDS, "cluster a: no".to_owned()));
    check(&mut server, &set(&resources), &[]);
    let refusal = Refusal {
        resource_type: CDS,
        names: vec!["a".into()],
        reason: "cluster a: no".to_owned(),
    };
    assert_eq!(server.status(&set(&resources)), Status::Rejected(vec![refusal]));
    let report = server.report();
    assert_eq!(report[0].refused.as_deref(), Some("cluster a: no"));
    assert_eq!(report[0].acknowledged.as_ref(), Some(set(&whole()).version(CDS)));

    let more: Vec<_> = resources.into_iter().chain([cluster("z", 0, false)]).collect();
    check_and_ack(&mut server, &set(&more), &["cluster: +z +a"]);
    assert_eq!(server.status(&set(&more)), Status::Acknowledged);
}

#[test]
fn nothing_is_taken_away_while_the_client_holds_on_to_an_older_version() {
    let mut server = settled();
    let next = set(&[cluster("c", 0, false), listener("l", 1, "r"), routes("r", 1, "c")]);
    for response in due(&mut server, &next) {
        let nack = (response.type_url == RDS.type_url()).then_some("no");
        server.receive(delta_answer(&response, nack)).unwrap();
    }
    check(&mut server, &next, &[]);
    assert!(matches!(server.status(&next), Status::Rejected(_)));
}

#[test]
fn an_answer_to_an_unknown_response_changes_nothing() {
    let mut server = settled();
    let stranger = DeltaDiscoveryResponse {
        type_url: CDS.type_url().to_owned(),
        nonce: "no such".to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    let received = server.receive(delta_answer(&stranger, Some("no"))).unwrap();
    assert_eq!(received, Received::Stale(CDS));
    assert_eq!(server.status(&set(&whole())), Status::Acknowledged);
}

#[test]
fn an_unknown_type_is_left_alone() {
    let request = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/istio.networking.nds.v1.NameTable".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let received = settled().receive(request.clone()).unwrap();
    assert_eq!(received, Received::UnknownType(request.type_url));
}

#[test]
fn a_client_that_never_answers_is_not_sent_more_and_more() {
    let mut server = settled();
    let mut sent = 0;
    for revision in 1..=200 {
        let mut resources = whole();
        resources[0] = cluster("a", revision, false);
        sent += due(&mut server, &set(&resources)).len();
    }
    assert_eq!(sent, 32);
}

#[test]
fn a_large_set_is_sent_in_several_messages() {
    let mut server = DeltaServer::default();
    let names: Vec<_> = (0..30_000).map(|i| format!("{i:0>80}")).collect();
    let all = set(&names.iter().map(|name| cluster(name, 0, false)).collect::<Vec<_>>());
    server.receive(delta(CDS, &[], &[])).unwrap();
    let responses = due(&mut server, &all);
    assert!(responses.len() > 2, "{}", responses.len());
    let total: usize = responses.iter().map(|response| response.resources.len()).sum();
    assert_eq!(total, names.len());
}

#[test]
fn what_goes_beyond_the_limits_ends_the_stream() {
    let long = "x".repeat(crate::MAX_NAME + 1);
    let many: Vec<String> = (0..=MAX_RESOURCES).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (name, request) in [
        ("long", delta(EDS, &[&long], &[])),
        ("empty", delta(EDS, &[""], &[])),
        ("many", delta(EDS, &many, &[])),
        (
            "claims",
            claiming(
                delta(EDS, &[], &[]),
                &many.iter().map(|name| (*name, "")).collect::<Vec<_>>(),
            ),
        ),
    ] {
        assert!(DeltaServer::default().receive(request).is_err(), "{name}");
    }
    assert!(SotwServer::default().receive(sotw(EDS, &[&long], "")).is_err());
    assert!(SotwServer::default().receive(sotw(EDS, &many, "")).is_err());
}

/// The state-of-the-world protocol: names in each response that is due.
#[track_caller]
fn check_sotw(
    server: &mut SotwServer,
    set: &ResourceSet,
    expected: &[(ResourceType, usize)],
) -> Vec<DiscoveryResponse> {
    let responses: Vec<_> = std::iter::from_fn(|| server.next(set)).collect();
    let shown: Vec<_> = responses
        .iter()
        .map(|response| {
            (
                ResourceType::from_type_url(&response.type_url).unwrap(),
                response.resources.len(),
            )
        })
        .collect();
    assert_eq!(shown, expected);
    responses
}

#[test]
fn state_of_the_world_follows_its_rules() {
    let (mut server, all) = (SotwServer::default(), set(&whole()));
    server.receive(sotw(CDS, &[], "")).unwrap();
    let first = check_sotw(&mut server, &all, &[(CDS, 2)]).remove(0);
    assert_eq!(first.version_info, **all.version(CDS));

    // Unchanged names are an acknowledgement and have no response.
    assert_eq!(
        server.receive(sotw(CDS, &[], &first.nonce)).unwrap(),
        Received::Ack(CDS)
    );
    check_sotw(&mut server, &all, &[]);

    // A new name has one, and a nonce that is not the last is ignored, names and all.
    server.receive(sotw(EDS, &["b"], "")).unwrap();
    let endpoints = check_sotw(&mut server, &all, &[(EDS, 1)]).remove(0);
    assert_eq!(server.receive(sotw(EDS, &[], "older")).unwrap(), Received::Stale(EDS));
    assert_eq!(
        server.receive(sotw(EDS, &["b"], &endpoints.nonce)).unwrap(),
        Received::Ack(EDS)
    );
    server.receive(sotw(EDS, &["b", "later"], &endpoints.nonce)).unwrap();
    let endpoints = check_sotw(&mut server, &all, &[(EDS, 1)]).remove(0);

    // A refusal has no response, and the next change carries everything.
    let refusal = DiscoveryRequest {
        error_detail: error("endpoints b: no"),
        ..sotw(EDS, &["b", "later"], &endpoints.nonce)
    };
    assert!(matches!(server.receive(refusal).unwrap(), Received::Nack(EDS, _)));
    check_sotw(&mut server, &all, &[]);
    assert!(matches!(server.status(&all), Status::Rejected(_)));

    // No names end a subscription by name, without a response.
    server.receive(sotw(EDS, &[], &endpoints.nonce)).unwrap();
    check_sotw(&mut server, &all, &[]);
    let changed = set(&[
        cluster("a", 0, false),
        cluster("b", 0, true),
        super::super::fixtures::endpoints("b", 9),
    ]);
    check_sotw(&mut server, &changed, &[]);
}

#[test]
fn state_of_the_world_keeps_removed_clusters_until_nothing_points_at_them() {
    let (mut server, all) = (SotwServer::default(), set(&whole()));
    for (kind, names) in [(CDS, &[][..]), (EDS, &["b"]), (LDS, &[]), (RDS, &["r"])] {
        server.receive(sotw(kind, names, "")).unwrap();
    }
    for response in check_sotw(&mut server, &all, &[(CDS, 2), (EDS, 1), (LDS, 1), (RDS, 1)]) {
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        let names: &[&str] = match kind {
            EDS => &["b"],
            RDS => &["r"],
            _ => &[],
        };
        server.receive(sotw(kind, names, &response.nonce)).unwrap();
    }
    let next = set(&[cluster("c", 0, false), listener("l", 0, "r"), routes("r", 1, "c")]);
    let mut responses = check_sotw(&mut server, &next, &[(CDS, 3), (RDS, 1)]);
    let (routes, clusters) = (responses.pop().unwrap(), responses.pop().unwrap());
    server.receive(sotw(CDS, &[], &clusters.nonce)).unwrap();
    check_sotw(&mut server, &next, &[]);
    server.receive(sotw(RDS, &["r"], &routes.nonce)).unwrap();
    check_sotw(&mut server, &next, &[(CDS, 1), (EDS, 0)]);
}
