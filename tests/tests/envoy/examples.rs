//! Everything in `examples/`, as states of a directory that control serves, and who asks for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use control::{
    applied::Applied, compile::compile, istio::load, mesh_config::MeshConfig, node::Node as Asking, world::World,
};
use mesh::{
    bundle::Bundle,
    xds::{
        ads,
        bootstrap::Node,
        proxy::{Interception, Pod, Role},
    },
};
use tempfile::TempDir;

/// A proxy of the tutorial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Gateway,
    TeamX,
    TeamY,
}

/// A state of the directory that control serves.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// What it is.
    pub(crate) name: String,
    /// Its files, by name.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

impl Proxy {
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::TeamX, Self::TeamY];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::TeamX => "team-x",
            Self::TeamY => "team-y",
        }
    }

    /// Who it proves to be.
    pub(crate) fn identity(self) -> String {
        let pod = self.pod();
        format!("spiffe://cluster.local/ns/{}/sa/{}", pod.namespace, pod.service_account)
    }

    /// Who it says it is. The sidecars have an explicit proxy too.
    pub(crate) fn node(self) -> Node {
        let role = match self {
            Self::Gateway => Role::Gateway,
            Self::TeamX | Self::TeamY => Role::Sidecar {
                interception: Interception::Redirect,
                http_proxy_port: Some(15080),
            },
        };
        self.pod().node(role)
    }

    fn pod(self) -> Pod {
        let (namespace, account, labels, address): (_, _, &[(&str, &str)], _) = match self {
            Self::Gateway => (
                "istio-egress",
                "istio-egressgateway-service-account",
                &[("app", "istio-egressgateway"), ("istio", "egressgateway")],
                [10, 1, 4, 12],
            ),
            Self::TeamX => ("team-x", "test", &[("app", "test")], [10, 1, 0, 17]),
            Self::TeamY => ("team-y", "test", &[("app", "test")], [10, 1, 0, 18]),
        };
        Pod {
            name: format!("{}-1", self.name()),
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            address: address.into(),
        }
    }
}

impl State {
    /// Makes a directory what this state is, changing as little as possible.
    pub(crate) fn write(&self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if !self.files.contains_key(entry.file_name().to_str().unwrap()) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, from) in &self.files {
            let (to, text) = (directory.join(name), fs::read(from).unwrap());
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::write(to, text).unwrap();
            }
        }
    }

    /// What a proxy is served in this state.
    pub(crate) fn bundle(&self, proxy: Proxy) -> Bundle {
        let directory = TempDir::new().unwrap();
        self.write(directory.path());
        let mesh = MeshConfig::default();
        let applied = Applied::default().advance(load(directory.path()), &mesh.root_namespace);
        compile(&World::new(&applied.objects), &mesh, &asking(proxy)).0
    }
}

fn asking(proxy: Proxy) -> Asking {
    let node = proxy.node();
    let node = ads::Node {
        id: node.id,
        cluster: node.cluster,
        metadata: Some(ads::struct_of(&node.metadata)),
        ..ads::Node::default()
    };
    Asking::parse(&node).unwrap()
}

fn examples(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

/// The tutorial after each of its steps, as the table of the README has them.
pub(crate) fn steps() -> Vec<State> {
    let readme = fs::read_to_string(examples("README.md")).unwrap();
    let rows = readme
        .lines()
        .filter(|line| line.starts_with('|') && line.contains(".yaml`"));
    let mut files = BTreeMap::new();
    let mut state = |(number, row): (usize, &str)| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let directory = examples(&quoted(cells[4])[0]);
        files.extend(
            quoted(cells[3])
                .into_iter()
                .map(|name| (name.clone(), directory.join(name))),
        );
        State {
            name: format!("{number:02} {}", cells[2]),
            files: files.clone(),
        }
    };
    let steps: Vec<_> = (1..).zip(rows).map(&mut state).collect();
    assert!(steps.len() > 10, "the README has its table");
    steps
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each mistake beside what is in order: control serves the rest.
pub(crate) fn mistakes() -> Vec<State> {
    let base = ("base.yaml".to_owned(), examples("broken/base.yaml"));
    let mut mistakes: Vec<_> = fs::read_dir(examples("broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .map(|mistake| State {
            name: mistake.0.clone(),
            files: BTreeMap::from([base.clone(), mistake]),
        })
        .collect();
    mistakes.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(mistakes.len() > 20, "there are files of mistakes");
    mistakes
}
