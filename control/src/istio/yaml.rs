//! YAML text to trees of nodes that know their position.
//!
//! Invariants: every tree is bounded in depth and in size after its aliases are expanded; a mapping has no key twice; plain
//! scalars keep their spelling, so that the reader of a field decides what it may be. Documents are cut apart first: a mistake
//! in one does not hide the others.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::path::{FieldPath, Step};

/// A line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and where it begins.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) position: Position,
    /// Nodes in this tree, with aliases counted as often as they are used.
    size: usize,
}

/// What a node holds.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Scalar { text: String, plain: bool },
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_position: Position,
    pub(super) value: Arc<Node>,
}

/// A document that could not be read.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) position: Position,
    pub(super) reason: String,
    /// What was read up to there; enough to name the object.
    pub(super) partial: Option<Arc<Node>>,
}

/// Deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 64;
/// Nodes of one document after its aliases are expanded.
const MAX_NODES: usize = 200_000;
/// Keys of one mapping; they are searched one after the other.
const MAX_KEYS: usize = 4096;

/// Reads every document that is not empty.
pub(super) fn documents(text: &str) -> Vec<Result<Arc<Node>, Malformed>> {
    split(text)
        .filter_map(|(first_line, text)| Builder::new(first_line).read(text).transpose())
        .collect()
}

/// Cuts a stream into documents with the number of the line before each. A line of `---` always begins a document, whatever
/// it stands in.
fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut starts, mut offset) = (vec![(0, 0)], 0);
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let marker = content
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && offset > 0 {
            starts.push((line, offset));
        }
        offset += content.len();
    }
    let ends: Vec<_> = starts
        .iter()
        .skip(1)
        .map(|(_, start)| *start)
        .chain([text.len()])
        .collect();
    starts
        .into_iter()
        .zip(ends)
        .map(|((line, start), end)| (line, &text[start..end]))
}

impl Node {
    /// A mapping without keys, standing in for one that is not written.
    pub(super) fn empty(position: Position) -> Self {
        Self {
            value: Value::Map(Vec::new()),
            position,
            size: 1,
        }
    }

    /// Whether it is a mapping without keys.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Map(entries) if entries.is_empty())
    }

    /// Where a field is: the position of its key, or of the nearest thing around it that is there.
    pub(super) fn locate(&self, path: &FieldPath<'_>) -> Position {
        self.find(path).unwrap_or_else(|near| near).0
    }

    /// The position and node at `path`, or the nearest around it.
    fn find(&self, path: &FieldPath<'_>) -> Result<(Position, &Self), (Position, &Self)> {
        let Some(parent) = path.parent() else {
            return Ok((self.position, self));
        };
        let (position, node) = self.find(parent)?;
        let child = match path.step() {
            Step::Root => return Ok((position, node)),
            Step::Field(name) | Step::Key(name) => node.entry(name).map(|entry| (entry.key_position, &*entry.value)),
            Step::Index(index) => node.items().get(index).map(|item| (item.position, &**item)),
        };
        child.ok_or((position, node))
    }

    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The keys of a mapping; none if it is something else.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, Position)> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar { .. } | Value::List(_) => &[],
        };
        entries.iter().map(|entry| (entry.key.as_str(), entry.key_position))
    }

    /// The text, if this is a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The entries of a list; none if it is something else.
    pub(super) fn items(&self) -> &[Arc<Self>] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar { .. } | Value::Map(_) => &[],
        }
    }

    /// Whether it is an unquoted nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Scalar { .. } | Value::List(_) => None,
        }
    }
}

/// Builds one tree from parser events, without recursion.
struct Builder {
    first_line: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    nodes: usize,
}

/// A list or mapping that has not ended.
struct Open {
    value: Value,
    position: Position,
    anchor: usize,
    size: usize,
    /// A key that waits for its value.
    key: Option<(String, Position)>,
}

impl Builder {
    fn new(first_line: usize) -> Self {
        Self {
            first_line,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            nodes: 0,
        }
    }

    fn read(mut self, text: &str) -> Result<Option<Arc<Node>>, Malformed> {
        match self.run(text) {
            Ok(()) => Ok(self.root.filter(|root| !root.is_null())),
            Err((position, reason)) => {
                self.close_all();
                Err(Malformed {
                    position,
                    reason,
                    partial: self.root,
                })
            }
        }
    }

