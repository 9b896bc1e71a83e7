//! `config.listener.v3`: listeners, filter chains and network filters.

use std::collections::HashSet;

use crate::{
    ListenerName,
    authz::RbacFilter,
    host::HostPattern,
    listener::{FilterChain, FilterChainMatch, Inspectors, Listener, Protocol, TrafficDirection, Transport},
    xds::{
        decode::{common, http, log, rbac, tcp, tls},
        pb::{
            core::TrafficDirection as WireDirection,
            hcm::HttpConnectionManager,
            http_inspector::HttpInspector,
            listener::{self, filter, filter_chain_match::ConnectionSourceType, listener_filter},
            network_rbac,
            original_dst::OriginalDst,
            protobuf::Any,
            tcp_proxy::TcpProxy,
            tls_inspector::TlsInspector,
        },
        scope::{Decoded, Scope},
        support::{IgnoredExtension, messages},
    },
};

messages! {
    /// Messages of listeners.
    MESSAGES:
    listener::Listener {
        supported {
            name, address, filter_chains, use_original_dst, default_filter_chain, per_connection_buffer_limit_bytes,
            listener_filters = "tls_inspector, http_inspector, original_dst", listener_filters_timeout,
            continue_on_listener_filters_timeout, transparent = "false", freebind = "false", traffic_direction,
            access_log, bind_to_port,
        }
        ignored {
            stat_prefix = "a statistic",
            stats_matcher = "chooses among Envoy's statistics",
            metadata = "labels for tools",
            connection_balance_config = "the kernel spreads connections over our workers",
            reuse_port = "always on",
            enable_reuse_port = "always on",
            tcp_backlog_size = "set by us",
            max_connections_to_accept_per_socket_event = "the accept loop is fair in its own way",
            ignore_global_conn_limit = "there is no such limit",
            bypass_overload_manager = "there is no overload manager",
        }
        rejected {
            additional_addresses, fcds_config, filter_chain_matcher, per_connection_buffer_high_watermark_timeout,
            deprecated_v1 = "use bind_to_port", drain_type, socket_options, tcp_fast_open_queue_length,
            udp_listener_config, api_listener, enable_mptcp, tcp_keepalive, listener_specifier,
        }
    }
    listener::ListenerFilter {
        supported { config_type = "typed_config" }
        ignored { name = "the type decides" }
        rejected { filter_disabled }
    }
    listener::FilterChain {
        supported {
            filter_chain_match, filters = "rbac, the filters listed above, and as the last http_connection_manager or tcp_proxy",
            transport_socket, transport_socket_connect_timeout, name,
        }
        ignored { metadata = "labels for tools" }
        rejected { use_proxy_proto }
    }
    listener::FilterChainMatch {
        supported {
            destination_port, server_names = "names and *.suffix", transport_protocol = "tls, raw_buffer",
            application_protocols, source_type = "ANY",
        }
        rejected {
            prefix_ranges, address_suffix, suffix_len, direct_source_prefix_ranges, source_prefix_ranges, source_ports,
        }
    }
    listener::Filter {
        supported { config_type = "typed_config" }
        ignored { name = "the type decides" }
    }
    TlsInspector {
        ignored {
            enable_ja3_fingerprinting = "only adds a log operator",
            enable_ja4_fingerprinting = "only adds a log operator",
            initial_read_buffer_size = "set by us",
            max_client_hello_size = "set by us",
        }
        rejected { close_connection_on_client_hello_parsing_errors }
    }
    HttpInspector {}
    OriginalDst {}
}

/// Network filters that change nothing here.
pub(crate) const IGNORED_FILTERS: &[IgnoredExtension] = &[
    IgnoredExtension {
        message: "envoy.tcp.metadataexchange.config.MetadataExchange",
        reason: "exchanges labels for telemetry, with peers that negotiate istio-peer-exchange; we do not offer to",
    },
    IgnoredExtension {
        message: "io.istio.network.peer_metadata.Config",
        reason: "exchanges labels for telemetry; no telemetry of ours uses them",
    },
    IgnoredExtension {
        message: "stats.PluginConfig",
        reason: "counts connections; there are no metrics yet",
    },
];

/// What a filter of the chain is to us.
enum Filter {
    Rbac(Box<RbacFilter>),
    Terminal(Protocol),
    Inert,
}

