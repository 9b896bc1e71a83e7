//! Random RBAC filters, as JSON: in the shape of compiled AuthorizationPolicies, and in any other.

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::words::{self, Words, chance, pick};

/// Deepest nesting of an expression of any shape.
const DEPTH: usize = 3;

/// What a mesh may ask of the HTTP connection manager and what the facts of a request depend on.
pub(super) fn settings(rng: &mut StdRng) -> Value {
    let slashes = [
        "KEEP_UNCHANGED",
        "UNESCAPE_AND_FORWARD",
        "UNESCAPE_AND_REDIRECT",
        "REJECT_REQUEST",
    ];
    json!({
        "normalize_path": chance(rng, 80),
        "merge_slashes": chance(rng, 30),
        "path_with_escaped_slashes_action": if chance(rng, 85) { slashes[0] } else { pick(rng, &slashes) },
        "use_remote_address": chance(rng, 60),
        "xff_num_trusted_hops": rng.random_range(0..3),
    })
}

/// One to three filters.
pub(super) fn filters(rng: &mut StdRng, words: &Words) -> Value {
    let compiled = chance(rng, 50);
    let actions: &[&str] = match (compiled, rng.random_range(0..6)) {
        (_, 0) => &["DENY"],
        (_, 1 | 2) => &["ALLOW"],
        (true, 3) | (false, 4) => &["LOG", "DENY", "ALLOW"],
        (false, 3) => &["ALLOW", "DENY"],
        _ => &["DENY", "ALLOW"],
    };
    let filters = actions.iter().map(|action| filter(rng, words, action, compiled));
    Value::Array(filters.collect())
}

fn filter(rng: &mut StdRng, words: &Words, action: &str, compiled: bool) -> Value {
    let mut filter = json!({});
    if chance(rng, 95) {
        filter["rules"] = rules(rng, words, action, compiled);
    }
    if chance(rng, 15) {
        filter["shadow_rules"] = rules(rng, words, action, compiled);
        filter["shadow_rules_stat_prefix"] = json!("istio_dry_run_");
    }
    filter
}

fn rules(rng: &mut StdRng, words: &Words, action: &str, compiled: bool) -> Value {
    // A filter that refuses has few policies, or nothing would pass.
    let most = if action == "DENY" { 3 } else { 6 };
    let mut policies = Map::new();
    for index in 0..rng.random_range(0..=most) {
        let namespace = pick(rng, &["team-x", "team-y", "a"]);
        let name = format!(
            "ns[{namespace}]-policy[{}]-rule[{index}]",
            pick(rng, &["p", "q", "p-10"])
        );
        let policy = if compiled { rule(rng, words) } else { free(rng, words) };
        policies.insert(name, policy);
    }
    json!({"action": action, "policies": policies})
}

/// What control makes of a rule: for each source and each operation, fields joined by and, their values by or.
fn rule(rng: &mut StdRng, words: &Words) -> Value {
    let (sources, operations) = (rng.random_range(1..3), rng.random_range(1..3));
    let principals: Vec<_> = (0..sources)
        .map(|_| fields(rng, "and_ids", "or_ids", "ids", "not_id", |rng| principal(rng, words)))
        .collect();
    let permissions: Vec<_> = (0..operations)
        .map(|_| {
            fields(rng, "and_rules", "or_rules", "rules", "not_rule", |rng| {
                permission(rng, words)
            })
        })
        .collect();
    json!({"permissions": permissions, "principals": principals})
}

fn fields(
    rng: &mut StdRng,
    and: &str,
    or: &str,
    list: &str,
    not: &str,
    mut leaf: impl FnMut(&mut StdRng) -> Value,
) -> Value {
    let count = rng.random_range(0..3);
    if count == 0 {
        return json!({"any": true});
    }
    let fields = (0..count).map(|_| {
        let values: Vec<_> = (0..rng.random_range(1..4)).map(|_| leaf(rng)).collect();
        let one = json!({or: {list: values}});
        if chance(rng, 25) { json!({not: one}) } else { one }
    });
    json!({and: {list: fields.collect::<Vec<_>>()}})
}

