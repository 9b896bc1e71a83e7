//! Trees of YAML nodes to the types of Istio's kinds.
//!
//! A `serde` deserializer of our own, because it knows three things a generic one does not: where a node stands, which fields a
//! type has (so that every unknown field is reported, not only the first), and which of Istio's fields we leave out. Scalars
//! follow Kubernetes: `8080` is a number, `"8080"` and `abc` are texts, `true` is neither. A null is an absent field.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer};

use super::{
    path::FieldPath,
    support::{self, Support},
    yaml::{Entry, Node, Position, Value},
};

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) position: Position,
    pub(super) field: String,
    pub(super) message: String,
    pub(super) advice: Option<String>,
    /// Istio has it, we do not.
    pub(super) not_implemented: bool,
}

/// Between a message and its advice in a custom error: `serde` lets a text through and nothing else, and quoted values in
/// messages have control characters escaped.
const ADVICE: char = '\u{1f}';

/// The text of a custom error that says what to do.
pub(super) fn advised(message: &str, advice: &str) -> String {
    format!("{message}{ADVICE}{advice}")
}

/// Reads `node`, which stands at `path`. Returns the value unless something is wrong with its form, and all findings.
pub(super) fn decode<'a, T: de::Deserialize<'a>>(node: &'a Node, path: FieldPath<'a>) -> (Option<T>, Vec<Finding>) {
    let findings = RefCell::new(Vec::new());
    let reader = Reader {
        node,
        path,
        position: node.position,
        findings: &findings,
    };
    let result = T::deserialize(reader).map_err(|error| reader.finding_of(error));
    let mut findings = findings.into_inner();
    match result {
        Ok(value) => (Some(value), findings),
        Err(finding) => {
            findings.push(finding);
            (None, findings)
        }
    }
}

/// The first thing that kept a type from being read.
#[derive(Debug)]
enum Error {
    /// From a visitor, which does not know where it is.
    Unplaced { message: String, advice: Option<String> },
    /// With the node it is about.
    Placed(Box<Finding>),
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a, 'p> {
    node: &'a Node,
    path: FieldPath<'p>,
    /// Of the key, or of the list entry.
    position: Position,
    findings: &'p RefCell<Vec<Finding>>,
}

impl<'a, 'p> Reader<'a, 'p> {
    fn finding(&self, message: impl Into<String>) -> Finding {
        Finding {
            position: self.position,
            field: self.path.to_string(),
            message: message.into(),
            advice: None,
            not_implemented: false,
        }
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::Placed(Box::new(self.finding(message)))
    }

    fn advised_error(&self, message: impl Into<String>, advice: Option<String>) -> Error {
        Error::Placed(Box::new(Finding {
            advice,
            ..self.finding(message)
        }))
    }

    /// What an error says, about this node unless it came from one further inside.
    fn finding_of(&self, error: Error) -> Finding {
        match error {
            Error::Placed(finding) => *finding,
            Error::Unplaced { message, advice } => Finding {
                advice,
                ..self.finding(message)
            },
        }
    }

    /// Gives an error that came out of a visitor this node's place.
    fn place<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| Error::Placed(Box::new(self.finding_of(error))))
    }

    fn wrong(&self, wanted: &str) -> Error {
        self.error(format!("expected {wanted}, found {}", describe(self.node)))
    }

    fn text(&self) -> Result<&'a str, Error> {
        match &self.node.value {
            Value::Scalar { text, plain: false } => Ok(text),
            Value::Scalar { text, plain: true } if plain_kind(text) == Plain::Text => Ok(text),
            Value::Scalar { text, plain: true } => {
                let message = format!("expected a text, found {}", describe(self.node));
                Err(self.advised_error(message, Some(format!("quote it: \"{text}\""))))
            }
            Value::List(_) | Value::Map(_) => Err(self.wrong("a text")),
        }
    }

    fn number<T: std::str::FromStr>(&self, wanted: &str) -> Result<T, Error> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => text.parse().map_err(|_| self.wrong(wanted)),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Err(self.wrong(wanted)),
        }
    }

    fn entries(&self) -> Result<&'a [Entry], Error> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            Value::Scalar { .. } | Value::List(_) => Err(self.wrong("an object")),
        }
    }

    /// Reports a field that `type_name` does not have.
    fn report_field(&self, type_name: &str, fields: &[&str], entry: &Entry) {
        let support = support::field(type_name, &entry.key);
        if support == Support::Ignored {
            return;
        }
        let path = self.path.field(&entry.key);
        let not_implemented = support == Support::NotImplemented;
        self.findings.borrow_mut().push(Finding {
            position: entry.key_position,
            field: path.to_string(),
            message: if not_implemented {
                "not implemented: Istio has this field, Sallyport does not act on it".to_owned()
            } else {
                "unknown field".to_owned()
            },
            advice: Some(if not_implemented {
                "remove it".to_owned()
            } else {
                support::suggest(&entry.key, fields)
            }),
            not_implemented,
        });
    }

    /// Reports a word that is none of `words`.
    fn wrong_word(&self, type_name: &str, word: &str, words: &[&str]) -> Error {
        let not_implemented = support::value_not_implemented(type_name, word);
        let mut finding = self.finding(if not_implemented {
            format!("{word} is not implemented")
        } else {
            format!("{word:?} is not accepted here")
        });
        finding.advice = Some(format!("use {}", support::list(words)));
        finding.not_implemented = not_implemented;
        Error::Placed(Box::new(finding))
    }
}

