//! What was observed of one proxy, made comparable: whatever must differ between two runs becomes a word that says what it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Values by path.
pub(crate) type Flat = BTreeMap<String, Value>;

/// What holds a time span, a moment or a number of this run only, in the log and in headers.
const VARYING: &[&str] = &[
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)",
    "CONNECTION_ID",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_SESSION_ID",
    "date",
    "x-envoy-upstream-service-time",
];

/// A later try has what is left of the time.
const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

/// Replaces what differs between runs. `None`: the system gave one address to two connections, so that it does not say whose it is.
pub(crate) fn comparable(mut observed: Value, listener: &str, upstreams: &[(String, String)]) -> Option<Value> {
    order(&mut observed);
    let mut words = vec![(listener.to_owned(), "<listener>".to_owned())];
    words.extend(
        upstreams
            .iter()
            .map(|(name, address)| (address.clone(), format!("<{name}>"))),
    );
    // Where nothing of ours listens, at an address that a case names.
    words.extend(upstreams.iter().filter_map(|(name, address)| {
        let (_, port) = address.rsplit_once(':')?;
        Some((format!(":{port}"), format!(":<port of {name}>")))
    }));
    words.extend(ends(&observed["client"], "local", "client"));
    if let Some(named) = observed["upstreams"].as_object() {
        for (name, connections) in named {
            words.extend(ends(connections, "peer", &format!("proxy to {name}")));
        }
    }
    let addresses: BTreeSet<_> = words.iter().map(|(address, _)| address).collect();
    if addresses.len() < words.len() {
        return None;
    }
    let mut carried = Vec::new();
    for connection in observed["client"].as_array_mut().into_iter().flatten() {
        carried.extend(take_carried(connection));
    }
    for line in observed["log"].as_array_mut().into_iter().flatten() {
        weigh(line, &carried);
    }
    clean(&mut observed, None, &words);
    Some(observed)
}

/// What a client counted on its TLS connection, by its address.
fn take_carried(connection: &mut Value) -> Option<(Value, Value)> {
    let carried = connection.as_object_mut()?.remove("carried")?;
    Some((connection["local"].clone(), carried))
}

/// A tunnel's byte counts are right if they are what its client counted. They differ between runs by a few bytes, with the lengths
/// of signatures.
fn weigh(line: &mut Value, carried: &[(Value, Value)]) {
    let client = &line["DOWNSTREAM_DIRECT_REMOTE_ADDRESS"];
    let Some((_, carried)) = carried.iter().find(|(address, _)| address == client) else {
        return;
    };
    for (field, counted, word) in [
        ("BYTES_RECEIVED", "sent", "<all that the client sent>"),
        ("BYTES_SENT", "received", "<all that the client got>"),
    ] {
        if line[field] == carried[counted] {
            line[field] = json!(word);
        }
    }
}

/// Puts lines in the order of the clients' connections; within one, they stay as they were written.
fn order(observed: &mut Value) {
    let clients: Vec<_> = observed["client"].as_array().into_iter().flatten().collect();
    let clients: Vec<_> = clients.iter().map(|client| client["local"].clone()).collect();
    let place = |line: &Value| {
        let mut clients = clients.iter();
        clients.position(|client| *client == line["DOWNSTREAM_DIRECT_REMOTE_ADDRESS"])
    };
    if let Some(lines) = observed["log"].as_array_mut() {
        lines.sort_by_key(place);
    }
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
        Value::String(text) if name.is_some_and(is_moment) => *text = shape(text),
        Value::Number(_) | Value::String(_) if name.is_some_and(varies) => *value = json!("<varies>"),
        Value::Number(_) => {}
        Value::String(text) if name == Some(EXPECTED_TIMEOUT) => round(text),
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

/// To the next quarter of a second.
fn round(milliseconds: &mut String) {
    if let Ok(number) = milliseconds.parse::<u64>() {
        *milliseconds = (number.div_ceil(250) * 250).to_string();
    }
}

fn varies(name: &str) -> bool {
    VARYING.contains(&name)
        || name
            .split('(')
            .next()
            .is_some_and(|operator| operator.ends_with("DURATION"))
}

/// A time of day, in whatever format.
fn is_moment(name: &str) -> bool {
    ["START_TIME", "EMIT_TIME"]
        .iter()
        .any(|operator| name.starts_with(operator))
}

/// What a text has in common with others of its kind: a number is one, other digits are as many.
fn shape(text: &str) -> String {
    let digit = |c: char| if c.is_ascii_hexdigit() { '0' } else { c };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 6 {
        return "<number>".to_owned();
    }
    text.chars().map(digit).collect()
}

/// Leaves the shape only of some words of a text line.
pub(crate) fn without_varying(line: &str, varying: &[usize]) -> String {
    let words = line.split(' ').enumerate();
    let words = words.map(|(index, word)| {
        if varying.contains(&index) {
            shape(word)
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
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
