use super::*;
use crate::{authz::Verdict, tls::client_hello::Hello};

#[test]
fn every_core_does_what_it_says() {
    let Hello::Tls(hello) = client_hello::read(&traffic::client_hello()) else {
        panic!("not a whole ClientHello");
    };
    assert_eq!(hello.server_name.unwrap().as_str(), "host-0.test");
    assert_eq!(hello.protocols, ["h2", "http/1.1"]);

    let engine = Engine::build(&[config::policies(10)]);
    assert_eq!(engine.check(&traffic::Request::of_team(9)), Verdict::Allow);
    assert_eq!(engine.check(&traffic::Request::of_team(10)), Verdict::Deny(None));

    let table = RouteTable::build(&config::routes(10)).unwrap();
    assert!(table.find(&traffic::head(9)).is_some() && table.find(&traffic::head(10)).is_none());

    let mut line = Vec::new();
    record().render(&mut line);
    let line = String::from_utf8(line).unwrap();
    assert!(
        line.contains("\"GET /some/path?and=query HTTP/2\" 200 - via_upstream"),
        "{line}"
    );
}

#[test]
fn every_core_can_be_set_up_and_repeated() {
    for name in names().filter(|name| !name.contains("0000")) {
        measured_core(&mut core(name).unwrap(), 2);
    }
}