/// What YAML takes an unquoted scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Null,
    Bool,
    Number,
    Text,
}

/// Follows the parser of Kubernetes, which still knows YAML 1.1's booleans.
fn plain_kind(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "n" | "N" => return Plain::Bool,
        _ => {}
    }
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off") {
        return Plain::Bool;
    }
    if is_number(&lower) { Plain::Number } else { Plain::Text }
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let prefixed = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix) || c == '_'))
    };
    let decimal =
        digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.replace('_', "").parse::<f64>().is_ok();
    decimal || prefixed("0x", 16) || prefixed("0o", 8) || prefixed("0b", 2) || matches!(digits, ".inf" | ".nan")
}

fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
        Value::Scalar { text, plain: false } => format!("the text {text:?}"),
        Value::Scalar { text, plain: true } => match plain_kind(text) {
            Plain::Null => "nothing".to_owned(),
            Plain::Bool => format!("the truth value {text}"),
            Plain::Number => format!("the number {text}"),
            Plain::Text => format!("the text {text:?}"),
        },
    }
}

macro_rules! deserialize_number {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            let number: $type = self.number($wanted)?;
            self.place(visitor.$visit(number))
        }
    )*};
}

impl<'a> de::Deserializer<'a> for Reader<'a, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Scalar { text, plain: true } => match plain_kind(text) {
                Plain::Null => self.place(visitor.visit_unit()),
                Plain::Bool => self.deserialize_bool(visitor),
                Plain::Number => self.deserialize_u64(visitor),
                Plain::Text => self.deserialize_str(visitor),
            },
            Value::Scalar { plain: false, .. } => self.deserialize_str(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar { text, plain: true } if text == "true" || text == "false" => {
                self.place(visitor.visit_bool(text == "true"))
            }
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => Err(self.wrong("true or false")),
        }
    }

    deserialize_number! {
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "a whole number, 0 or more";
        deserialize_i8 visit_i8 i8, "a whole number from -128 to 127";
        deserialize_i16 visit_i16 i16, "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "a whole number of 32 bits";
        deserialize_i64 visit_i64 i64, "a whole number of 64 bits";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.text()?;
        self.place(visitor.visit_borrowed_str(text))
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            self.place(visitor.visit_none())
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(_) => self.place(visitor.visit_seq(Items { reader: self, next: 0 })),
            Value::Scalar { .. } | Value::Map(_) => Err(self.wrong("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.entries()?;
        self.place(visitor.visit_map(Fields::new(self, entries, true)))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = self.entries()?;
        for entry in entries.iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
            self.report_field(name, fields, entry);
        }
        let mut known = Fields::new(self, entries, false);
        known.only = Some(fields);
        self.place(visitor.visit_map(known))
    }

    /// A word, or a message with exactly one field set (a `oneof`). `{}` names the variant of that name, if there is one.
    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (word, content) = match &self.node.value {
            Value::Scalar { .. } => (self.text()?, None),
            Value::Map(entries) => match entries.as_slice() {
                [] if variants.contains(&"{}") => ("{}", None),
                [entry] => (entry.key.as_str(), Some(entry)),
                [] | [_, ..] => return Err(self.error(format!("expected exactly one of {}", support::list(variants)))),
            },
            Value::List(_) => return Err(self.wrong(&support::list(variants))),
        };
        if !variants.contains(&word) {
            return Err(self.wrong_word(name, word, variants));
        }
        self.place(visitor.visit_enum(Choice {
            reader: self,
            word,
            content,
        }))
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { <V: Visitor<'a>> bytes byte_buf unit unit_struct tuple tuple_struct }
}

/// The entries of a list.
struct Items<'a, 'p> {
    reader: Reader<'a, 'p>,
    next: usize,
}

impl<'a> de::SeqAccess<'a> for Items<'a, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let index = self.next;
        let Some(node) = self.reader.node.items().get(index) else {
            return Ok(None);
        };
        self.next += 1;
        let path = self.reader.path.index(index);
        let child = Reader {
            node,
            path,
            position: node.position,
            findings: self.reader.findings,
        };
        child.place(seed.deserialize(child)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.reader.node.items().len().saturating_sub(self.next))
    }
}

