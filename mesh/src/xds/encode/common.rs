//! Messages of `config.core.v3` and well-known types that several resources share.

use std::{net::SocketAddr, path::Path, time::Duration};

use prost::{Message, Name};

use crate::{
    source::Source,
    xds::{
        Any,
        pb::{
            core::{
                self, AggregatedConfigSource, ApiVersion, address, config_source::ConfigSourceSpecifier, data_source,
                socket_address, transport_socket,
            },
            protobuf::{self, BoolValue, UInt32Value},
        },
    },
};

/// Packs a message.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// A duration; the model's are far below proto's limit, and what is not is cut there.
pub(super) fn duration(value: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: value.subsec_nanos().cast_signed(),
    }
}

/// An integer that may be unset.
pub(super) fn uint32(value: Option<u32>) -> Option<UInt32Value> {
    value.map(|value| UInt32Value { value })
}

/// A switch that is written whatever its value.
pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A host and port.
pub(super) fn address(host: String, port: u16) -> core::Address {
    core::Address {
        address: Some(address::Address::SocketAddress(core::SocketAddress {
            address: host,
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// An address and port.
pub(super) fn socket(value: SocketAddr) -> core::Address {
    address(value.ip().to_string(), value.port())
}

/// A Unix socket.
pub(super) fn pipe(path: &Path) -> core::Address {
    core::Address {
        address: Some(address::Address::Pipe(core::Pipe {
            path: text(path),
            ..Default::default()
        })),
    }
}

/// Where a resource comes from.
pub(super) fn config_source(value: &Source) -> core::ConfigSource {
    source(match value {
        Source::Ads => ConfigSourceSpecifier::Ads(AggregatedConfigSource {}),
        Source::File(file) => ConfigSourceSpecifier::PathConfigSource(core::PathConfigSource {
            path: text(&file.path),
            watched_directory: file
                .watched_directory
                .as_deref()
                .map(|directory| core::WatchedDirectory {
                    path: text(directory),
                    ..Default::default()
                }),
            ..Default::default()
        }),
    })
}

/// Paths are decoded from text, so that nothing is lost.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A source that is waited for without limit.
pub(super) fn source(specifier: ConfigSourceSpecifier) -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: Some(protobuf::Duration::default()),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(specifier),
        ..Default::default()
    }
}

/// Text in place.
pub(super) fn inline(text: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

/// A TLS transport socket.
pub(super) fn tls_socket<M: Message + Name>(context: &M) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(context))),
    }
}

/// An extension.
pub(super) fn extension<M: Message + Name>(name: &str, config: &M) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(config)),
    }
}
