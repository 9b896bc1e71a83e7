//! A node's metadata between protobuf and JSON.

use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Number, Value};

/// A protobuf value as JSON. What JSON cannot say (a number that is none) is null.
pub fn json_of(value: Option<&Wire>) -> Value {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(|value| json_of(Some(value))).collect(),
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.iter();
            fields
                .map(|(name, value)| (name.clone(), json_of(Some(value))))
                .collect()
        }
    }
}

/// A JSON object as a protobuf message.
pub fn struct_of(object: &Map<String, Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(name, value)| (name.clone(), wire_of(value)))
            .collect(),
    }
}

fn wire_of(value: &Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(wire_of).collect(),
        }),
        Value::Object(object) => Kind::StructValue(struct_of(object)),
    };
    Wire { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json = serde_json::json!({"a": "b", "c": {"d": [1.5, true, null]}});
        let wire = struct_of(json.as_object().unwrap());
        assert_eq!(
            json_of(Some(&Wire {
                kind: Some(Kind::StructValue(wire))
            })),
            json
        );
    }
}
