//! One file's text to objects: which kind each document is, its metadata, its content, its validation.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    decode::{self, Finding},
    metadata::{Metadata, ObjectId},
    object::{Object, Source, Spec},
    path::FieldPath,
    scope::is_dns_label,
    support, validate,
    yaml::{self, Malformed, Node, Position},
};
use crate::diag::{Code, Diagnostic, Location, Severity};

/// What one file has.
#[derive(Debug, Default)]
pub(super) struct FileContent {
    /// Objects that may be applied.
    pub(super) objects: Vec<Arc<Object>>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Objects that are there but may not be applied.
    pub(super) rejected: Vec<ObjectId>,
    /// Objects of kinds that are none of our business.
    pub(super) skipped: Vec<(ObjectId, Location)>,
    /// Whether something is there that could not be told apart as an object.
    pub(super) unnamed: bool,
}

/// How a document is treated, by its `apiVersion` and `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Read(Shape),
    Expand,
    Skip,
    NotImplemented,
    UnknownVersion,
    UnknownKind,
}

/// Where a kind keeps its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Spec,
    TopLevel,
}

/// Kinds of Istio's API groups that we do not implement.
const NOT_IMPLEMENTED: &[&str] = &[
    "EnvoyFilter",
    "ProxyConfig",
    "WorkloadEntry",
    "WorkloadGroup",
    "RequestAuthentication",
    "Telemetry",
    "WasmPlugin",
    "TrafficExtension",
];
const NETWORKING: &[&str] = &[
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
];
const SECURITY: &[&str] = &["AuthorizationPolicy", "PeerAuthentication"];
const ISTIO_GROUPS: &[&str] = &[
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
];
/// Top-level fields besides the content.
const ENVELOPE: &[&str] = &["apiVersion", "kind", "metadata", "status"];

/// Reads every document of a file.
pub(super) fn read(file: &Arc<str>, text: &str) -> FileContent {
    let mut reader = FileReader {
        file,
        content: FileContent::default(),
    };
    for document in yaml::documents(text) {
        match document {
            Ok(root) => reader.document(&root),
            Err(malformed) => reader.malformed(&malformed),
        }
    }
    reader.content
}

struct FileReader<'a> {
    file: &'a Arc<str>,
    content: FileContent,
}

