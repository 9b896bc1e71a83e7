//! Resources from files, in every form that Envoy reads them in; what reaches a running Envoy reaches ours.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use gateway::{Gateway, bootstrap::Plan};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::proxy::{Proxy, envoy};

/// How files are laid out and written.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// As `.yaml`; else as `.json`.
    yaml: bool,
    /// As Kubernetes mounts a volume, with a watched directory.
    volume: bool,
    /// The bootstrap says `path:` in place of `path_config_source:`.
    deprecated: bool,
}

/// A directory with a bootstrap and four files: listeners, clusters, routes, endpoints.
struct Tree {
    form: Form,
    directory: TempDir,
    /// Counts the versions of a volume.
    version: u32,
}

const TYPE: &str = "type.googleapis.com/";
const FORMS: [Form; 4] = [
    Form {
        yaml: false,
        volume: false,
        deprecated: false,
    },
    Form {
        yaml: true,
        volume: false,
        deprecated: true,
    },
    Form {
        yaml: true,
        volume: true,
        deprecated: false,
    },
    Form {
        yaml: false,
        volume: true,
        deprecated: false,
    },
];

impl Tree {
    fn new(form: Form, site: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let mut tree = Self {
            form,
            directory,
            version: 0,
        };
        tree.write(&[
            ("lds", response(&[tree.listener("first")])),
            ("cds", response(&[tree.cluster("site")])),
            ("rds", response(&[routes("one")])),
            ("eds", response(&[endpoints("site", site)])),
        ]);
        let bootstrap = json!({
            "node": {"id": "files", "cluster": "test"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {"lds_config": tree.source("lds"), "cds_config": tree.source("cds")},
        });
        fs::write(tree.bootstrap(), tree.text(&bootstrap)).unwrap();
        tree
    }

    fn bootstrap(&self) -> PathBuf {
        self.directory.path().join(self.file("bootstrap"))
    }

    fn file(&self, name: &str) -> String {
        format!("{name}.{}", if self.form.yaml { "yaml" } else { "json" })
    }

    /// JSON is YAML, but this is YAML that is no JSON.
    fn text(&self, value: &Value) -> String {
        match (self.form.yaml, value) {
            (true, Value::Object(fields)) => {
                let line = |(key, value): (&String, &Value)| format!("\"{key}\": {value} # a comment\n");
                fields.iter().map(line).collect()
            }
            _ => value.to_string(),
        }
    }

    fn mount(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount().join(self.file(name))
    }

    fn source(&self, name: &str) -> Value {
        let path = self.path(name);
        match self.form {
            Form { deprecated: true, .. } => json!({"path": path, "resource_api_version": "V3"}),
            Form { volume: true, .. } => json!({
                "path_config_source": {"path": path, "watched_directory": {"path": self.mount()}},
                "resource_api_version": "V3",
            }),
            Form { .. } => json!({"path_config_source": {"path": path}, "resource_api_version": "V3"}),
        }
    }

    fn listener(&self, name: &str) -> Value {
        json!({
            "@type": format!("{TYPE}envoy.config.listener.v3.Listener"),
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "http",
                "rds": {"route_config_name": "routes", "config_source": self.source("rds")},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router"),
                }}],
            }}]}],
        })
    }

    fn cluster(&self, name: &str) -> Value {
        json!({
            "@type": format!("{TYPE}envoy.config.cluster.v3.Cluster"),
            "name": name,
            "type": "EDS",
            "eds_cluster_config": {"service_name": "site", "eds_config": self.source("eds")},
        })
    }

    /// Replaces files as a whole: one by one, by a move; or, in a volume, all at once.
    fn write(&mut self, files: &[(&str, Value)]) {
        for (name, value) in files {
            self.write_text(name, &self.text(value));
        }
        self.publish();
    }

    fn write_text(&self, name: &str, text: &str) {
        let to = self.place();
        fs::create_dir_all(&to).unwrap();
        let beside = to.join(format!(".{name}"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, to.join(self.file(name))).unwrap();
    }

    /// Where files of the next version are written.
    fn place(&self) -> PathBuf {
        match self.form.volume {
            true => self.mount().join(format!("..version-{}", self.version)),
            false => self.mount(),
        }
    }

    /// As Kubernetes does: the link to the version's directory is replaced by a move.
    fn publish(&mut self) {
        if !self.form.volume {
            return;
        }
        let (mount, current) = (self.mount(), self.place());
        symlink(current.file_name().unwrap(), mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        for name in ["lds", "cds", "rds", "eds"].map(|name| self.file(name)) {
            if !mount.join(&name).is_symlink() {
                symlink(Path::new("..data").join(&name), mount.join(&name)).unwrap();
            }
        }
        self.version += 1;
        let next = self.place();
        fs::create_dir(&next).unwrap();
        for entry in fs::read_dir(current).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), next.join(entry.file_name())).unwrap();
        }
    }
}

fn response(resources: &[Value]) -> Value {
    json!({"version_info": "1", "resources": resources})
}

/// `/version` is answered directly, `/late` by a cluster that comes later, all else by the site.
fn routes(version: &str) -> Value {
    json!({
        "@type": format!("{TYPE}envoy.config.route.v3.RouteConfiguration"),
        "name": "routes",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"path": "/version"}, "direct_response": {"status": 200, "body": {"inline_string": version}}},
            {"match": {"path": "/late"}, "route": {"cluster": "late"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "site"}},
        ]}],
    })
}

fn endpoints(name: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "@type": format!("{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment"),
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    })
}

/// A site that says who it is.
async fn site(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await?);
                }
                let length = name.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}");
                stream.write_all(answer.as_bytes()).await
            });
        }
    });
    port
}

