//! Messages of `config.core.v3` that several resources share.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{
    secret::Material,
    source::{FileSource, Source},
    xds::{
        pb::{
            core::{self, address, config_source::ConfigSourceSpecifier, data_source::Specifier, socket_address},
            protobuf,
        },
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Shared messages.
    MESSAGES:
    core::Address {
        supported { address = "socket_address; pipe in endpoints of the proxy's own services" }
    }
    core::Pipe {
        supported { path = "of a file" }
        rejected { mode = "only matters to who listens" }
    }
    core::SocketAddress {
        supported { protocol = "TCP", address, port_specifier = "port_value" }
        rejected { resolver_name, ipv4_compat, network_namespace_filepath }
    }
    core::ConfigSource {
        supported { config_source_specifier = "ads, self, path_config_source, path" }
        ignored {
            initial_fetch_timeout = "what needs the resource waits for it without limit, as with 0 s",
            resource_api_version = "always V3",
        }
        rejected { authorities }
    }
    core::PathConfigSource {
        supported { path = "a DiscoveryResponse, JSON or YAML; read again when it is moved into place", watched_directory }
        rejected { poll_interval = "a file that is read while it is written may be half of itself: move it into place" }
    }
    core::WatchedDirectory {
        supported { path }
        rejected { watch_modify = "a file that is read while it is written may be half of itself: move it into place" }
    }
    core::DataSource {
        supported { specifier = "filename, inline_string or inline_bytes, as the place of use says" }
        ignored { watched_directory = "files are always watched" }
    }
    core::TransportSocket {
        supported { config_type = "typed_config: raw_buffer or tls" }
        ignored { name = "the type decides" }
    }
    core::TypedExtensionConfig {
        supported { typed_config }
        ignored { name = "the type decides" }
    }
    core::HeaderValueOption {
        supported {
            header,
            append = "deprecated: false is OVERWRITE_IF_EXISTS_OR_ADD",
            append_action = "APPEND_IF_EXISTS_OR_ADD, OVERWRITE_IF_EXISTS_OR_ADD",
            keep_empty_value = "must be true if the value is empty",
        }
    }
    core::HeaderValue {
        supported { key, value = "literal; a percent sign is written %%" }
        rejected { raw_value }
    }
    core::HttpProtocolOptions {
        supported {
            idle_timeout,
            max_requests_per_connection = "upstreams only",
            max_connection_duration = "listeners only",
            max_headers_count = "listeners only",
            headers_with_underscores_action = "listeners only",
        }
        rejected {
            max_connection_duration_jitter, max_response_headers_kb, max_stream_duration,
        }
    }
    core::Http1ProtocolOptions {
        supported {
            allow_absolute_url = "listeners only",
            accept_http_10 = "listeners only",
            override_stream_error_on_invalid_http_message = "false",
        }
        ignored { use_balsa_parser = "names one of Envoy's parsers" }
        rejected {
            default_host_for_http_10, header_key_format, enable_trailers, allow_chunked_length, send_fully_qualified_url,
            allow_custom_methods, ignore_http_11_upgrade,
        }
    }
    core::Http2ProtocolOptions {
        supported {
            max_concurrent_streams = "listeners only",
            initial_stream_window_size = "listeners only",
            initial_connection_window_size = "listeners only",
            allow_connect = "listeners only",
            override_stream_error_on_invalid_http_message = "false",
        }
        ignored { use_oghttp2_codec = "names one of Envoy's codecs" }
        rejected {
            hpack_table_size, allow_metadata, max_outbound_frames, max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent, stream_error_on_invalid_http_messaging,
            custom_settings_parameters, connection_keepalive, max_metadata_size, enable_huffman_encoding,
            max_header_field_size_kb, disallow_obs_text, stream_reset_burst, stream_reset_rate,
        }
    }
}

/// A host, as text, and a port.
pub(super) fn host_and_port<'a>(scope: &Scope<'_>, message: &'a core::Address) -> Decoded<(&'a str, u16)> {
    scope.check(message);
    match scope.required("address", &message.address)? {
        address::Address::SocketAddress(socket) => socket_address(&scope.field("socket_address"), socket),
        address::Address::Pipe(_) => Err(scope.field("pipe").refuse("set", "only socket_address is supported")),
        address::Address::EnvoyInternalAddress(_) => Err(scope
            .field("envoy_internal_address")
            .refuse("set", "only socket_address is supported")),
    }
}

fn socket_address<'a>(scope: &Scope<'_>, message: &'a core::SocketAddress) -> Decoded<(&'a str, u16)> {
    scope.check(message);
    if message.protocol != i32::from(socket_address::Protocol::Tcp) {
        scope
            .field("protocol")
            .refuse(message.protocol, "only TCP is supported");
    }
    match &message.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => {
            Ok((&message.address, scope.port("port_value", *port)?))
        }
        Some(socket_address::PortSpecifier::NamedPort(name)) => {
            Err(scope.field("named_port").refuse(name, "only port_value is supported"))
        }
        None => Ok((&message.address, 0)),
    }
}

