//! What applications can and cannot do.

use hyper::{Method, Uri};
use sallyport::lab::{
    client::{Call, Failure},
    cluster::{EXPLICIT_PROXY as PROXY, TEAM_X, TEAM_Y},
    log::Field,
    mesh::Mesh,
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{DEADLINE, check, complete, line};

async fn status(mesh: &Mesh, team: std::net::IpAddr, call: Call) -> u16 {
    mesh.app(team).unwrap().send(&call).await.unwrap().status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_name_its_proxy() {
    let mesh = complete().await;
    let gateway = mesh.logs().gateway;
    assert_eq!(
        status(&mesh, TEAM_X, Call::head("http://example.com").through(PROXY)).await,
        200
    );
    check(
        &line(&gateway, 0).await,
        &[
            (Field::UpstreamHost, "93.184.216.34:443"),
            (Field::Request, "HEAD / HTTP/2"),
        ],
    );
    assert_eq!(
        status(&mesh, TEAM_X, Call::get("https://example.com").through(PROXY)).await,
        200
    );
    check(
        &line(&gateway, 1).await,
        &[
            (Field::Cluster, "outbound|443||example.com"),
            (Field::Sni, "example.com"),
        ],
    );
    assert_eq!(
        status(&mesh, TEAM_Y, Call::get("http://httpbin.org/status/418").through(PROXY)).await,
        418
    );
    assert_eq!(
        status(&mesh, TEAM_Y, Call::get("http://example.com").through(PROXY)).await,
        502
    );
    let refused = mesh
        .app(TEAM_Y)
        .unwrap()
        .send(&Call::get("https://example.com").through(PROXY))
        .await;
    assert!(matches!(refused, Err(Failure::Tunnel(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_inside_the_mesh_stays_there() {
    let mesh = Mesh::start().await.unwrap();
    let open: Vec<_> = crate::all()
        .into_iter()
        .filter(|manifest| !manifest.name.contains("policy"))
        .collect();
    mesh.apply(&open).await.unwrap();
    let call = Call::new(Method::POST, Uri::from_static("http://httpbin.org/post?a=b"))
        .header("x-team", "x")
        .header("x-forwarded-client-cert", "Hash=forged")
        .body("hello");
    let reply = mesh.app(TEAM_X).unwrap().send(&call).await.unwrap();
    let seen: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (&seen["method"], &seen["path"], &seen["query"]),
        (&"POST".into(), &"/post".into(), &"a=b".into())
    );
    assert_eq!((&seen["data"], &seen["version"]), (&"hello".into(), &"HTTP/1.1".into()));
    let headers = seen["headers"].as_object().unwrap();
    assert_eq!(
        (&headers["host"][0], &headers["x-team"][0]),
        (&"httpbin.org".into(), &"x".into())
    );
    let leaked: Vec<_> = headers
        .keys()
        .filter(|name| name.contains("client-cert") || name.contains("peer-metadata"))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_once_leave_a_line_each() {
    const CALLS: usize = 200;
    let mesh = complete().await;
    let app = mesh.app(TEAM_X).unwrap();
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let (app, secure) = (app.clone(), number % 2 == 0);
        let call = if secure {
            Call::get("https://example.com")
        } else {
            Call::get("http://example.com")
        };
        calls.spawn(async move { app.send(&call).await.unwrap().status.as_u16() });
    }
    assert!(calls.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(mesh.outside().requests("example.com"), CALLS as u64);
    let logs = mesh.logs();
    assert!(logs.team_x.reaches(CALLS, DEADLINE).await && logs.gateway.reaches(CALLS, DEADLINE).await);
    mesh.stop().await.unwrap();
    assert_eq!((logs.team_x.len(), logs.gateway.len()), (CALLS, CALLS));
}
