//! Short names for the modules of envoy-types we use.

pub(crate) use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3 as accesslog, bootstrap::v3 as bootstrap, cluster::v3 as cluster, core::v3 as core,
            endpoint::v3 as endpoint, listener::v3 as listener, overload::v3 as overload, rbac::v3 as rbac,
            route::v3 as route,
        },
        extensions::{
            access_loggers::file::v3 as file_log,
            clusters::{common::dns::v3 as dns_family, dns::v3 as dns_cluster},
            filters::{
                http::{
                    cors::v3 as cors, fault::v3 as fault, rbac::v3 as http_rbac, router::v3 as router,
                    stateful_session::v3 as stateful_session,
                },
                listener::{
                    http_inspector::v3 as http_inspector, original_dst::v3 as original_dst,
                    tls_inspector::v3 as tls_inspector,
                },
                network::{http_connection_manager::v3 as hcm, rbac::v3 as network_rbac, tcp_proxy::v3 as tcp_proxy},
            },
            network::dns_resolver::cares::v3 as cares,
            path::r#match::uri_template::v3 as uri_template,
            resource_monitors::downstream_connections::v3 as downstream_connections,
            retry::host::previous_hosts::v3 as previous_hosts,
            transport_sockets::{raw_buffer::v3 as raw_buffer, tls::v3 as tls},
            upstreams::http::v3 as upstream_http,
        },
        r#type::{matcher::v3 as matcher, v3 as percent},
    },
    google::protobuf,
};
