//! `config.accesslog.v3`: access logs.

use crate::{
    log::{AccessLog, LogFormat},
    xds::{
        decode::{common, structure},
        pb::{
            accesslog::{self, access_log::ConfigType, access_log_filter::FilterSpecifier},
            core::{self, substitution_format_string::Format},
            file_log::{self, file_access_log::AccessLogFormat},
            protobuf,
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of access logs.
    MESSAGES:
    accesslog::AccessLog {
        supported { filter, config_type = "typed_config: file" }
        ignored { name = "the type decides" }
    }
    accesslog::AccessLogFilter {
        supported { filter_specifier = "response_flag_filter" }
    }
    accesslog::ResponseFlagFilter {
        supported { flags = "at least one" }
    }
    file_log::FileAccessLog {
        supported { path, access_log_format = "log_format; deprecated: format, json_format, typed_json_format" }
    }
    core::SubstitutionFormatString {
        supported { omit_empty_values = "JSON only", format = "text_format_source, text_format, json_format" }
        ignored {
            formatters = "the operators we know need no extension; unknown ones are refused when the format is compiled",
            json_format_options = "keys are always sorted",
        }
        rejected { content_type }
    }
}

/// An access log.
pub(super) fn access_log(scope: &Scope<'_>, message: &accesslog::AccessLog) -> Decoded<AccessLog> {
    scope.check(message);
    let only_flags = match &message.filter {
        Some(filter) => flags(&scope.field("filter"), filter)?,
        None => vec![],
    };
    let ConfigType::TypedConfig(any) = scope.required("typed_config", &message.config_type)?;
    let scope = scope.field("typed_config");
    let file: file_log::FileAccessLog = scope.unpack(any)?;
    scope.check(&file);
    if file.path.is_empty() {
        return Err(scope.field("path").missing());
    }
    Ok(AccessLog {
        path: file.path.into(),
        format: format(&scope, file.access_log_format.as_ref())?,
        only_flags,
    })
}

fn flags(scope: &Scope<'_>, message: &accesslog::AccessLogFilter) -> Decoded<Vec<String>> {
    match scope.required("filter_specifier", &message.filter_specifier)? {
        FilterSpecifier::ResponseFlagFilter(filter) if !filter.flags.is_empty() => Ok(filter.flags.clone()),
        FilterSpecifier::ResponseFlagFilter(_) => Err(scope
            .field("response_flag_filter.flags")
            .refuse("empty", "at least one flag")),
        FilterSpecifier::StatusCodeFilter(_)
        | FilterSpecifier::DurationFilter(_)
        | FilterSpecifier::NotHealthCheckFilter(_)
        | FilterSpecifier::TraceableFilter(_)
        | FilterSpecifier::RuntimeFilter(_)
        | FilterSpecifier::AndFilter(_)
        | FilterSpecifier::OrFilter(_)
        | FilterSpecifier::HeaderFilter(_)
        | FilterSpecifier::GrpcStatusFilter(_)
        | FilterSpecifier::ExtensionFilter(_)
        | FilterSpecifier::MetadataFilter(_)
        | FilterSpecifier::LogTypeFilter(_) => {
            Err(scope.refuse("another filter", "only response_flag_filter is supported"))
        }
    }
}

#[allow(deprecated)] // the older spellings mean the same
fn format(scope: &Scope<'_>, message: Option<&AccessLogFormat>) -> Decoded<LogFormat> {
    match message {
        None => Ok(LogFormat::EnvoyDefault),
        Some(AccessLogFormat::Format(text)) if text.is_empty() => Ok(LogFormat::EnvoyDefault),
        Some(AccessLogFormat::Format(text)) => Ok(LogFormat::Text(text.clone())),
        Some(AccessLogFormat::JsonFormat(fields)) => json(&scope.field("json_format"), fields, false),
        Some(AccessLogFormat::TypedJsonFormat(fields)) => json(&scope.field("typed_json_format"), fields, false),
        Some(AccessLogFormat::LogFormat(format)) => substitution(&scope.field("log_format"), format),
    }
}

#[allow(deprecated)] // as above
fn substitution(scope: &Scope<'_>, message: &core::SubstitutionFormatString) -> Decoded<LogFormat> {
    scope.check(message);
    let format = scope.required("format", &message.format)?;
    let text = match format {
        Format::JsonFormat(fields) => return json(&scope.field("json_format"), fields, message.omit_empty_values),
        Format::TextFormat(text) => text.clone(),
        Format::TextFormatSource(source) => common::inline_text(&scope.field("text_format_source"), source)?,
    };
    if message.omit_empty_values {
        return Err(scope.field("omit_empty_values").refuse("true", "only with json_format"));
    }
    Ok(LogFormat::Text(text))
}

fn json(scope: &Scope<'_>, message: &protobuf::Struct, omit_empty: bool) -> Decoded<LogFormat> {
    Ok(LogFormat::Json {
        fields: structure::object(scope, message)?,
        omit_empty,
    })
}
