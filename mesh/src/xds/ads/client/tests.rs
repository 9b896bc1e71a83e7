//! One script per rule of the client.

use envoy_types::pb::envoy::service::discovery::v3::Resource as Wrapper;

use super::*;
use crate::xds::{
    Any, Resource,
    ads::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Entry, Rejection,
        fixtures::{cluster, endpoints, listener, routes, unsupported},
    },
};

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::RouteConfig;

fn wrap(entry: &Entry) -> Wrapper {
    Wrapper {
        name: entry.name.to_string(),
        version: entry.version.to_string(),
        resource: Some(entry.any.clone()),
        ..Wrapper::default()
    }
}

fn delta(kind: ResourceType, entries: &[Entry], removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: format!("nonce of {kind}"),
        resources: entries.iter().map(wrap).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn sotw(kind: ResourceType, version: &str, entries: &[Entry]) -> DiscoveryResponse {
    DiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: format!("nonce {version}"),
        version_info: version.to_owned(),
        resources: entries.iter().map(|entry| entry.any.clone()).collect(),
        ..DiscoveryResponse::default()
    }
}

fn offer<P: Protocol>(client: &mut Client<P>, response: P::Response) -> Offer {
    match client.receive(response).unwrap() {
        Received::Offer(offer) => *offer,
        Received::UnknownType(type_url) => panic!("{type_url} is known"),
    }
}

fn take<P: Protocol>(client: &mut Client<P>, response: P::Response) -> Vec<P::Request> {
    let offer = offer(client, response);
    client.conclude(offer)
}

/// `+name`, `-name`, then how it answers.
fn show(request: &DeltaDiscoveryRequest) -> String {
    let kind = ResourceType::from_type_url(&request.type_url).unwrap();
    let added = request.resource_names_subscribe.iter().map(|name| format!(" +{name}"));
    let removed = request
        .resource_names_unsubscribe
        .iter()
        .map(|name| format!(" -{name}"));
    let answer = match (&*request.response_nonce, &request.error_detail) {
        ("", _) => String::new(),
        (_, None) => " ack".to_owned(),
        (_, Some(error)) => format!(" nack {}", error.message),
    };
    format!("{kind}:{}{answer}", added.chain(removed).collect::<String>())
}

#[track_caller]
fn check(requests: &[DeltaDiscoveryRequest], expected: &[&str]) {
    assert_eq!(requests.iter().map(show).collect::<Vec<_>>(), expected);
}

fn encode(resources: &[Resource]) -> Vec<Entry> {
    resources.iter().map(Entry::encode).collect()
}

/// A client that runs one of everything.
fn settled() -> Client<Delta> {
    let mut client = Client::default();
    check(&client.connect(), &["cluster:", "listener:"]);
    let requests = take(&mut client, delta(CDS, &encode(&[cluster("c", 0, true)]), &[]));
    check(&requests, &["endpoints: +c", "cluster: ack"]);
    take(&mut client, delta(EDS, &encode(&[endpoints("c", 0)]), &[]));
    let requests = take(&mut client, delta(LDS, &encode(&[listener("l", 0, "r")]), &[]));
    check(&requests, &["route configuration: +r", "listener: ack"]);
    take(&mut client, delta(RDS, &encode(&[routes("r", 0, "c")]), &[]));
    assert!(client.is_complete());
    client
}

fn counts<P>(client: &Client<P>) -> [usize; 4]
where
    P: Protocol,
{
    let active = client.active();
    [
        active.clusters.len(),
        active.endpoints.len(),
        active.listeners.len(),
        active.routes.len(),
    ]
}