/// Everything that files can tell a running proxy, in order; what is wrong in between changes nothing.
async fn changes_reach(proxy: &Proxy, tree: &mut Tree) {
    proxy.answers("first", "/version", "200", "one").await;
    proxy.answers("first", "/", "200", "outside").await;
    tree.write(&[("rds", response(&[routes("two")]))]);
    proxy.answers("first", "/version", "200", "two").await;

    tree.write_text("rds", "resources: [");
    tree.publish();
    tree.write(&[("lds", response(&[tree.listener("first"), tree.listener("second")]))]);
    proxy.answers("second", "/version", "200", "two").await;
    tree.write(&[("rds", response(&[routes("three")]))]);
    proxy.answers("first", "/version", "200", "three").await;
    proxy.answers("second", "/version", "200", "three").await;

    let elsewhere = site("elsewhere").await;
    tree.write(&[("eds", response(&[endpoints("site", elsewhere)]))]);
    proxy.answers("first", "/", "200", "elsewhere").await;

    tree.write(&[("cds", response(&[tree.cluster("site"), tree.cluster("late")]))]);
    proxy.answers("first", "/late", "200", "elsewhere").await;
}

#[tokio::test]
async fn changed_files_reach_a_running_gateway() {
    for form in FORMS {
        println!("{form:?}");
        let mut tree = Tree::new(form, site("outside").await);
        let gateway = Proxy::ours(&tree.bootstrap()).await;
        changes_reach(&gateway, &mut tree).await;
    }
}

#[tokio::test]
async fn changed_files_reach_a_real_envoy_in_the_same_way() {
    let Some(binary) = envoy() else { return };
    for form in FORMS {
        println!("{form:?}");
        let mut tree = Tree::new(form, site("outside").await);
        let envoy = Proxy::envoy(&binary, &tree.bootstrap()).await;
        changes_reach(&envoy, &mut tree).await;
    }
}

#[tokio::test]
async fn a_volume_s_swap_reaches_a_gateway_that_watches_no_directory() {
    let form = Form {
        yaml: true,
        volume: true,
        deprecated: true,
    };
    let mut tree = Tree::new(form, site("outside").await);
    let gateway = Proxy::ours(&tree.bootstrap()).await;
    changes_reach(&gateway, &mut tree).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read() {
    let mut tree = Tree::new(FORMS[0], site("outside").await);
    let gateway = Proxy::ours(&tree.bootstrap()).await;
    fs::write(tree.path("rds"), tree.text(&response(&[routes("half")]))).unwrap();
    tree.write(&[("lds", response(&[tree.listener("first"), tree.listener("second")]))]);
    gateway.answers("second", "/version", "200", "one").await;
}

#[tokio::test]
async fn one_bad_resource_of_a_file_leaves_the_others() {
    let mut tree = Tree::new(FORMS[0], site("outside").await);
    let gateway = Proxy::ours(&tree.bootstrap()).await;
    gateway.answers("first", "/version", "200", "one").await;
    let mut bad = tree.listener("first");
    bad["tcp_fast_open_queue_length"] = 5.into();
    tree.write(&[("lds", response(&[bad, tree.listener("second")]))]);
    gateway.answers("second", "/version", "200", "one").await;
    gateway.answers("first", "/version", "200", "one").await;
}

#[tokio::test]
async fn a_listener_s_address_is_nobody_else_s() {
    let mut tree = Tree::new(FORMS[0], 9);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let at = |mut listener: Value, routes: &str| {
        listener["address"]["socket_address"]["port_value"] = free.port().into();
        listener["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = routes.into();
        listener
    };
    let owner = at(tree.listener("owner"), "owner");
    tree.write(&[("lds", response(std::slice::from_ref(&owner)))]);
    let gateway = Proxy::ours(&tree.bootstrap()).await;
    gateway.answers("owner", "/version", "200", "one").await;
    let thief = at(tree.listener("a-thief"), "thief");
    tree.write(&[("lds", response(&[owner, thief, tree.listener("other")]))]);
    gateway.answers("other", "/version", "200", "one").await;
    let Proxy::Ours(handle) = gateway else { unreachable!() };
    let bound: Vec<_> = handle.bound().into_keys().map(|name| name.to_string()).collect();
    assert_eq!(bound, ["other", "owner"]);
}

#[tokio::test]
async fn a_file_that_is_not_there_keeps_the_gateway_from_starting() {
    for missing in ["lds", "cds", "rds", "eds"] {
        let tree = Tree::new(FORMS[0], 9);
        fs::remove_file(tree.path(missing)).unwrap();
        let plan = || Plan::read(&fs::read_to_string(tree.bootstrap()).unwrap(), None).unwrap();
        let error = Gateway::start(plan().settings).await.err().unwrap().to_string();
        assert!(
            error.contains(&tree.file(missing)) && error.contains("No such file"),
            "{error}"
        );
        let error = Gateway::check(plan().settings).await.err().unwrap().to_string();
        assert!(error.contains(&tree.file(missing)), "{error}");
    }
}

#[tokio::test]
async fn a_check_reads_what_a_start_would_only_report() {
    let tree = Tree::new(FORMS[0], 9);
    let plan = || Plan::read(&fs::read_to_string(tree.bootstrap()).unwrap(), None).unwrap();
    Gateway::check(plan().settings).await.unwrap();
    tree.write_text("lds", "{\"resources\": [{\"@type\": \"x/y\"}]}");
    Gateway::start(plan().settings).await.unwrap().shutdown().await;
    let error = Gateway::check(plan().settings).await.err().unwrap().to_string();
    assert!(
        error.contains("lds.json: listener resources[0]: unknown message type"),
        "{error}"
    );
}