/// Expressions of any shape.
fn free(rng: &mut StdRng, words: &Words) -> Value {
    let principals: Vec<_> = (0..rng.random_range(1..3))
        .map(|_| {
            nested(rng, DEPTH, ["and_ids", "or_ids", "ids", "not_id"], &|rng| {
                principal(rng, words)
            })
        })
        .collect();
    let permissions: Vec<_> = (0..rng.random_range(1..3))
        .map(|_| {
            nested(rng, DEPTH, ["and_rules", "or_rules", "rules", "not_rule"], &|rng| {
                permission(rng, words)
            })
        })
        .collect();
    json!({"permissions": permissions, "principals": principals})
}

fn nested(rng: &mut StdRng, depth: usize, names: [&str; 4], leaf: &dyn Fn(&mut StdRng) -> Value) -> Value {
    let [and, or, list, not] = names;
    if depth == 0 || chance(rng, 40) {
        return leaf(rng);
    }
    let some = |rng: &mut StdRng| -> Vec<Value> {
        (0..rng.random_range(1..4))
            .map(|_| nested(rng, depth - 1, names, leaf))
            .collect()
    };
    match rng.random_range(0..5) {
        0 | 1 => json!({and: {list: some(rng)}}),
        2 | 3 => json!({or: {list: some(rng)}}),
        _ => json!({not: nested(rng, depth - 1, names, leaf)}),
    }
}

fn principal(rng: &mut StdRng, words: &Words) -> Value {
    match rng.random_range(0..20) {
        0 => json!({"any": true}),
        1 => json!({"authenticated": {}}),
        2..=9 => json!({"authenticated": {"principal_name": identity(rng)}}),
        10 | 11 => json!({"direct_remote_ip": range(rng)}),
        12 | 13 => json!({"remote_ip": range(rng)}),
        14 => json!({"url_path": {"path": text(words.path(rng), rng)}}),
        15 => json!({"metadata": metadata(rng)}),
        _ => json!({"header": header(rng, words)}),
    }
}

fn permission(rng: &mut StdRng, words: &Words) -> Value {
    match rng.random_range(0..24) {
        0 => json!({"any": true}),
        1..=6 => json!({"header": authority(rng, words)}),
        7..=9 => json!({"header": named(":method", words.method(rng), rng)}),
        10..=13 => json!({"url_path": {"path": text(words.path(rng), rng)}}),
        14 | 15 => template(rng),
        16 => json!({"destination_ip": range(rng)}),
        17 | 18 => json!({"destination_port": pick(rng, &["{port}", "{port}", "8080"])}),
        19 | 20 => json!({"requested_server_name": text(words::name(rng), rng)}),
        21 => json!({"metadata": metadata(rng)}),
        _ => json!({"header": header(rng, words)}),
    }
}