#[test]
fn nothing_runs_before_what_it_points_at_has_arrived() {
    let mut client = Client::<Delta>::default();
    take(&mut client, delta(CDS, &encode(&[cluster("c", 0, true)]), &[]));
    assert_eq!(client.warming(), [(CDS, "c".into())]);
    take(&mut client, delta(LDS, &encode(&[listener("l", 0, "r")]), &[]));
    assert_eq!(counts(&client), [0, 0, 0, 0]);
    assert_eq!(client.warming(), [(CDS, "c".into()), (LDS, "l".into())]);
    take(&mut client, delta(EDS, &encode(&[endpoints("c", 0)]), &[]));
    assert_eq!(counts(&client), [1, 1, 0, 0]);
    take(&mut client, delta(RDS, &encode(&[routes("r", 0, "c")]), &[]));
    assert_eq!(counts(&client), [1, 1, 1, 1]);
    assert!(client.is_complete());
}

#[test]
fn the_old_listener_serves_until_the_new_one_is_warm() {
    let mut client = settled();
    let requests = take(&mut client, delta(LDS, &encode(&[listener("l", 1, "next")]), &[]));
    check(&requests, &["route configuration: +next", "listener: ack"]);
    assert!(client.active().routes.contains_key("r"));
    let requests = take(&mut client, delta(RDS, &encode(&[routes("next", 0, "c")]), &[]));
    check(&requests, &["route configuration: -r", "route configuration: ack"]);
    assert_eq!(
        client
            .active()
            .routes
            .keys()
            .map(|name| name.as_str())
            .collect::<Vec<_>>(),
        ["next"]
    );
}

#[test]
fn every_refused_resource_is_named_and_the_others_apply() {
    let mut client = settled();
    let bad = unsupported(&cluster("c", 1, true));
    let mut renamed = wrap(&Entry::encode(&cluster("inside", 0, false)));
    renamed.name = "outside".to_owned();
    let mut timed = wrap(&Entry::encode(&cluster("timed", 0, false)));
    timed.ttl = Some(envoy_types::pb::google::protobuf::Duration { seconds: 1, nanos: 0 });
    let twice = wrap(&Entry::encode(&cluster("twice", 0, false)));
    let empty = Wrapper {
        name: "empty".to_owned(),
        ..Wrapper::default()
    };
    let garbage = Wrapper {
        name: "garbage".to_owned(),
        resource: Some(Any {
            type_url: CDS.type_url().to_owned(),
            value: vec![0xff],
        }),
        ..Wrapper::default()
    };
    let mut response = delta(CDS, &[bad, Entry::encode(&cluster("good", 0, false))], &[]);
    response
        .resources
        .extend([renamed, timed, twice.clone(), twice, empty, garbage, Wrapper::default()]);
    let before = client.active().clusters["c"].clone();
    let requests = take(&mut client, response);
    let text = show(requests.last().unwrap());
    for name in [
        "cluster c: ",
        "outside: its content is named \"inside\"",
        "timed: ttl",
        "twice: ",
        "empty: ",
        "garbage: ",
        "without a name",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(!text.contains("good"), "{text}");
    let names: Vec<_> = client.active().clusters.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["c", "good"]);
    assert_eq!(client.active().clusters["c"], before, "the last good version stays");
}

#[test]
fn what_cannot_be_run_is_refused_like_what_cannot_be_read() {
    let mut client = settled();
    let response = delta(CDS, &encode(&[cluster("x", 0, false), cluster("y", 0, false)]), &[]);
    let mut offer = offer(&mut client, response);
    assert!(client.is_news(&offer));
    let rejection = Rejection {
        resource_type: CDS,
        name: "x".into(),
        reason: "no".to_owned(),
    };
    client.reject(&mut offer, vec![rejection]);
    assert!(client.is_news(&offer), "y is");
    check(&client.conclude(offer), &["cluster: nack cluster x: no"]);
    assert!(client.active().clusters.contains_key("y") && !client.active().clusters.contains_key("x"));
}