impl FileReader<'_> {
    fn document(&mut self, root: &Arc<Node>) {
        let text = |key| root.get(key).and_then(|node| node.text()).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            self.content.unnamed = true;
            return self.report(
                root.position,
                None,
                "",
                Code::Invalid,
                "not a Kubernetes object: apiVersion and kind are required",
                None,
            );
        }
        match treatment(api_version, kind) {
            Treatment::Expand => root
                .get("items")
                .map_or(&[][..], |items| items.items())
                .iter()
                .for_each(|item| self.document(item)),
            Treatment::Skip => self.skip(root, kind),
            Treatment::Read(shape) => self.object(root, kind, shape),
            refused => self.refuse(root, api_version, kind, refused),
        }
    }

    fn skip(&mut self, root: &Node, kind: &str) {
        let id = name_of(root, kind);
        let location = self.location(root.position);
        self.content.skipped.push((id, location));
    }

    fn refuse(&mut self, root: &Node, api_version: &str, kind: &str, why: Treatment) {
        let id = name_of(root, kind);
        let (field, code, message, advice) = match why {
            Treatment::NotImplemented => {
                let advice = "remove it; Sallyport would not do what it asks for".to_owned();
                (
                    "kind",
                    Code::NotImplemented,
                    format!("{kind} is not implemented"),
                    advice,
                )
            }
            Treatment::UnknownVersion => {
                let advice = "use v1, v1beta1 or, for networking, v1alpha3".to_owned();
                (
                    "apiVersion",
                    Code::UnknownKind,
                    format!("{api_version} is not known for {kind}"),
                    advice,
                )
            }
            Treatment::UnknownKind | Treatment::Read(_) | Treatment::Expand | Treatment::Skip => {
                let known: Vec<_> = NETWORKING
                    .iter()
                    .chain(SECURITY)
                    .chain(NOT_IMPLEMENTED)
                    .copied()
                    .collect();
                (
                    "kind",
                    Code::UnknownKind,
                    format!("{kind} is not known in {api_version}"),
                    support::suggest(kind, &known),
                )
            }
        };
        let position = root.locate(&FieldPath::ROOT.field(field));
        self.report(position, Some(id.clone()), field, code, &message, Some(advice));
        self.content.rejected.push(id);
    }

    fn object(&mut self, root: &Arc<Node>, kind: &str, shape: Shape) {
        let id = name_of(root, kind);
        let before = self.errors();
        let metadata = self.metadata(root, &id);
        let spec = self.spec(root, &id, shape);
        if let (Some(metadata), Some(spec)) = (metadata, spec) {
            let source = Source {
                file: Arc::clone(self.file),
                root: Arc::clone(root),
            };
            let object = Object {
                id: id.clone(),
                metadata,
                spec,
                source,
            };
            self.content.diagnostics.extend(validate::object(&object));
            if self.errors() == before {
                self.content.objects.push(Arc::new(object));
                return;
            }
        }
        self.content.rejected.push(id);
    }

    fn metadata(&mut self, root: &Node, id: &ObjectId) -> Option<Metadata> {
        let path = FieldPath::ROOT.field("metadata");
        let metadata: Metadata = match root.get("metadata") {
            Some(node) => self.decode(node, path, id)?,
            None => Metadata::default(),
        };
        let position = root.locate(&path);
        if metadata.name.is_empty() {
            self.report(
                position,
                Some(id.clone()),
                "metadata.name",
                Code::Invalid,
                "a name is required",
                None,
            );
        }
        let cluster_scoped = id.kind == "Namespace";
        if !cluster_scoped && !is_dns_label(&metadata.namespace) {
            let message = match metadata.namespace.as_str() {
                "" => "a namespace is required: files have no current one".to_owned(),
                other => format!("{other:?} is not a namespace: a-z, 0-9 and '-', at most 63 characters"),
            };
            self.report(
                position,
                Some(id.clone()),
                "metadata.namespace",
                Code::Invalid,
                &message,
                Some("set metadata.namespace".into()),
            );
        }
        Some(metadata)
    }

    fn spec(&mut self, root: &Arc<Node>, id: &ObjectId, shape: Shape) -> Option<Spec> {
        let empty;
        let (node, path) = match shape {
            Shape::TopLevel => (root, FieldPath::ROOT),
            Shape::Spec => {
                self.envelope(root, id);
                let path = FieldPath::ROOT.field("spec");
                match root.get("spec").filter(|spec| !spec.is_null()) {
                    Some(spec) => (spec, path),
                    None => {
                        empty = Arc::new(Node::empty(root.position));
                        (&empty, path)
                    }
                }
            }
        };
        Some(match id.kind.as_str() {
            "AuthorizationPolicy" => Spec::AuthorizationPolicy(self.decode(node, path, id)?),
            "DestinationRule" => Spec::DestinationRule(self.decode(node, path, id)?),
            "EndpointSlice" => Spec::EndpointSlice(self.decode(node, path, id)?),
            "Gateway" => Spec::Gateway(self.decode(node, path, id)?),
            "Namespace" => Spec::Namespace(self.decode(node, path, id)?),
            "PeerAuthentication" => Spec::PeerAuthentication(self.decode(node, path, id)?),
            "Service" => Spec::Service(self.decode(node, path, id)?),
            "ServiceEntry" => Spec::ServiceEntry(self.decode(node, path, id)?),
            "Sidecar" => Spec::Sidecar(self.decode(node, path, id)?),
            "VirtualService" => Spec::VirtualService(self.decode(node, path, id)?),
            _ => return None,
        })
    }

    /// Reports fields beside `spec` that nobody knows.
    fn envelope(&mut self, root: &Node, id: &ObjectId) {
        let known: Vec<&str> = ENVELOPE.iter().copied().chain(["spec"]).collect();
        for (key, position) in root.keys().filter(|(key, _)| !known.contains(key)) {
            let advice = support::suggest(key, &known);
            self.report(
                position,
                Some(id.clone()),
                key,
                Code::Invalid,
                "unknown field",
                Some(advice),
            );
        }
    }

    fn decode<'n, T: Deserialize<'n>>(&mut self, node: &'n Node, path: FieldPath<'n>, id: &ObjectId) -> Option<T> {
        let (value, findings) = decode::decode(node, path);
        for finding in findings {
            self.finding(finding, id);
        }
        value
    }

    fn finding(&mut self, finding: Finding, id: &ObjectId) {
        let code = if finding.not_implemented {
            Code::NotImplemented
        } else {
            Code::Invalid
        };
        self.report(
            finding.position,
            Some(id.clone()),
            &finding.field,
            code,
            &finding.message,
            finding.advice,
        );
    }

    fn malformed(&mut self, malformed: &Malformed) {
        let partial = malformed.partial.as_deref();
        let kind = partial.and_then(|root| root.get("kind")).and_then(|kind| kind.text());
        let id = partial
            .zip(kind)
            .map(|(root, kind)| name_of(root, kind))
            .filter(|id| !id.name.is_empty());
        self.report(
            malformed.position,
            id.clone(),
            "",
            Code::Malformed,
            &format!("malformed YAML: {}", malformed.reason),
            None,
        );
        match id {
            Some(id) => self.content.rejected.push(id),
            None => self.content.unnamed = true,
        }
    }

    fn errors(&self) -> usize {
        self.content
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .count()
    }

    fn location(&self, position: Position) -> Location {
        Location {
            file: Arc::clone(self.file),
            line: position.line,
            column: position.column,
        }
    }

    fn report(
        &mut self,
        at: Position,
        object: Option<ObjectId>,
        field: &str,
        code: Code,
        message: &str,
        advice: Option<String>,
    ) {
        let location = Some(self.location(at));
        let (field, message) = (field.to_owned(), message.to_owned());
        self.content.diagnostics.push(Diagnostic {
            location,
            object,
            field,
            code,
            severity: Severity::Error,
            message,
            advice,
        });
    }
}

