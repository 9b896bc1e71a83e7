//! One file's text to objects: which kind each document is, its metadata, its content, its validation.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    decode::{self, Finding},
    kinds::{self, Shape, Treatment, treatment},
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
    pub(super) rejected: Vec<(ObjectId, Location)>,
    /// Objects of kinds that are none of our business.
    pub(super) skipped: Vec<(ObjectId, Location)>,
    /// Whether something is there that could not be told apart as an object.
    pub(super) unnamed: bool,
}

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
                Some("add them, or give the file another extension than .yaml and .yml".into()),
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
                let advice = "use networking.istio.io or security.istio.io, and version v1 or v1beta1".to_owned();
                (
                    "apiVersion",
                    Code::UnknownKind,
                    format!("{api_version} is not known for {kind}"),
                    advice,
                )
            }
            Treatment::UnknownKind | Treatment::Read(_) | Treatment::Expand | Treatment::Skip => (
                "kind",
                Code::UnknownKind,
                format!("{kind} is not known in {api_version}"),
                support::suggest(kind, &kinds::istio()),
            ),
        };
        let position = root.locate(&FieldPath::ROOT.field(field));
        self.report(position, Some(id.clone()), field, code, &message, Some(advice));
        self.reject(id, root.position);
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
            // What is missing because it is misspelt would be complained about twice.
            if self.errors() == before {
                self.content.diagnostics.extend(validate::object(&object));
            }
            if self.errors() == before {
                self.content.objects.push(Arc::new(object));
                return;
            }
        }
        self.reject(id, root.position);
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
            Some("look at this line and the one before it".into()),
        );
        match id {
            Some(id) => self.reject(id, malformed.position),
            None => self.content.unnamed = true,
        }
    }

    fn reject(&mut self, id: ObjectId, position: Position) {
        let location = self.location(position);
        self.content.rejected.push((id, location));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let content = read(&"f".into(), text);
        let text = |finding: &Diagnostic| {
            let line = finding.location.as_ref().map_or(0, |location| location.line);
            format!("{} {line} {}: {}", finding.code, finding.field, finding.message)
        };
        content.diagnostics.iter().map(text).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(findings(text), expected, "{text}");
    }

    fn gateway(spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: Gateway\nmetadata: {{name: g, namespace: ns}}\nspec:\n{spec}"
        )
    }

    #[test]
    fn every_version_of_istio_is_read_and_no_other() {
        for (version, known) in [("v1", true), ("v1beta1", true), ("v1alpha3", true), ("v2", false)] {
            let text = format!(
                "apiVersion: networking.istio.io/{version}\nkind: Sidecar\nmetadata: {{name: s, namespace: ns}}\nspec:\n  egress: [{{hosts: [./*]}}]\n"
            );
            assert_eq!(read(&"f".into(), &text).objects.len(), usize::from(known), "{version}");
        }
        check(
            "apiVersion: security.istio.io/v1alpha3\nkind: PeerAuthentication\n",
            &["SP0007 1 apiVersion: security.istio.io/v1alpha3 is not known for PeerAuthentication"],
        );
        check(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n",
            &["SP0001 2 kind: Telemetry is not implemented"],
        );
        check(
            "apiVersion: new.istio.io/v1\nkind: Thing\n",
            &["SP0007 2 kind: Thing is not known in new.istio.io/v1"],
        );
    }

    #[test]
    fn lists_are_read_item_by_item() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n\
                    - apiVersion: v1\n  kind: Namespace\n  metadata: {nane: b}\n- apiVersion: apps/v1\n  kind: Deployment\n";
        let content = read(&"f".into(), text);
        assert_eq!(
            (content.objects.len(), content.skipped.len(), content.rejected.len()),
            (1, 1, 1)
        );
        assert_eq!(content.skipped[0].1.line, 10);
        check(
            text,
            &[
                "IST0106 9 metadata.nane: unknown field",
                "IST0106 9 metadata.name: a name is required",
            ],
        );
    }

    #[test]
    fn scalars_have_the_types_that_kubernetes_gives_them() {
        let port = |number: &str| {
            gateway(&format!(
                "  servers:\n  - hosts: ['*']\n    port: {{number: {number}, name: http, protocol: HTTP}}\n"
            ))
        };
        check(&port("80"), &[]);
        for (number, message) in [
            ("\"80\"", "expected a whole number, 0 or more, found the text \"80\""),
            (
                "eighty",
                "expected a whole number, 0 or more, found the text \"eighty\"",
            ),
            ("0x50", "expected a whole number, 0 or more, found the number 0x50"),
            ("-1", "expected a whole number, 0 or more, found the number -1"),
            ("0", "0 is not a port"),
            ("[80]", "expected a whole number, 0 or more, found a list"),
        ] {
            check(
                &port(number),
                &[&format!("IST0106 7 spec.servers[0].port.number: {message}")],
            );
        }
        let name = |name: &str| {
            gateway(&format!(
                "  selector: {{istio: {name}}}\n  servers:\n  - hosts: ['*']\n    port: {{number: 80, name: http, protocol: HTTP}}\n"
            ))
        };
        for text in ["egress", "'true'", "\"8080\"", "1.2.3", "v1", "!!str 80"] {
            check(&name(text), &[]);
        }
        for (text, found) in [
            ("true", "truth value"),
            ("off", "truth value"),
            ("8080", "number"),
            ("1e3", "number"),
            ("1.5", "number"),
        ] {
            check(
                &name(text),
                &[&format!(
                    "IST0106 5 spec.selector[istio]: expected a text, found the {found} {text}"
                )],
            );
        }
    }

    #[test]
    fn a_null_is_an_absent_field() {
        check(
            &gateway(
                "  selector:\n  servers:\n  - hosts: ['*']\n    tls: null\n    port: {number: 80, name: http, protocol: HTTP}\n",
            ),
            &[],
        );
        check(
            &gateway("  servers:\n  - hosts: ['*']\n    port: ~\n"),
            &["IST0106 6 spec.servers[0]: field port is required"],
        );
    }

    #[test]
    fn a_choice_has_exactly_one_field() {
        let uri = |uri: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec:\n  hosts: [a.test]\n  \
                 http:\n  - match: [{{headers: {{x-a: {{}}}}, uri: {uri}}}]\n    route: [{{destination: {{host: a.test}}}}]\n"
            )
        };
        check(&uri("{prefix: /a}"), &[]);
        let place = "spec.http[0].match[0].uri";
        check(
            &uri("{}"),
            &[&format!(
                "IST0106 7 {place}: expected exactly one of exact, prefix or regex"
            )],
        );
        check(
            &uri("{prefix: /a, exact: /b}"),
            &[&format!(
                "IST0106 7 {place}: expected exactly one of exact, prefix or regex"
            )],
        );
        check(
            &uri("{suffix: /a}"),
            &[&format!("IST0106 7 {place}: \"suffix\" is not accepted here")],
        );
    }

    #[test]
    fn every_unknown_field_is_found_and_what_kubernetes_adds_is_not() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: ns, uid: u, resourceVersion: '1', labls: {}}\n\
                    spec:\n  sessionAffinity: None\n  ports: [{port: 80, nodePort: 30080}]\nstatus: {loadBalancer: {}}\nspecs: {}\n";
        check(
            text,
            &[
                "IST0106 3 metadata.labls: unknown field",
                "IST0106 8 specs: unknown field",
            ],
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..60)) {
            read(&"f".into(), &parts.concat());
        }
    }

    const PARTS: &[&str] = &[
        "apiVersion: networking.istio.io/v1\n",
        "kind: VirtualService\n",
        "kind: List\n",
        "metadata: {name: a, namespace: b}\n",
        "items:\n",
        "spec:\n",
        "  hosts:\n",
        "  - ",
        "http:\n",
        "- ",
        "  ",
        "\n",
        "---\n",
        "...\n",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "? ",
        "&a ",
        "*a",
        "!t ",
        "!!str ",
        "| \n",
        ">-\n",
        "\"",
        "'",
        "# c\n",
        "\t",
        "%YAML 1.2\n",
        "@",
        "\u{feff}",
        "\u{0}",
        "é",
        "~",
        "true",
        "80",
        "1e9",
        "x",
        "\\u12",
        "<<: ",
    ];
}