/// An IP address and a port.
pub(super) fn socket(scope: &Scope<'_>, message: &core::Address) -> Decoded<SocketAddr> {
    let (host, port) = host_and_port(scope, message)?;
    let ip: IpAddr = host
        .parse()
        .map_err(|_| scope.field("socket_address.address").refuse(host, "an IP address"))?;
    Ok(SocketAddr::new(ip, port))
}

/// Where resources come from.
#[allow(deprecated)] // `path` still is what many bootstraps say
pub(super) fn config_source(scope: &Scope<'_>, message: &core::ConfigSource) -> Decoded<Source> {
    scope.check(message);
    match &message.config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(Source::Ads),
        Some(ConfigSourceSpecifier::PathConfigSource(file)) => {
            file_source(&scope.field("path_config_source"), file).map(Source::File)
        }
        Some(ConfigSourceSpecifier::Path(file)) => Ok(Source::File(FileSource {
            path: path(&scope.field("path"), file)?,
            watched_directory: None,
        })),
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => Err(scope.field("api_config_source").refuse(
            "set",
            "write `ads: {}`, resources come over the one ADS stream, or path_config_source",
        )),
        None => Err(scope.refuse("no source", "ads or path_config_source")),
    }
}

fn file_source(scope: &Scope<'_>, message: &core::PathConfigSource) -> Decoded<FileSource> {
    scope.check(message);
    let watched = message.watched_directory.as_ref();
    let watched = watched.map(|directory| {
        let scope = scope.field("watched_directory");
        scope.check(directory);
        path(&scope.field("path"), &directory.path)
    });
    Ok(FileSource {
        path: path(&scope.field("path"), &message.path)?,
        watched_directory: watched.transpose()?,
    })
}

fn path(scope: &Scope<'_>, text: &str) -> Decoded<PathBuf> {
    match text.is_empty() {
        false => Ok(text.into()),
        true => Err(scope.missing()),
    }
}

/// The name of a file.
pub(super) fn filename<'a>(scope: &Scope<'_>, message: &'a core::DataSource) -> Decoded<&'a str> {
    match &message.specifier {
        Some(Specifier::Filename(name)) if !name.is_empty() => Ok(name),
        Some(_) | None => Err(scope.refuse("no filename", "only a non-empty filename is supported here")),
    }
}

/// PEM text in place or in a file.
pub(super) fn material(scope: &Scope<'_>, message: &core::DataSource) -> Decoded<Material> {
    match &message.specifier {
        Some(Specifier::Filename(name)) if !name.is_empty() => Ok(Material::File(name.into())),
        Some(Specifier::InlineString(text)) if !text.is_empty() => Ok(Material::Inline(text.clone().into_bytes())),
        Some(Specifier::InlineBytes(bytes)) if !bytes.is_empty() => Ok(Material::Inline(bytes.clone())),
        Some(Specifier::EnvironmentVariable(_)) => Err(scope
            .field("environment_variable")
            .refuse("set", "filename, inline_string or inline_bytes")),
        Some(_) | None => Err(scope.refuse("empty", "filename, inline_string or inline_bytes, not empty")),
    }
}

/// Text written in place.
pub(super) fn inline_text(scope: &Scope<'_>, message: &core::DataSource) -> Decoded<String> {
    match &message.specifier {
        Some(Specifier::InlineString(text)) => Ok(text.clone()),
        Some(Specifier::InlineBytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(scope.field("inline_bytes").refuse("not text", error)),
        },
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => {
            Err(scope.refuse("no inline text", "only inline_string or inline_bytes is supported here"))
        }
    }
}

/// Refuses HTTP/1 and HTTP/2 settings that have no effect at the place of use.
pub(super) fn unset<T: Default + PartialEq>(scope: &Scope<'_>, value: &T, why: &'static str) {
    if *value != T::default() {
        scope.refuse("set", why);
    }
}

/// Text, or `None` for proto's "not set".
pub(super) fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `xds.type.v3.TypedStruct`, as far as we read it: a message by name, in the form of JSON.
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
}

/// The full name of the message in an `Any`; a `TypedStruct` names it in a field of its own.
pub(super) fn message_name(scope: &Scope<'_>, any: &protobuf::Any) -> Decoded<String> {
    let url = match any.type_url.as_str() {
        "type.googleapis.com/xds.type.v3.TypedStruct" | "type.googleapis.com/udpa.type.v1.TypedStruct" => {
            scope.bytes::<TypedStruct>(&any.value)?.type_url
        }
        url => url.to_owned(),
    };
    match url.rsplit_once('/') {
        Some((_, name)) => Ok(name.to_owned()),
        None => Err(scope.field("@type").refuse(url, "a type URL")),
    }
}