#[test]
fn what_became_runnable_by_another_response_can_still_be_refused() {
    let mut client = settled();
    take(&mut client, delta(LDS, &encode(&[listener("l", 1, "next")]), &[]));
    let mut offer = offer(&mut client, delta(RDS, &encode(&[routes("next", 0, "c")]), &[]));
    let rejection = Rejection {
        resource_type: LDS,
        name: "l".into(),
        reason: "no".to_owned(),
    };
    client.reject(&mut offer, vec![rejection]);
    assert!(!client.is_news(&offer), "the earlier listener stays");
    check(&client.conclude(offer), &["route configuration: nack listener l: no"]);
    assert!(client.active().routes.contains_key("r"));
    // The next version of the listener is another matter.
    take(&mut client, delta(LDS, &encode(&[listener("l", 2, "next")]), &[]));
    assert!(client.active().routes.contains_key("next"));
}

#[test]
fn a_refusal_that_names_nothing_known_takes_everything_back() {
    let mut client = settled();
    let before = client.active().clone();
    let mut offer = offer(&mut client, delta(CDS, &encode(&[cluster("x", 0, false)]), &["c"]));
    let rejection = Rejection {
        resource_type: LDS,
        name: "unheard-of".into(),
        reason: "no".to_owned(),
    };
    client.reject(&mut offer, vec![rejection]);
    assert!(!client.is_news(&offer));
    let requests = client.conclude(offer);
    assert!(show(&requests[0]).contains("cluster x: cannot be run"), "{requests:?}");
    assert_eq!(*client.active(), before);
}

#[test]
fn removals_apply_to_what_is_not_pointed_at_by_name() {
    let mut client = settled();
    take(&mut client, delta(EDS, &[], &["c"]));
    take(&mut client, delta(RDS, &[], &["r"]));
    assert_eq!(
        counts(&client),
        [1, 1, 1, 1],
        "they stay while something points at them"
    );
    let requests = take(&mut client, delta(LDS, &[], &["l"]));
    check(&requests, &["route configuration: -r", "listener: ack"]);
    let requests = take(&mut client, delta(CDS, &[], &["c"]));
    check(&requests, &["endpoints: -c", "cluster: ack"]);
    assert_eq!(counts(&client), [0, 0, 0, 0]);
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let mut client = settled();
    let requests = take(&mut client, delta(RDS, &encode(&[routes("stranger", 0, "c")]), &[]));
    check(&requests, &["route configuration: ack"]);
    assert!(!client.active().routes.contains_key("stranger"));
    let unknown = DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/x.Y".to_owned(),
        nonce: "1".to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    assert!(matches!(client.receive(unknown), Ok(Received::UnknownType(_))));
    let silent = DeltaDiscoveryResponse {
        nonce: String::new(),
        ..delta(CDS, &[], &[])
    };
    assert_eq!(client.receive(silent).unwrap_err(), ProtocolError::NoNonce(CDS));
}

#[test]
fn a_reconnecting_client_says_what_it_holds() {
    let mut client = settled();
    let requests = client.connect();
    check(
        &requests,
        &["cluster:", "endpoints: +c", "listener:", "route configuration: +r"],
    );
    for request in &requests {
        assert_eq!(request.initial_resource_versions.len(), 1, "{request:?}");
    }
    assert_eq!(counts(&client), [1, 1, 1, 1]);
}

/// Type, names, version and nonce, and whether it refuses.
fn show_sotw(request: &DiscoveryRequest) -> String {
    let kind = ResourceType::from_type_url(&request.type_url).unwrap();
    let names = request.resource_names.join(",");
    let verdict = if request.error_detail.is_some() { " refused" } else { "" };
    format!(
        "{kind} [{names}] version {:?} nonce {:?}{verdict}",
        request.version_info, request.response_nonce
    )
}

#[track_caller]
fn check_sotw(requests: &[DiscoveryRequest], expected: &[&str]) {
    assert_eq!(requests.iter().map(show_sotw).collect::<Vec<_>>(), expected);
}