/// The ways in which control names identities, and some more.
fn identity(rng: &mut StdRng) -> Value {
    let namespace = pick(rng, &["team-x", "team-y", "istio-egress"]);
    let whole = format!("spiffe://cluster.local/ns/{namespace}/sa/test");
    match rng.random_range(0..8) {
        0 => json!({"exact": whole}),
        1 => json!({"prefix": format!("spiffe://cluster.local/ns/{namespace}/")}),
        2 => regex(&format!(".*/ns/{namespace}/.*")),
        3 => regex(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/test(/.+)?")),
        4 => regex("spiffe://[^/]*/.*"),
        5 => regex(pick(rng, &[".+", ".*", ".*/ns/team-.*/.*"])),
        6 => json!({"exact": pick(rng, &["team-x.test", "CN=team-x", "spiffe://other.test/ns/team-x/sa/test"])}),
        _ => text(&whole, rng),
    }
}

fn authority(rng: &mut StdRng, words: &Words) -> Value {
    let host = words.host(rng);
    let value = match rng.random_range(0..8) {
        0 => return json!({"name": ":authority", "present_match": true}),
        1 => json!({"suffix": format!(".{host}"), "ignore_case": true}),
        2 => json!({"prefix": format!("{host}:"), "ignore_case": true}),
        3 => json!({"exact": format!("{host}:80"), "ignore_case": true}),
        4 => text(host, rng),
        _ => json!({"exact": host, "ignore_case": true}),
    };
    json!({"name": ":authority", "string_match": value})
}

fn header(rng: &mut StdRng, words: &Words) -> Value {
    let name = match rng.random_range(0..12) {
        0 => ":path",
        1 => ":scheme",
        2 => "x-forwarded-for",
        3 => "host",
        _ => words.header(rng),
    };
    let value = if name == ":path" {
        words.path(rng)
    } else {
        words.value(rng)
    };
    named(name, value, rng)
}

fn named(name: &str, value: &str, rng: &mut StdRng) -> Value {
    let mut matcher = match rng.random_range(0..8) {
        0 => json!({"name": name, "present_match": true}),
        1 => json!({"name": name, "present_match": false}),
        _ => json!({"name": name, "string_match": text(value, rng)}),
    };
    if chance(rng, 15) {
        matcher["invert_match"] = json!(true);
    }
    if chance(rng, 10) {
        matcher["treat_missing_header_as_empty"] = json!(true);
    }
    matcher
}

/// A matcher that this text, or one like it, meets.
fn text(value: &str, rng: &mut StdRng) -> Value {
    let cut = rng.random_range(0..=value.len());
    let (head, tail) = value.split_at(cut);
    let mut matcher = match rng.random_range(0..9) {
        0 | 1 if !head.is_empty() => json!({"prefix": head}),
        2 | 3 if !tail.is_empty() => json!({"suffix": tail}),
        4 if !tail.is_empty() => json!({"contains": &tail[..tail.len().div_ceil(2)]}),
        5 => return regex(&format!("{}.*", escaped(head))),
        6 => return regex(&format!("(?i){}(x|{})", escaped(head), escaped(tail))),
        _ => json!({"exact": value}),
    };
    if chance(rng, 20) {
        matcher["ignore_case"] = json!(true);
    }
    matcher
}

fn regex(expression: &str) -> Value {
    json!({"safe_regex": {"regex": expression}})
}

fn escaped(text: &str) -> String {
    let special = |c: char| ".+*?()[]{}|^$\\".contains(c);
    text.chars()
        .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

fn template(rng: &mut StdRng) -> Value {
    let templates = [
        "/*",
        "/**",
        "/a/*",
        "/a/**",
        "/*/b",
        "/**/b",
        "/a/*/c",
        "/*/b/**",
        "/a/b",
        "/status/*",
    ];
    json!({"uri_template": {
        "name": "uri-template",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": pick(rng, &templates),
        },
    }})
}

fn range(rng: &mut StdRng) -> Value {
    let (address, length) = pick(
        rng,
        &[
            ("127.0.0.1", 32),
            ("127.0.0.2", 32),
            ("127.0.0.2", 31),
            ("127.0.0.0", 8),
            ("10.0.0.0", 8),
            ("0.0.0.0", 0),
            ("2001:db8::", 32),
            ("::", 0),
        ],
    );
    json!({"address_prefix": address, "prefix_len": length})
}

fn metadata(rng: &mut StdRng) -> Value {
    let value = text("value", rng);
    let value = if chance(rng, 50) {
        json!({"string_match": value})
    } else {
        json!({"list_match": {"one_of": {"string_match": value}}})
    };
    json!({
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "payload"}, {"key": "iss"}],
        "value": value,
        "invert": chance(rng, 30),
    })
}
