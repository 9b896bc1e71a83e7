//! Where access-log records go and what they look like.

use std::path::PathBuf;

/// One access log: `config.accesslog.v3.AccessLog` with the file logger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// The file; `/dev/stdout` and `/dev/stderr` are the process's own.
    pub path: PathBuf,
    /// How a record becomes a line.
    pub format: LogFormat,
    /// Log only records that carry one of these response flags (`NR`, …). Empty: log all.
    pub only_flags: Vec<String>,
}

/// The shape of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFormat {
    /// Envoy's own default text format, which is not Istio's.
    EnvoyDefault,
    /// A text format in Envoy's format language, newline included.
    Text(String),
    /// An object whose string values are in the format language; one line of JSON per record.
    Json {
        /// The object's members, in order of their keys.
        fields: serde_json::Map<String, serde_json::Value>,
        /// Leave members without a value out, instead of writing `null`.
        omit_empty: bool,
    },
}

/// Istio's default text format since 1.9, ending in a newline.
pub const ISTIO_DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% ",
    "%ROUTE_NAME%\n",
);
