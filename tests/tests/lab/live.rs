//! Changes while it runs.

use std::fs;

use sallyport::lab::{
    client::{Call, Failure},
    cluster::{TEAM_X, TEAM_Y},
    manifests,
    mesh::Mesh,
};
use tokio::time::timeout;

use crate::{DEADLINE, complete};

async fn status(mesh: &Mesh, team: std::net::IpAddr, call: Call) -> u16 {
    mesh.app(team).unwrap().send(&call).await.unwrap().status.as_u16()
}

/// Overwrites a file of the watched directory and waits until control has something to say about it.
async fn spoil(mesh: &Mesh, name: &str, text: &str) {
    fs::write(mesh.config_directory().join(name), text).unwrap();
    let noticed = mesh
        .control()
        .wait_for(|applied| applied.diagnostics.iter().any(|found| found.is_error()));
    timeout(DEADLINE, noticed).await.expect("control notices the mistake");
    timeout(DEADLINE, mesh.control().acknowledged()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_read_stays_as_it_was() {
    let mesh = complete().await;
    for text in [
        "{",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: egress-team-y-to-httpbin-teapot, namespace: istio-egress}\nspec: {rule: []}\n",
    ] {
        spoil(&mesh, "61-policy-team-y-httpbin-teapot.yaml", text).await;
        assert_eq!(
            status(&mesh, TEAM_Y, Call::get("http://httpbin.org/status/418")).await,
            418,
            "{text}"
        );
        assert_eq!(
            status(&mesh, TEAM_Y, Call::get("http://httpbin.org/")).await,
            403,
            "{text}"
        );
        assert_eq!(
            status(&mesh, TEAM_X, Call::get("http://example.com/")).await,
            200,
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_away_is_gone() {
    let mesh = complete().await;
    assert_eq!(
        status(&mesh, TEAM_Y, Call::get("http://httpbin.org/status/418")).await,
        418
    );
    fs::remove_file(mesh.config_directory().join("61-policy-team-y-httpbin-teapot.yaml")).unwrap();
    mesh.apply(&[]).await.unwrap();
    assert_eq!(
        status(&mesh, TEAM_Y, Call::get("http://httpbin.org/status/418")).await,
        403
    );
    mesh.apply(&[manifests::find("tutorial/61-policy-team-y-httpbin-teapot.yaml").unwrap()])
        .await
        .unwrap();
    assert_eq!(
        status(&mesh, TEAM_Y, Call::get("http://httpbin.org/status/418")).await,
        418
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_taken_away_leads_nowhere() {
    let mesh = complete().await;
    let app = mesh.app(TEAM_X).unwrap();
    assert_eq!(status(&mesh, TEAM_X, Call::get("https://example.com")).await, 200);
    for name in [
        "42-example-com.yaml",
        "43-example-com-route.yaml",
        "70-example-com-originate-tls.yaml",
    ] {
        fs::remove_file(mesh.config_directory().join(name)).unwrap();
    }
    mesh.apply(&[]).await.unwrap();
    let refused = app.send(&Call::get("https://example.com")).await;
    assert!(matches!(refused, Err(Failure::Tls(_))), "{refused:?}");
    assert_eq!(status(&mesh, TEAM_X, Call::get("http://example.com")).await, 502);
}
