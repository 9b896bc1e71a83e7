//! What is read from one file, and how its contents are judged. No I/O.

use std::path::{Path, PathBuf};

use mesh::{
    bundle::Bundle,
    source::{FileSource, Source},
    xds::{
        Resource, ResourceType,
        ads::Name,
        file::{Contents, FileError},
    },
};

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subscription {
    kind: ResourceType,
    /// A wildcard if there is none: all listeners, or all clusters.
    name: Option<Name>,
    file: FileSource,
    /// Where moves are watched for, absolute as notices have it.
    directory: PathBuf,
}

/// The name Kubernetes gives the symbolic link that it swaps to replace all files of a volume at once.
const VOLUME_LINK: &str = "..data";

impl Subscription {
    /// To all resources of a kind.
    pub(super) fn all(kind: ResourceType, file: FileSource) -> Self {
        Self::new(kind, None, file)
    }

    /// To one resource, if its source is a file.
    pub(super) fn to(kind: ResourceType, name: &str, source: &Source) -> Option<Self> {
        match source {
            Source::File(file) => Some(Self::new(kind, Some(name.into()), file.clone())),
            Source::Ads => None,
        }
    }

    fn new(kind: ResourceType, name: Option<Name>, file: FileSource) -> Self {
        let directory = file.directory();
        // Fails only where there is no current directory; nothing relative can be found there anyway.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self {
            kind,
            name,
            file,
            directory,
        }
    }

    /// Whether something points at it by name.
    pub(super) fn is_pointed_at(&self) -> bool {
        self.name.is_some()
    }

    /// The file.
    pub(super) fn file(&self) -> &FileSource {
        &self.file
    }

    /// Where moves are watched for.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether something moved to `path` means that the file is another one now: any move into the watched directory; or,
    /// without one, onto the file itself or onto the link through which Kubernetes mounts it.
    pub(super) fn is_changed_by(&self, path: &Path) -> bool {
        let file = &self.file;
        let (directory, moved) = (path.parent(), path.file_name());
        let same_directory = directory == Some(&*self.directory);
        let itself = || moved == file.path.file_name() || moved.is_some_and(|moved| moved == VOLUME_LINK);
        same_directory && (file.watched_directory.is_some() || itself())
    }

    /// What the file says now. `former`: what is in force. Resources that cannot be taken are as they were, and named in the
    /// second part.
    pub(super) fn judge(&self, text: &str, former: &Bundle) -> (Bundle, Vec<String>) {
        match Contents::read(text, self.kind).map_err(|error: FileError| error.to_string()) {
            Ok(contents) => match &self.name {
                None => take(self.kind, contents, former),
                Some(name) => match only(name, self.kind, contents) {
                    Ok(resource) => (bundle_of([resource]), Vec::new()),
                    Err(problem) => (former.clone(), vec![problem]),
                },
            },
            Err(problem) => (former.clone(), vec![problem]),
        }
    }
}

/// The state of the world: what is not in it is gone, what is in it and wrong stays as it was.
fn take(kind: ResourceType, contents: Contents, former: &Bundle) -> (Bundle, Vec<String>) {
    let mut problems = Vec::new();
    let mut resources = Vec::new();
    for (name, judged) in contents.resources {
        match judged {
            Ok(resource) => resources.push(resource),
            Err(problem) => {
                problems.push(format!("{kind} {name}: {problem}"));
                resources.extend(find(kind, &name, former));
            }
        }
    }
    (bundle_of(resources), problems)
}

/// A file that something points at by name holds this one resource, as Envoy demands.
fn only(name: &Name, kind: ResourceType, contents: Contents) -> Result<Resource, String> {
    let count = contents.resources.len();
    let mut resources = contents.resources.into_iter();
    match (resources.next(), count) {
        (Some((_, Ok(resource))), 1) if resource.name() == &**name => Ok(resource),
        (Some((found, Ok(_))), 1) => Err(format!("the file has the {kind} {found}, but {name} is wanted")),
        (Some((found, Err(problem))), 1) => Err(format!("{kind} {found}: {problem}")),
        _ => Err(format!(
            "the file has {count} resources, exactly one is wanted: the {kind} {name}"
        )),
    }
}

fn find(kind: ResourceType, name: &str, bundle: &Bundle) -> Option<Resource> {
    match kind {
        ResourceType::Listener => bundle.listeners.get(name).cloned().map(Resource::Listener),
        ResourceType::Cluster => bundle.clusters.get(name).cloned().map(Resource::Cluster),
        ResourceType::RouteConfig | ResourceType::Endpoints | ResourceType::Secret => None,
    }
}

