//! Canonical protobuf JSON, and the same in YAML, of the messages we speak: bootstrap files in, configuration dumps out.
//!
//! Field names are written as in the proto files, as Envoy's own dump does; both spellings are read. An unknown field, an
//! extension whose type we do not know and a value of the wrong kind are errors with their path.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

use super::{Any, Resource, pb};

/// Why a text is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than [`MAX_TEXT`] bytes.
    #[error("the text has {0} bytes, at most {MAX_TEXT} are accepted")]
    TooLong(usize),
    /// Neither JSON nor YAML.
    #[error("{0}")]
    Syntax(String),
    /// More than [`MAX_DEPTH`] levels.
    #[error("line {0}: nested more than {MAX_DEPTH} levels deep")]
    TooDeep(usize),
    /// A field that is unknown or has a wrong value.
    #[error("{path}: {reason}")]
    Field {
        /// Where: `static_resources.clusters[0].name`.
        path: String,
        /// Why.
        reason: String,
    },
    /// A message whose descriptor we do not have.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
}

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 64 << 20;
/// Deepest nesting of a text.
pub const MAX_DEPTH: usize = 100;

/// Descriptors of the messages we speak, from envoy-types; see `build.rs`. Several megabytes that only texts need, so that they are
/// decoded for whoever reads or writes one, and dropped with the last [`Descriptors`].
static POOL: Mutex<Weak<DescriptorPool>> = Mutex::new(Weak::new());

/// Keeps the descriptors at hand. Whoever reads or writes several texts holds one, so that they are decoded once.
#[derive(Debug)]
pub struct Descriptors {
    pool: Arc<DescriptorPool>,
}

impl Descriptors {
    /// Those in use, or decoded anew.
    pub fn hold() -> Self {
        let mut known = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = known.upgrade().unwrap_or_else(|| Arc::new(decoded()));
        *known = Arc::downgrade(&pool);
        Self { pool }
    }

    /// The descriptor of a message we speak.
    pub(super) fn message(&self, name: &str) -> Result<MessageDescriptor, JsonError> {
        let known = self.pool.get_message_by_name(name);
        known.ok_or_else(|| JsonError::UnknownType(name.to_owned()))
    }
}

fn decoded() -> DescriptorPool {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice())
        .expect("the build script wrote a closed set of descriptors")
}

/// Reads a bootstrap file, JSON or YAML.
///
/// # Errors
/// The text is malformed, or a field of it is unknown or has a wrong value.
pub fn parse_bootstrap(text: &str) -> Result<pb::bootstrap::Bootstrap, JsonError> {
    parse(text)
}

/// Reads a message, JSON or YAML.
///
/// # Errors
/// As for [`parse_bootstrap`].
pub fn parse<M: Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    from_value(value(text)?)
}

/// Reads a message from a tree.
///
/// # Errors
/// A field is unknown or has a wrong value.
pub(super) fn from_value<M: Message + Name + Default>(value: Value) -> Result<M, JsonError> {
    let message = dynamic(Descriptors::hold().message(&M::full_name())?, value)?;
    message
        .transcode_to()
        .map_err(|error| JsonError::Syntax(error.to_string()))
}

/// Reads a message that names its type in `@type`.
///
/// # Errors
/// As for [`from_value`]; or it does not name its type, or we do not know it.
pub(super) fn any_from_value(value: Value) -> Result<Any, JsonError> {
    let Value::Object(mut fields) = value else {
        return Err(JsonError::Syntax("not a message".to_owned()));
    };
    let Some(Value::String(type_url)) = fields.remove("@type") else {
        return Err(JsonError::Syntax(
            "@type is missing, the type of the message".to_owned(),
        ));
    };
    let name = type_url.rsplit_once('/').map_or("", |(_, name)| name);
    let message = dynamic(Descriptors::hold().message(name)?, Value::Object(fields))?;
    Ok(Any {
        value: message.encode_to_vec(),
        type_url,
    })
}

fn dynamic(descriptor: MessageDescriptor, value: Value) -> Result<DynamicMessage, JsonError> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let message = DynamicMessage::deserialize(descriptor, deserializer);
    message.map_err(|error| JsonError::Field {
        path: track.path().to_string(),
        reason: shown(error.to_string()),
    })
}

/// A resource as JSON, with its type in `@type`.
///
/// Takes a decoded resource and not an `Any`: extensions nested in extensions have no bound on their depth.
///
/// # Errors
/// None that a resource could cause; the type of an extension would have to be missing from the descriptors.
pub fn to_json(resource: &Resource) -> Result<Value, JsonError> {
    let any = resource.encode();
    let name = any.type_url.rsplit_once('/').map_or("", |(_, name)| name);
    let message = DynamicMessage::decode(Descriptors::hold().message(name)?, any.value.as_slice());
    let mut value = serialize(&message.map_err(|error| JsonError::Syntax(error.to_string()))?)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("@type".to_owned(), any.type_url.into());
    }
    Ok(value)
}

