//! `config.accesslog.v3`: access logs.
//!
//! A JSON format is a protobuf map, whose order in the bytes is not fixed. It is written by a mirror of `Struct` that sorts.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Value};

use crate::{
    log::{AccessLog, LogFormat},
    xds::{
        Any,
        encode::common,
        pb::{
            accesslog::{self, access_log::ConfigType, access_log_filter::FilterSpecifier},
            core::{SubstitutionFormatString, substitution_format_string::Format},
            file_log::{FileAccessLog, file_access_log::AccessLogFormat},
            protobuf,
        },
    },
};

/// An access log.
pub(super) fn access_log(value: &AccessLog) -> accesslog::AccessLog {
    let filter = (!value.only_flags.is_empty()).then(|| accesslog::AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(accesslog::ResponseFlagFilter {
            flags: value.only_flags.clone(),
        })),
    });
    accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter,
        config_type: Some(ConfigType::TypedConfig(file(value))),
    }
}

fn file(value: &AccessLog) -> Any {
    let log_format = match &value.format {
        LogFormat::EnvoyDefault => None,
        LogFormat::Text(text) => Some(Format::TextFormatSource(common::inline(text))),
        LogFormat::Json { .. } => Some(Format::JsonFormat(protobuf::Struct::default())),
    };
    let omit_empty_values = matches!(value.format, LogFormat::Json { omit_empty: true, .. });
    let mut any = common::any(&FileAccessLog {
        path: value.path.to_string_lossy().into_owned(),
        access_log_format: log_format.map(|format| {
            AccessLogFormat::LogFormat(SubstitutionFormatString {
                omit_empty_values,
                format: Some(format),
                ..Default::default()
            })
        }),
    });
    if let LogFormat::Json { fields, .. } = &value.format {
        let sorted = SortedLog {
            log_format: Some(SortedFormat {
                json_format: Some(object(fields)),
            }),
        };
        any.value.extend(sorted.encode_to_vec());
    }
    any
}

/// The part of `FileAccessLog` that holds a JSON format; merged into the rest by concatenation.
#[derive(Clone, PartialEq, Message)]
struct SortedLog {
    #[prost(message, optional, tag = "5")]
    log_format: Option<SortedFormat>,
}

/// The part of `SubstitutionFormatString` that holds a JSON format.
#[derive(Clone, PartialEq, Message)]
struct SortedFormat {
    #[prost(message, optional, tag = "2")]
    json_format: Option<SortedStruct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct SortedStruct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, SortedValue>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct SortedValue {
    #[prost(oneof = "SortedKind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<SortedKind>,
}

/// `google.protobuf.Value.kind`.
#[derive(Clone, PartialEq, prost::Oneof)]
enum SortedKind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(SortedStruct),
    #[prost(message, tag = "6")]
    List(SortedList),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
struct SortedList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<SortedValue>,
}

fn object(fields: &Map<String, Value>) -> SortedStruct {
    SortedStruct {
        fields: fields.iter().map(|(key, value)| (key.clone(), member(value))).collect(),
    }
}

fn member(value: &Value) -> SortedValue {
    let kind = match value {
        Value::Null => SortedKind::Null(0),
        Value::Bool(flag) => SortedKind::Bool(*flag),
        Value::Number(number) => SortedKind::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => SortedKind::Text(text.clone()),
        Value::Array(items) => SortedKind::List(SortedList {
            values: items.iter().map(member).collect(),
        }),
        Value::Object(fields) => SortedKind::Struct(object(fields)),
    };
    SortedValue { kind: Some(kind) }
}