#[test]
fn state_of_the_world_requests_repeat_names_version_and_nonce() {
    let mut client = Client::<Sotw>::default();
    check_sotw(
        &client.connect(),
        &[
            r#"cluster [] version "" nonce """#,
            r#"listener [] version "" nonce """#,
        ],
    );
    let requests = take(
        &mut client,
        sotw(CDS, "1", &encode(&[cluster("c", 0, true), cluster("d", 0, true)])),
    );
    check_sotw(
        &requests,
        &[
            r#"endpoints [c,d] version "" nonce """#,
            r#"cluster [] version "1" nonce "nonce 1""#,
        ],
    );
    take(
        &mut client,
        sotw(EDS, "7", &encode(&[endpoints("c", 0), endpoints("d", 0)])),
    );

    // A refusal keeps the version; what is not in the response is gone, and with it its subscription.
    let bad = unsupported(&cluster("c", 1, true));
    let requests = take(&mut client, sotw(CDS, "2", &[bad]));
    let expected = [
        r#"endpoints [c] version "7" nonce "nonce 7""#,
        r#"cluster [] version "1" nonce "nonce 2" refused"#,
    ];
    check_sotw(&requests, &expected);
    assert_eq!(counts(&client), [1, 1, 0, 0]);

    // Nothing left to ask for ends the subscription.
    let requests = take(&mut client, sotw(CDS, "3", &[]));
    check_sotw(
        &requests,
        &[
            r#"endpoints [] version "7" nonce "nonce 7""#,
            r#"cluster [] version "3" nonce "nonce 3""#,
        ],
    );
    check_sotw(
        &client.connect(),
        &[
            r#"cluster [] version "" nonce """#,
            r#"listener [] version "" nonce """#,
        ],
    );
}

fn outside(routes: &[&str], endpoints: &[&str]) -> Arc<Outside> {
    let route = |name: &&str| crate::RouteConfigName::parse(name).unwrap();
    let endpoint = |name: &&str| crate::ClusterName::parse(name).unwrap();
    Arc::new(Outside {
        routes: routes.iter().map(route).collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    })
}

#[test]
fn what_comes_from_elsewhere_is_neither_asked_for_nor_taken() {
    let mut client = Client::<Delta>::new(Wants {
        listeners: true,
        clusters: false,
    });
    check(&client.connect(), &["listener:"]);
    let unasked = client
        .receive(delta(CDS, &encode(&[cluster("c", 0, false)]), &[]))
        .unwrap();
    assert!(matches!(unasked, Received::UnknownType(_)));
    take(&mut client, delta(LDS, &[], &[]));
    assert!(client.is_complete());
}

#[test]
fn what_is_pointed_at_from_outside_is_asked_for_as_long_as_it_is() {
    let mut client = Client::<Delta>::new(Wants {
        listeners: false,
        clusters: false,
    });
    check(&client.connect(), &[]);
    assert!(client.is_complete() && !client.is_interested());
    check(
        &client.point_at(outside(&["r"], &["c"])),
        &["endpoints: +c", "route configuration: +r"],
    );
    assert!(client.is_interested() && !client.is_complete());
    assert_eq!(client.warming(), [(RDS, "r".into()), (EDS, "c".into())]);
    take(&mut client, delta(RDS, &encode(&[routes("r", 0, "c")]), &[]));
    take(&mut client, delta(EDS, &encode(&[endpoints("c", 0)]), &[]));
    assert_eq!(counts(&client), [0, 1, 0, 1]);
    assert!(client.is_complete());

    check(
        &client.point_at(outside(&["other"], &["c"])),
        &["route configuration: +other -r"],
    );
    take(&mut client, delta(RDS, &encode(&[routes("other", 0, "c")]), &[]));
    assert!(client.active().routes.contains_key("other"));
    assert_eq!(counts(&client), [0, 1, 0, 1]);
    check(&client.connect(), &["endpoints: +c", "route configuration: +other"]);
}