fn bundle_of(resources: impl IntoIterator<Item = Resource>) -> Bundle {
    let mut bundle = Bundle::default();
    for resource in resources {
        bundle.insert(resource);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, watched: Option<&str>) -> FileSource {
        FileSource {
            path: path.into(),
            watched_directory: watched.map(Into::into),
        }
    }

    #[test]
    fn only_moves_that_can_mean_the_file_mean_it() {
        let check = |watched, path: &str, expect| {
            let subscription = Subscription::all(ResourceType::Listener, file("/xds/lds.yaml", watched));
            assert_eq!(
                subscription.is_changed_by(Path::new(path)),
                expect,
                "{watched:?} {path}"
            );
        };
        check(None, "/xds/lds.yaml", true);
        check(None, "/xds/..data", true);
        check(None, "/xds/other.yaml", false);
        check(None, "/other/lds.yaml", false);
        check(Some("/watched"), "/watched/anything", true);
        check(Some("/watched"), "/xds/lds.yaml", false);
        check(Some("/watched"), "/watched/below/lds.yaml", false);
    }

    #[test]
    fn a_relative_file_is_watched_for_where_it_is() {
        let subscription = Subscription::all(ResourceType::Listener, file("lds.yaml", None));
        let here = std::env::current_dir().unwrap();
        assert_eq!(subscription.directory(), here);
        assert!(subscription.is_changed_by(&here.join("lds.yaml")));
    }

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

    fn clusters(bundle: &Bundle) -> Vec<&str> {
        bundle.clusters.keys().map(mesh::ClusterName::as_str).collect()
    }

    #[test]
    fn what_is_wrong_stays_as_it_was_and_what_is_not_there_is_gone() {
        let all = Subscription::all(ResourceType::Cluster, file("/xds/cds.yaml", None));
        let text = |clusters: &[(&str, &str)]| {
            let one = |(name, more): &(&str, &str)| {
                format!(
                    "- {{\"@type\": {CLUSTER}, name: {name}, type: STATIC, load_assignment: {{cluster_name: x}}{more}}}\n"
                )
            };
            format!("resources:\n{}", clusters.iter().map(one).collect::<String>())
        };
        let (first, problems) = all.judge(&text(&[("a", ""), ("b", ""), ("c", "")]), &Bundle::default());
        assert_eq!((clusters(&first), problems.len()), (vec!["a", "b", "c"], 0));
        let bad = ", lb_policy: MAGLEV";
        let (second, problems) = all.judge(&text(&[("a", bad), ("b", ", connect_timeout: 1s"), ("d", bad)]), &first);
        assert_eq!(clusters(&second), ["a", "b"]);
        assert_eq!(second.clusters["a"], first.clusters["a"]);
        assert_ne!(second.clusters["b"], first.clusters["b"]);
        assert!(
            problems[0].starts_with("cluster a: ") && problems[0].contains("MAGLEV"),
            "{problems:?}"
        );
        assert!(
            problems[1].starts_with("cluster d: ") && problems.len() == 2,
            "{problems:?}"
        );
        let (third, problems) = all.judge("resources: [", &second);
        assert_eq!((&third, problems.len()), (&second, 1));
        assert_eq!(all.judge("resources: []", &third), (Bundle::default(), vec![]));
    }

    #[test]
    fn a_file_that_is_pointed_at_holds_the_one_resource() {
        let source = Source::File(file("/xds/eds.yaml", None));
        let one = Subscription::to(ResourceType::Endpoints, "a", &source).unwrap();
        let text = |names: &[&str]| {
            let resource = |name: &&str| format!("- {{\"@type\": {ENDPOINTS}, cluster_name: {name}}}\n");
            match names {
                [] => "resources: []".to_owned(),
                names => format!("resources:\n{}", names.iter().map(resource).collect::<String>()),
            }
        };
        let (held, problems) = one.judge(&text(&["a"]), &Bundle::default());
        assert_eq!((held.endpoints.len(), problems.len()), (1, 0));
        for (names, expect) in [
            (&["b"][..], "the file has the endpoints b, but a is wanted"),
            (&["a", "b"], "the file has 2 resources"),
            (&[], "the file has 0 resources"),
        ] {
            let (after, problems) = one.judge(&text(names), &held);
            assert_eq!(after, held);
            assert!(problems[0].contains(expect), "{problems:?}");
        }
    }

    #[test]
    fn what_comes_over_ads_is_no_file() {
        assert_eq!(Subscription::to(ResourceType::Endpoints, "a", &Source::Ads), None);
    }
}