fn treatment(api_version: &str, kind: &str) -> Treatment {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let istio = |versions: &[&str]| {
        if versions.contains(&version) {
            Treatment::Read(Shape::Spec)
        } else {
            Treatment::UnknownVersion
        }
    };
    match (group, kind) {
        ("networking.istio.io", kind) if NETWORKING.contains(&kind) => istio(&["v1", "v1beta1", "v1alpha3"]),
        ("security.istio.io", kind) if SECURITY.contains(&kind) => istio(&["v1", "v1beta1"]),
        (group, kind) if ISTIO_GROUPS.contains(&group) => {
            if NOT_IMPLEMENTED.contains(&kind) {
                Treatment::NotImplemented
            } else {
                Treatment::UnknownKind
            }
        }
        ("", "List") => Treatment::Expand,
        ("", "Service") => Treatment::Read(Shape::Spec),
        ("", "Namespace") | ("discovery.k8s.io", "EndpointSlice") => Treatment::Read(Shape::TopLevel),
        (group, _) if group.ends_with(".istio.io") && group != "install.istio.io" => Treatment::UnknownKind,
        _ => Treatment::Skip,
    }
}

/// The name of an object as far as it can be told, before anything is checked.
fn name_of(root: &Node, kind: &str) -> ObjectId {
    let metadata = root.get("metadata");
    let text = |key| {
        metadata
            .and_then(|metadata| metadata.get(key))
            .and_then(|node| node.text())
            .unwrap_or_default()
    };
    let namespace = if kind == "Namespace" { "" } else { text("namespace") };
    ObjectId::new(kind, namespace, text("name"))
}
