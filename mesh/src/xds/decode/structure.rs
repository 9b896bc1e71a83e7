//! `google.protobuf.Struct`: JSON inside protobuf.

use serde_json::{Map, Number, Value};

use crate::xds::{
    pb::protobuf::{self, value::Kind},
    scope::{Decoded, Scope},
};

/// Deepest nesting of an object.
const MAX_DEPTH: usize = 16;

/// A JSON object.
pub(super) fn object(scope: &Scope<'_>, message: &protobuf::Struct) -> Decoded<Map<String, Value>> {
    members(scope, message, 0)
}

fn members(scope: &Scope<'_>, message: &protobuf::Struct, depth: usize) -> Decoded<Map<String, Value>> {
    let decoded = message
        .fields
        .iter()
        .map(|(key, member)| Ok((key.clone(), value(&scope.key("fields", key), member, depth + 1)?)));
    decoded.collect()
}

fn value(scope: &Scope<'_>, message: &protobuf::Value, depth: usize) -> Decoded<Value> {
    if depth > MAX_DEPTH {
        return Err(scope.refuse("nested too deeply", format_args!("at most {MAX_DEPTH} levels")));
    }
    Ok(match &message.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) => Value::Number(json_number(scope, *number)?),
        Some(Kind::StructValue(fields)) => Value::Object(members(scope, fields, depth)?),
        Some(Kind::ListValue(list)) => {
            Value::Array(scope.list("values", &list.values, |scope, item| value(scope, item, depth + 1))?)
        }
    })
}

/// Protobuf has no integers here; what is one is printed as one.
fn json_number(scope: &Scope<'_>, number: f64) -> Decoded<Number> {
    let text = number.to_string();
    match text.parse::<i64>() {
        Ok(integer) => Ok(integer.into()),
        Err(_) => Number::from_f64(number).ok_or_else(|| scope.refuse(text, "a finite number")),
    }
}