    fn run(&mut self, text: &str) -> Result<(), (Position, String)> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            let position = self.position(span);
            self.accept(event, position).map_err(|reason| (position, reason))?;
        }
        Ok(())
    }

    fn accept(&mut self, event: Event<'_>, position: Position) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_string_tag(tag.as_deref())?;
                self.finish(
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    },
                    position,
                    anchor,
                    1,
                )
            }
            Event::SequenceStart(anchor, tag) => self.begin(Value::List(Vec::new()), position, anchor, tag.as_deref()),
            Event::MappingStart(anchor, tag) => self.begin(Value::Map(Vec::new()), position, anchor, tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let node = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or("an alias stands inside the anchor it names")?;
                self.count(node.size)?;
                self.attach(node, position)
            }
            Event::DocumentStart(_) if self.root.is_some() => Err("a second document begins without '---'".into()),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, value: Value, position: Position, anchor: usize, tag: Option<&Tag>) -> Result<(), String> {
        if tag.is_some() {
            return Err("tags on lists and mappings are not accepted".into());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(Open {
            value,
            position,
            anchor,
            size: 1,
            key: None,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(open) => self.finish(open.value, open.position, open.anchor, open.size),
            None => Ok(()),
        }
    }

    fn finish(&mut self, value: Value, position: Position, anchor: usize, size: usize) -> Result<(), String> {
        self.count(1)?;
        let node = Arc::new(Node { value, position, size });
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.attach(node, position)
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(format!(
                "more than {MAX_NODES} values in one document, aliases expanded"
            ));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs: the root, a list, a key or a value.
    fn attach(&mut self, node: Arc<Node>, position: Position) -> Result<(), String> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(node.size);
        match (&mut parent.value, parent.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, key_position))) => entries.push(Entry {
                key,
                key_position,
                value: node,
            }),
            (Value::Map(entries), None) => parent.key = Some((new_key(entries, &node)?, position)),
            (Value::Scalar { .. }, _) => {}
        }
        Ok(())
    }

    /// Ends what a mistake left open, so that the part before it can be looked at.
    fn close_all(&mut self) {
        self.nodes = 0;
        while !self.open.is_empty() {
            if self.end().is_err() {
                return;
            }
        }
    }

    fn position(&self, span: Span) -> Position {
        Position {
            line: self.first_line + span.start.line(),
            column: span.start.col() + 1,
        }
    }

    fn scan_error(&self, error: &ScanError) -> (Position, String) {
        (self.position(Span::empty(*error.marker())), error.info().to_owned())
    }
}

fn new_key(entries: &[Entry], node: &Node) -> Result<String, String> {
    let key = node.text().ok_or("a list or mapping cannot be a key")?;
    if key == "<<" {
        return Err("merge keys (<<) are not accepted; write the fields out".into());
    }
    if entries.len() >= MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys in one mapping"));
    }
    if let Some(first) = entries.iter().find(|entry| entry.key == key) {
        return Err(format!(
            "key {key:?} is here twice, first in line {}",
            first.key_position.line
        ));
    }
    Ok(key.to_owned())
}

/// Whether a tag says "text". Other tags are refused: none means anything in Kubernetes.
fn is_string_tag(tag: Option<&Tag>) -> Result<bool, String> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => Err(format!("tag {tag} is not accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Arc<Node>, Malformed> {
        let mut all = documents(text);
        assert_eq!(all.len(), 1, "{text:?}");
        all.remove(0)
    }

    #[test]
    fn documents_are_separate_and_know_their_lines() {
        let all = documents("# c\na: 1\n---\n# only a comment\n---\nb: [1, 2\n--- # third\nc:\n  d: x\n");
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].as_ref().unwrap().get("a").unwrap().text(), Some("1"));
        assert!(all[1].as_ref().unwrap_err().position.line >= 6);
        let third = all[2].as_ref().unwrap();
        let (root, c) = (FieldPath::ROOT, FieldPath::ROOT.field("c"));
        assert_eq!(third.locate(&c.field("d")), Position { line: 9, column: 3 });
        assert_eq!(third.locate(&c.field("missing")), Position { line: 8, column: 1 });
        assert_eq!(third.locate(&root).line, 8);
    }

    #[test]
    fn a_block_scalar_ends_where_a_document_does() {
        assert_eq!(documents("a: |\n  text\n---\nb: 1\n").len(), 2);
    }

    #[test]
    fn malformed_documents_say_where_and_keep_what_was_read() {
        let error = one("kind: Gateway\nmetadata:\n  name: g\nspec:\n  servers: [\n").unwrap_err();
        let partial = error.partial.unwrap();
        assert_eq!(partial.get("kind").unwrap().text(), Some("Gateway"));
        for (text, line, reason) in [
            ("a: 1\na: 2\n", 2, "key \"a\" is here twice, first in line 1"),
            ("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "merge keys"),
            ("? [a]\n: b\n", 1, "cannot be a key"),
            ("a: !!python/object x\n", 1, "not accepted"),
            ("a: &a [*a]\n", 1, "alias"),
        ] {
            let error = one(text).unwrap_err();
            assert_eq!(error.position.line, line, "{text}");
            assert!(error.reason.contains(reason), "{text}: {}", error.reason);
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned()
            + &('b'..='h')
                .zip('a'..)
                .map(|(next, last)| {
                    let uses = vec![format!("*{last}"); 10].join(",");
                    format!("{next}: &{next} [{uses}]\n")
                })
                .collect::<String>();
        assert!(one(&bomb).unwrap_err().reason.contains("aliases expanded"));
        let deep = |levels: usize| "- ".repeat(levels) + "x\n";
        assert!(one(&deep(MAX_DEPTH)).is_ok());
        assert!(one(&deep(MAX_DEPTH + 1)).unwrap_err().reason.contains("nested deeper"));
        assert!(one(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn shared_nodes_are_read_where_they_are_used() {
        let node = one("a: &a {x: 1}\nb: *a\n").unwrap();
        assert_eq!(node.get("b").unwrap().get("x").unwrap().text(), Some("1"));
    }
}