/// A listener.
pub(super) fn listener(scope: &Scope<'_>, message: &listener::Listener) -> Decoded<Listener> {
    scope.check(message);
    scope.off("transparent", message.transparent);
    scope.off("freebind", message.freebind);
    let filter_chains = scope.list("filter_chains", &message.filter_chains, filter_chain)?;
    let default_filter_chain = match &message.default_filter_chain {
        Some(chain) => Some(filter_chain(&scope.field("default_filter_chain"), chain)?),
        None => None,
    };
    if filter_chains.is_empty() && default_filter_chain.is_none() {
        return Err(scope
            .field("filter_chains")
            .refuse("empty", "at least one filter chain"));
    }
    no_match_twice(scope, &filter_chains);
    Ok(Listener {
        name: scope.field("name").parse(&message.name, ListenerName::parse)?,
        address: common::socket(&scope.field("address"), scope.required("address", &message.address)?)?,
        bind_to_port: message.bind_to_port.is_none_or(|value| value.value),
        use_original_dst: message.use_original_dst.is_some_and(|value| value.value),
        direction: match scope
            .field("traffic_direction")
            .enumeration(message.traffic_direction)?
        {
            WireDirection::Unspecified => TrafficDirection::Unspecified,
            WireDirection::Inbound => TrafficDirection::Inbound,
            WireDirection::Outbound => TrafficDirection::Outbound,
        },
        inspectors: inspectors(scope, message)?,
        inspect_timeout: scope.duration("listener_filters_timeout", &message.listener_filters_timeout)?,
        continue_on_inspect_timeout: message.continue_on_listener_filters_timeout,
        filter_chains,
        default_filter_chain,
        access_logs: scope.list("access_log", &message.access_log, log::access_log)?,
        buffer_limit: message.per_connection_buffer_limit_bytes.map(|limit| limit.value),
    })
}

/// Which of two chains would get the connection, nobody said.
fn no_match_twice(scope: &Scope<'_>, filter_chains: &[FilterChain]) {
    let mut seen = HashSet::new();
    for (index, chain) in filter_chains.iter().enumerate() {
        if !seen.insert(&chain.matches) {
            scope
                .index("filter_chains", index)
                .field("filter_chain_match")
                .refuse("the match of another filter chain", "each match once");
        }
    }
}

fn inspectors(scope: &Scope<'_>, message: &listener::Listener) -> Decoded<Inspectors> {
    let mut found = Inspectors::default();
    for one in scope.list("listener_filters", &message.listener_filters, inspector)? {
        found.tls |= one.tls;
        found.http |= one.http;
        found.original_dst |= one.original_dst;
    }
    Ok(found)
}

fn inspector(scope: &Scope<'_>, message: &listener::ListenerFilter) -> Decoded<Inspectors> {
    scope.check(message);
    let any = match scope.required("typed_config", &message.config_type)? {
        listener_filter::ConfigType::TypedConfig(any) => any,
        listener_filter::ConfigType::ConfigDiscovery(_) => {
            return Err(scope
                .field("config_discovery")
                .refuse("set", "only typed_config is supported"));
        }
    };
    let scope = scope.field("typed_config");
    let mut found = Inspectors::default();
    match common::message_name(&scope, any)?.as_str() {
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => {
            scope.check(&scope.unpack::<TlsInspector>(any)?);
            found.tls = true;
        }
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => {
            scope.check(&scope.unpack::<HttpInspector>(any)?);
            found.http = true;
        }
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => {
            scope.check(&scope.unpack::<OriginalDst>(any)?);
            found.original_dst = true;
        }
        unknown => return Err(scope.refuse(unknown, "tls_inspector, http_inspector or original_dst")),
    }
    Ok(found)
}

fn filter_chain(scope: &Scope<'_>, message: &listener::FilterChain) -> Decoded<FilterChain> {
    scope.check(message);
    let matches = match &message.filter_chain_match {
        Some(matches) => chain_match(&scope.field("filter_chain_match"), matches)?,
        None => FilterChainMatch::default(),
    };
    let tls = match &message.transport_socket {
        Some(socket) => tls::downstream_socket(&scope.field("transport_socket"), socket)?,
        None => None,
    };
    let (rbac, protocol) = filters(scope, message)?;
    Ok(FilterChain {
        name: common::non_empty(&message.name),
        matches,
        tls,
        handshake_timeout: scope.duration(
            "transport_socket_connect_timeout",
            &message.transport_socket_connect_timeout,
        )?,
        rbac,
        protocol,
    })
}

