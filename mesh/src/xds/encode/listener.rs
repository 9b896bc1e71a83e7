//! `config.listener.v3`: listeners, filter chains and network filters.

use prost::{Message, Name};

use crate::{
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, Protocol, TrafficDirection, Transport},
    xds::{
        Any,
        encode::{common, http, log, rbac, tcp, tls},
        pb::{
            core::TrafficDirection as WireDirection,
            http_inspector::HttpInspector,
            listener::{self, filter, listener_filter},
            original_dst::OriginalDst,
            protobuf::UInt32Value,
            tls_inspector::TlsInspector,
        },
    },
};

/// Encodes a listener.
pub fn listener(value: &Listener) -> listener::Listener {
    let direction = match value.direction {
        TrafficDirection::Unspecified => WireDirection::Unspecified,
        TrafficDirection::Inbound => WireDirection::Inbound,
        TrafficDirection::Outbound => WireDirection::Outbound,
    };
    listener::Listener {
        name: value.name.to_string(),
        address: Some(common::socket(value.address)),
        bind_to_port: (!value.bind_to_port).then_some(false).and_then(common::boolean),
        use_original_dst: value.use_original_dst.then_some(true).and_then(common::boolean),
        traffic_direction: direction.into(),
        listener_filters: inspectors(value.inspectors),
        listener_filters_timeout: value.inspect_timeout.map(common::duration),
        continue_on_listener_filters_timeout: value.continue_on_inspect_timeout,
        filter_chains: value.filter_chains.iter().map(filter_chain).collect(),
        default_filter_chain: value.default_filter_chain.as_ref().map(filter_chain),
        access_log: value.access_logs.iter().map(log::access_log).collect(),
        per_connection_buffer_limit_bytes: common::uint32(value.buffer_limit),
        ..Default::default()
    }
}

fn inspectors(value: Inspectors) -> Vec<listener::ListenerFilter> {
    let original_dst = value
        .original_dst
        .then(|| inspector("envoy.filters.listener.original_dst", &OriginalDst {}));
    let tls = value
        .tls
        .then(|| inspector("envoy.filters.listener.tls_inspector", &TlsInspector::default()));
    let http = value
        .http
        .then(|| inspector("envoy.filters.listener.http_inspector", &HttpInspector {}));
    [original_dst, tls, http].into_iter().flatten().collect()
}

fn inspector<M: Message + Name>(name: &str, config: &M) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(common::any(config))),
        ..Default::default()
    }
}

fn filter_chain(value: &FilterChain) -> listener::FilterChain {
    let matches = (value.matches != FilterChainMatch::default()).then(|| chain_match(&value.matches));
    listener::FilterChain {
        name: value.name.clone().unwrap_or_default(),
        filter_chain_match: matches,
        transport_socket: value
            .tls
            .as_ref()
            .map(|context| common::tls_socket(&tls::downstream(context))),
        transport_socket_connect_timeout: value.handshake_timeout.map(common::duration),
        filters: filters(value),
        ..Default::default()
    }
}

fn chain_match(value: &FilterChainMatch) -> listener::FilterChainMatch {
    let transport = match value.transport {
        None => "",
        Some(Transport::Plaintext) => "raw_buffer",
        Some(Transport::Tls) => "tls",
    };
    listener::FilterChainMatch {
        destination_port: value.destination_port.map(|port| UInt32Value { value: port.into() }),
        server_names: value.server_names.iter().map(ToString::to_string).collect(),
        transport_protocol: transport.to_owned(),
        application_protocols: value.application_protocols.clone(),
        ..Default::default()
    }
}

fn filters(value: &FilterChain) -> Vec<listener::Filter> {
    let filter = |name: &str, config: Any| listener::Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    };
    let rbac = value
        .rbac
        .iter()
        .map(|value| filter("envoy.filters.network.rbac", rbac::network_filter(value)));
    let terminal = match &value.protocol {
        Protocol::Http(http) => filter(
            "envoy.filters.network.http_connection_manager",
            common::any(&http::connection_manager(http)),
        ),
        Protocol::Tcp(tcp) => filter("envoy.filters.network.tcp_proxy", common::any(&tcp::tcp_proxy(tcp))),
    };
    rbac.chain([terminal]).collect()
}
