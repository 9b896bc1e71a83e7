//! Access logs.

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::select,
};

use super::word;
use crate::log::{AccessLog, LogFormat};

pub(super) fn json() -> BoxedStrategy<serde_json::Value> {
    use serde_json::Value;

    let leaf = prop_oneof![Just(Value::from("%RESPONSE_CODE%")), word().prop_map(Value::from)];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..2).prop_map(Value::from),
            btree_map(word(), inner, 0..2).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

pub(super) fn access_log() -> BoxedStrategy<AccessLog> {
    let format = prop_oneof![
        Just(LogFormat::EnvoyDefault),
        Just(LogFormat::Text(crate::log::ISTIO_DEFAULT_FORMAT.to_owned())),
        (btree_map(word(), json(), 1..3), any::<bool>()).prop_map(|(fields, omit_empty)| LogFormat::Json {
            fields: fields.into_iter().collect(),
            omit_empty,
        }),
    ];
    (select(vec!["/dev/stdout", "/dev/stderr"]), format, any::<bool>())
        .prop_map(|(path, format, only_nr)| AccessLog {
            path: path.into(),
            format,
            only_flags: only_nr.then(|| "NR".to_owned()).into_iter().collect(),
        })
        .boxed()
}