fn chain_match(scope: &Scope<'_>, message: &listener::FilterChainMatch) -> Decoded<FilterChainMatch> {
    scope.check(message);
    if message.source_type != i32::from(ConnectionSourceType::Any) {
        scope
            .field("source_type")
            .refuse(message.source_type, "only ANY is supported");
    }
    let transport = match message.transport_protocol.as_str() {
        "" => None,
        "raw_buffer" => Some(Transport::Plaintext),
        "tls" => Some(Transport::Tls),
        other => return Err(scope.field("transport_protocol").refuse(other, "tls or raw_buffer")),
    };
    Ok(FilterChainMatch {
        destination_port: match message.destination_port {
            Some(port) => Some(scope.port("destination_port", port.value)?),
            None => None,
        },
        server_names: scope.list("server_names", &message.server_names, |scope, name| {
            server_name(scope, name)
        })?,
        transport,
        application_protocols: message.application_protocols.clone(),
    })
}

/// Narrower than in virtual hosts, as in Envoy: no bare `*`, and a wildcard stands for whole labels.
fn server_name(scope: &Scope<'_>, text: &str) -> Decoded<HostPattern> {
    let pattern = scope.parse(text, HostPattern::parse)?;
    match &pattern {
        HostPattern::Exact(_) => Ok(pattern),
        HostPattern::Suffix(suffix) if suffix.starts_with('.') => Ok(pattern),
        HostPattern::Suffix(_) | HostPattern::Any => {
            Err(scope.refuse(text, "a name or *.suffix; an empty list matches every name"))
        }
    }
}

fn filters(scope: &Scope<'_>, message: &listener::FilterChain) -> Decoded<(Vec<RbacFilter>, Protocol)> {
    let mut filters = scope.list("filters", &message.filters, filter)?;
    let Some(Filter::Terminal(protocol)) = filters.pop() else {
        return Err(scope.field("filters").refuse(
            "no terminal filter at the end",
            "http_connection_manager or tcp_proxy as the last",
        ));
    };
    let mut rbac = Vec::new();
    for filter in filters {
        match filter {
            Filter::Rbac(filter) => rbac.push(*filter),
            Filter::Inert => {}
            Filter::Terminal(_) => {
                return Err(scope.field("filters").refuse(
                    "a terminal filter before the end",
                    "http_connection_manager or tcp_proxy only as the last",
                ));
            }
        }
    }
    Ok((rbac, protocol))
}

fn filter(scope: &Scope<'_>, message: &listener::Filter) -> Decoded<Filter> {
    scope.check(message);
    match scope.required("typed_config", &message.config_type)? {
        filter::ConfigType::TypedConfig(any) => filter_config(&scope.field("typed_config"), any),
        filter::ConfigType::ConfigDiscovery(_) => Err(scope
            .field("config_discovery")
            .refuse("set", "only typed_config is supported")),
    }
}

fn filter_config(scope: &Scope<'_>, any: &Any) -> Decoded<Filter> {
    let name = common::message_name(scope, any)?;
    match name.as_str() {
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => {
            let config: HttpConnectionManager = scope.unpack(any)?;
            let http = http::connection_manager(scope, &config)?;
            Ok(Filter::Terminal(Protocol::Http(Box::new(http))))
        }
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => {
            let config: TcpProxy = scope.unpack(any)?;
            Ok(Filter::Terminal(Protocol::Tcp(tcp::tcp_proxy(scope, &config)?)))
        }
        "envoy.extensions.filters.network.rbac.v3.RBAC" => {
            let config: network_rbac::Rbac = scope.unpack(any)?;
            Ok(Filter::Rbac(Box::new(rbac::network_filter(scope, &config)?)))
        }
        known if IGNORED_FILTERS.iter().any(|ignored| ignored.message == known) => Ok(Filter::Inert),
        unknown => Err(scope.refuse(unknown, "not a supported network filter; docs/xds-lite.md lists them")),
    }
}
