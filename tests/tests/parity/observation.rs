//! What was observed of one proxy, made comparable: whatever must differ between two runs becomes a word that says what it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Values by path.
pub(crate) type Flat = BTreeMap<String, Value>;

/// Fields of the log that hold a time span or a moment.
const TIMES: &[&str] = &[
    "START_TIME",
    "EMIT_TIME",
    "DURATION",
    "REQUEST_DURATION",
    "RESPONSE_DURATION",
    "RESPONSE_TX_DURATION",
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)",
    "CONNECTION_ID",
];
/// The same in headers.
const MOMENTS: &[&str] = &["date", "x-envoy-upstream-service-time"];

/// Replaces what differs between runs.
pub(crate) fn comparable(mut observed: Value, listener: &str, upstreams: &[(String, String)]) -> Value {
    let mut words = vec![(listener.to_owned(), "<listener>".to_owned())];
    words.extend(
        upstreams
            .iter()
            .map(|(name, address)| (address.clone(), format!("<{name}>"))),
    );
    words.extend(ends(&observed["client"], "local", "client"));
    if let Some(named) = observed["upstreams"].as_object() {
        for (name, connections) in named {
            words.extend(ends(connections, "peer", &format!("proxy to {name}")));
        }
    }
    clean(&mut observed, None, &words);
    observed
}

/// The ephemeral addresses of connections, with a word for each.
fn ends(connections: &Value, field: &str, word: &str) -> Vec<(String, String)> {
    let connections = connections.as_array().into_iter().flatten().enumerate();
    let address = |(index, connection): (usize, &Value)| {
        Some((connection[field].as_str()?.to_owned(), format!("<{word} {index}>")))
    };
    connections.filter_map(address).collect()
}

fn clean(value: &mut Value, name: Option<&str>, words: &[(String, String)]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, name, words)),
        Value::Object(members) => members
            .iter_mut()
            .for_each(|(name, member)| clean(member, Some(name), words)),
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) | Value::String(_) if name.is_some_and(is_time) => *value = json!("<time>"),
        Value::Number(_) => {}
        Value::String(text) => {
            for (address, word) in words {
                if text.contains(address.as_str()) {
                    *text = text.replace(address.as_str(), word);
                }
            }
            if uuid::is_uuid(text) {
                "<uuid>".clone_into(text);
            }
        }
    }
}

fn is_time(name: &str) -> bool {
    TIMES.contains(&name) || MOMENTS.contains(&name)
}

mod uuid {
    /// Whether a text is a random UUID as both proxies write it.
    pub(super) fn is_uuid(text: &str) -> bool {
        let parts: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12]
            && parts
                .iter()
                .all(|part| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    }
}

/// Every scalar by its path; what is empty is there as such.
pub(crate) fn flat(value: &Value) -> Flat {
    let mut flat = Flat::new();
    flatten(value, String::new(), &mut flat);
    flat
}

fn flatten(value: &Value, path: String, into: &mut Flat) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(item, format!("{path}[{index}]"), into);
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(member, path, into);
            }
        }
        scalar => {
            into.insert(path, scalar.clone());
        }
    }
}

/// Where two observations differ: path, Envoy's, ours.
pub(crate) fn differences(envoy: &Flat, ours: &Flat) -> Vec<(String, Option<Value>, Option<Value>)> {
    let paths: std::collections::BTreeSet<_> = envoy.keys().chain(ours.keys()).collect();
    let pairs = paths
        .into_iter()
        .map(|path| (path.clone(), envoy.get(path).cloned(), ours.get(path).cloned()));
    pairs.filter(|(_, envoy, ours)| envoy != ours).collect()
}