/// The entries of an object.
struct Fields<'a, 'p> {
    reader: Reader<'a, 'p>,
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    /// The fields of the type; others were reported and are passed over. `None`: a map with keys of any name.
    only: Option<&'static [&'static str]>,
    chosen_keys: bool,
}

impl<'a, 'p> Fields<'a, 'p> {
    fn new(reader: Reader<'a, 'p>, entries: &'a [Entry], chosen_keys: bool) -> Self {
        Self {
            reader,
            entries: entries.iter(),
            value: None,
            only: None,
            chosen_keys,
        }
    }

    fn is_read(&self, entry: &Entry) -> bool {
        self.only
            .is_none_or(|fields| fields.contains(&entry.key.as_str()) && !entry.value.is_null())
    }
}

impl<'a> de::MapAccess<'a> for Fields<'a, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let Some(entry) = self.entries.next() {
            if self.is_read(entry) {
                self.value = Some(entry);
                let path = self.reader.path.key(&entry.key);
                let place = Reader {
                    path,
                    position: entry.key_position,
                    ..self.reader
                };
                return place.place(seed.deserialize(KeyReader(&entry.key))).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.value.take() else {
            return Err(self.reader.error("a value without a key"));
        };
        let parent = self.reader.path;
        let path = if self.chosen_keys {
            parent.key(&entry.key)
        } else {
            parent.field(&entry.key)
        };
        let child = Reader {
            node: &entry.value,
            path,
            position: entry.key_position,
            findings: self.reader.findings,
        };
        child.place(seed.deserialize(child))
    }
}

/// A key: text, or a number where one is wanted (ports as keys).
struct KeyReader<'a>(&'a str);

impl<'a> de::Deserializer<'a> for KeyReader<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u64(number),
            Err(_) => Err(de::Error::custom(format!(
                "expected a whole number, found {:?}",
                self.0
            ))),
        }
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The variant of an enumeration that was chosen.
struct Choice<'a, 'p> {
    reader: Reader<'a, 'p>,
    word: &'a str,
    content: Option<&'a Entry>,
}

impl<'a, 'p> de::EnumAccess<'a> for Choice<'a, 'p> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let word: StrDeserializer<'a, Error> = self.word.into_deserializer();
        seed.deserialize(word).map(|value| (value, self))
    }
}

impl<'a> de::VariantAccess<'a> for Choice<'a, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(self.reader.wrong("a single word")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Error> {
        let Some(entry) = self.content else {
            return Err(self.reader.wrong("an object"));
        };
        let path = self.reader.path.field(&entry.key);
        let child = Reader {
            node: &entry.value,
            path,
            position: entry.key_position,
            findings: self.reader.findings,
        };
        child.place(seed.deserialize(child))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(self.reader.wrong("a single value"))
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(self.reader.wrong("a single value"))
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, advice) = match text.split_once(ADVICE) {
            Some((message, advice)) => (message.to_owned(), Some(advice.to_owned())),
            None => (text, None),
        };
        Self::Unplaced { message, advice }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Unplaced {
            message: format!("field {field} is required"),
            advice: Some("add it".to_owned()),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unplaced { message, .. } => message,
            Self::Placed(finding) => &finding.message,
        })
    }
}

impl std::error::Error for Error {}