/// What may be said of a wrong value. A key that was written where something else belongs is quoted by the parser, as PEM or
/// as its base64 form.
fn shown(reason: String) -> String {
    match ["-----BEGIN", "LS0tLS1CRUdJTi"].iter().any(|key| reason.contains(key)) {
        true => "a PEM text where something else is expected; it is not shown".to_owned(),
        false => reason,
    }
}

fn serialize(message: &DynamicMessage) -> Result<Value, JsonError> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| JsonError::Syntax(error.to_string()))
}

/// Reads a document, JSON or YAML, as a tree.
///
/// # Errors
/// The text is neither, too long, nested too deep, or more than one document.
pub fn value(text: &str) -> Result<Value, JsonError> {
    if text.len() > MAX_TEXT {
        return Err(JsonError::TooLong(text.len()));
    }
    // Nearly all JSON is YAML, but what both can read is read as JSON; serde_json bounds the depth itself.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    check_depth(text)?;
    let documents = Yaml::load_from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    match documents.as_slice() {
        [] => Ok(Value::Object(Map::new())),
        [document] => from_yaml(document),
        several => Err(JsonError::Syntax(format!(
            "{} documents, one is expected",
            several.len()
        ))),
    }
}

/// Counts levels before a tree is built, since trees are built, converted and dropped by recursion.
fn check_depth(text: &str) -> Result<(), JsonError> {
    let mut depth = 0usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| JsonError::Syntax(error.to_string()))?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep(span.start.line()));
        }
    }
    Ok(())
}

fn from_yaml(node: &Yaml<'_>) -> Result<Value, JsonError> {
    match node {
        Yaml::Value(scalar) => Ok(from_scalar(scalar)),
        Yaml::Sequence(items) => items.iter().map(from_yaml).collect(),
        Yaml::Mapping(members) => {
            let members: BTreeMap<_, _> = members
                .iter()
                .map(|(key, value)| Ok((key_text(key)?, from_yaml(value)?)))
                .collect::<Result<_, JsonError>>()?;
            Ok(Value::Object(members.into_iter().collect()))
        }
        _ => Err(JsonError::Syntax("tags of YAML are not supported".to_owned())),
    }
}

fn key_text(key: &Yaml<'_>) -> Result<String, JsonError> {
    match key {
        Yaml::Value(Scalar::String(text)) => Ok(text.to_string()),
        Yaml::Value(Scalar::Integer(number)) => Ok(number.to_string()),
        other => Err(JsonError::Syntax(format!("{other:?} is not the name of a field"))),
    }
}

fn from_scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => Value::Bool(*flag),
        Scalar::Integer(number) => Value::from(*number),
        Scalar::FloatingPoint(number) => Value::from(number.into_inner()),
        Scalar::String(text) => Value::from(text.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = parse_bootstrap(text).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn descriptors_are_shared_by_those_who_hold_them() {
        let one = Descriptors::hold();
        assert!(Arc::ptr_eq(&one.pool, &Descriptors::hold().pool));
        assert!(one.message("envoy.config.cluster.v3.Cluster").is_ok());
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let yaml = "node: {id: gateway, cluster: egress}\nadmin:\n  address:\n    socket_address: {address: 127.0.0.1, port_value: 0}\n";
        let json = r#"{"node":{"id":"gateway","cluster":"egress"},
            "admin":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":0}}}}"#;
        assert_eq!(parse_bootstrap(yaml), parse_bootstrap(json));
        assert_eq!(parse_bootstrap(yaml).unwrap().node.unwrap().id, "gateway");
    }

    #[test]
    fn an_unknown_field_is_named_with_its_path() {
        refused("node: {idd: x}", "node: unrecognized field name 'idd'");
        refused(
            "static_resources: {clusters: [{name: a}, {nam: b}]}",
            "static_resources.clusters[1]",
        );
        refused("node: {id: [1]}", "node.id");
    }

    #[test]
    fn a_key_in_a_wrong_place_is_not_quoted() {
        for key in [
            "-----BEGIN PRIVATE KEY-----\\nhush",
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0taHVzaA==",
        ] {
            for place in [
                "{name: a, tls_certificate: {private_key: \"KEY\"}}",
                "{name: a, tls_certificate: \"KEY\"}",
            ] {
                let text = format!("static_resources: {{secrets: [{}]}}", place.replace("KEY", key));
                let error = parse_bootstrap(&text).unwrap_err().to_string();
                assert!(error.starts_with("static_resources.secrets[0]"), "{error}");
                assert!(error.ends_with("it is not shown"), "{error}");
            }
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        refused(&"- ".repeat(2000), "levels deep");
        refused(&format!("a: {}", "[".repeat(5000)), "");
        refused("a: &a [x]\nb: &b [*a,*a]\nb: 1", "");
        refused("{\"node\":", "line 2");
        refused("a: 1\n---\nb: 2", "2 documents");
        refused("node: !custom {id: a}", "");
    }
}
