//! From a set and a request that are judged differently to the smallest of both that still are.

use serde_json::{Map, Value, json};

use super::{Both, Set, ask, describe, request::Protocol};

/// Most candidates that are tried at once.
const AT_ONCE: usize = 150;

/// Reduces a set with one request until nothing can be taken away; says what is left and what both say.
///
/// # Errors
/// A proxy does not start.
pub(super) async fn shrink(mut set: Set) -> Result<String, String> {
    'smaller: loop {
        let candidates = smaller(&set);
        for some in candidates.chunks(AT_ONCE) {
            let both = ask(some).await?;
            if let Some((index, ..)) = both.difference() {
                set = some[index].clone();
                continue 'smaller;
            }
        }
        let Both { envoy, ours } = ask(std::slice::from_ref(&set)).await?;
        let one = |verdicts: std::collections::BTreeMap<_, _>| verdicts.into_values().next().unwrap_or_default();
        return Ok(describe(&set, &one(envoy), &one(ours)));
    }
}

/// Every set with a little less than this one, those with the least first.
fn smaller(set: &Set) -> Vec<Set> {
    let mut sets: Vec<_> = reduced(&set.filters)
        .into_iter()
        .map(|filters| Set { filters, ..set.clone() })
        .collect();
    sets.sort_by_key(|set| set.filters.to_string().len());
    sets.extend(simpler_requests(set));
    if set.http != json!({"use_remote_address": true, "normalize_path": true}) {
        sets.push(Set {
            http: json!({"use_remote_address": true, "normalize_path": true}),
            ..set.clone()
        });
    }
    sets
}

/// Sets whose request lacks something, or is plainer.
fn simpler_requests(set: &Set) -> Vec<Set> {
    let mut sets = Vec::new();
    let mut changed = |change: &dyn Fn(&mut Set)| {
        let mut set = set.clone();
        change(&mut set);
        sets.push(set);
    };
    let (door, request) = (&set.doors[0], &set.doors[0].requests[0]);
    for index in 0..request.headers.len() {
        changed(&|set| {
            set.doors[0].requests[0].headers.remove(index);
        });
    }
    if request.path != "/" {
        changed(&|set| "/".clone_into(&mut set.doors[0].requests[0].path));
    }
    if request.method != "GET" {
        changed(&|set| "GET".clone_into(&mut set.doors[0].requests[0].method));
    }
    if request.authority != "site.test" {
        changed(&|set| "site.test".clone_into(&mut set.doors[0].requests[0].authority));
    }
    if door.identity != "nobody" {
        changed(&|set| set.doors[0].identity = "nobody");
    }
    if door.protocol != Protocol::H1 {
        changed(&|set| set.doors[0].protocol = Protocol::H1);
    }
    sets
}

/// What is left of a value if one thing is taken from it, for each thing that can be taken.
fn reduced(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => {
            let without = (0..items.len()).filter(|_| items.len() > 1).map(|index| {
                let mut items = items.clone();
                items.remove(index);
                Value::Array(items)
            });
            let within = items.iter().enumerate().flat_map(|(index, item)| {
                reduced(item).into_iter().map(move |smaller| {
                    let mut items = items.clone();
                    items[index] = smaller;
                    Value::Array(items)
                })
            });
            without.chain(within).collect()
        }
        Value::Object(members) => reduced_object(members),
        _ => Vec::new(),
    }
}

fn reduced_object(members: &Map<String, Value>) -> Vec<Value> {
    let mut smaller = parts(members);
    for (name, member) in members {
        let optional = matches!(
            name.as_str(),
            "rules" | "shadow_rules" | "invert_match" | "treat_missing_header_as_empty" | "ignore_case"
        ) && members.len() > 1;
        if optional || name.starts_with("ns[") {
            let mut members = members.clone();
            members.remove(name);
            smaller.push(Value::Object(members));
        }
        smaller.extend(reduced(member).into_iter().map(|member| {
            let mut members = members.clone();
            members.insert(name.clone(), member);
            Value::Object(members)
        }));
    }
    smaller
}

/// The operands of an expression that joins or negates others.
fn parts(members: &Map<String, Value>) -> Vec<Value> {
    let mut parts = Vec::new();
    for (name, member) in members {
        match name.as_str() {
            "and_ids" | "or_ids" => parts.extend(member["ids"].as_array().into_iter().flatten().cloned()),
            "and_rules" | "or_rules" => parts.extend(member["rules"].as_array().into_iter().flatten().cloned()),
            "not_id" | "not_rule" => parts.push(member.clone()),
            _ => {}
        }
    }
    parts
}
