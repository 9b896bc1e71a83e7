use serde_json::Value;
use tempfile::TempDir;

use super::*;

struct Lab(TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, action: Action) -> anyhow::Result<String> {
        let mut out = Vec::new();
        run(&Args { action }, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn init_ca(&self) -> anyhow::Result<String> {
        self.run(Action::InitCa {
            directory: self.path("ca"),
            trust_domain: TrustDomain::parse("cluster.local").unwrap(),
            lifetime: None,
        })
    }

    fn issue(&self, name: &str) -> anyhow::Result<String> {
        self.run(Action::Issue {
            name: name.to_owned(),
            ca: self.path("ca"),
            out: self.path("out"),
            lifetime: Some(Duration::from_secs(3600)),
        })
    }

    fn show(&self, path: &str, json: bool) -> anyhow::Result<String> {
        self.run(Action::Show {
            path: self.path(path),
            json,
        })
    }
}

#[test]
fn an_identity_is_issued_and_shown() {
    let (lab, id) = (Lab::new(), "spiffe://cluster.local/ns/team-x/sa/test");
    lab.init_ca().unwrap();
    assert!(lab.issue(id).unwrap().starts_with(&format!("{id} in ")));
    let shown = lab.show("out", false).unwrap();
    assert!(shown.starts_with(&format!("certificate of {id}\n")), "{shown}");
    let shown: Value = serde_json::from_str(&lab.show("out", true).unwrap()).unwrap();
    assert_eq!(
        (&shown[0]["names"][0], &shown[0]["state"]),
        (&Value::from(id), &Value::from("valid"))
    );
    assert_eq!(shown[0]["ca"], false);
    assert!(
        lab.show("ca/ca-cert.pem", false)
            .unwrap()
            .starts_with("CA certificate of ")
    );
}

#[test]
fn a_server_certificate_names_its_host() {
    let lab = Lab::new();
    lab.init_ca().unwrap();
    lab.issue("Example.com").unwrap();
    let shown: Value = serde_json::from_str(&lab.show("out", true).unwrap()).unwrap();
    assert_eq!(shown[0]["names"], serde_json::json!(["example.com"]));
}

#[test]
fn a_mistake_is_explained() {
    let lab = Lab::new();
    let check = |result: anyhow::Result<String>, expect: &str| {
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(expect), "{error}");
    };
    check(lab.issue("example.com"), "create one: sallyport certs init-ca");
    lab.init_ca().unwrap();
    check(lab.init_ca(), "is not overwritten");
    check(
        lab.issue("spiffe://cluster.local/team-x"),
        "spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
    );
    check(lab.issue("no host"), "is neither a SPIFFE ID nor a host");
    check(lab.show("nothing.pem", false), "nothing.pem");
    check(lab.show("ca/ca-key.pem", false), "there is no certificate in it");
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn an_agent_issues_or_reads_but_not_both() {
    let parse = |words: &str| {
        let words = ["certs", "agent"].into_iter().chain(words.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words).map(drop)
    };
    let id = "spiffe://cluster.local/ns/team-x/sa/test";
    parse(&format!("{id} --ca ca --lifetime 1h --group --socket s")).unwrap();
    parse("--identity dir --system-roots roots.pem").unwrap();
    for wrong in [
        String::new(),
        id.to_owned(),
        "--ca ca".to_owned(),
        format!("{id} --identity dir"),
        format!("{id} --ca ca --identity dir"),
        "--identity dir --lifetime 1h".to_owned(),
        "example.com --ca ca".to_owned(),
    ] {
        assert!(parse(&wrong).is_err(), "{wrong}");
    }
}
