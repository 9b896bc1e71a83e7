//! `config.overload.v3`, as far as a bootstrap needs it to bound connections. Envoy warns of every bootstrap that has no bound;
//! ours stand without being asked for.

use crate::xds::{
    pb::{
        downstream_connections::DownstreamConnectionsConfig,
        overload::{OverloadManager, ResourceMonitor, resource_monitor::ConfigType},
    },
    scope::{Decoded, Scope},
    support::messages,
};

messages! {
    /// Messages of overload protection.
    MESSAGES:
    OverloadManager {
        supported { resource_monitors = "envoy.resource_monitors.global_downstream_max_connections" }
        ignored { refresh_interval = "connections are counted as they come" }
        rejected { actions, loadshed_points, buffer_factory_config }
    }
    ResourceMonitor {
        supported { config_type = "typed_config: DownstreamConnectionsConfig" }
        ignored { name = "the type decides" }
    }
    DownstreamConnectionsConfig {
        ignored { max_active_downstream_connections = "connections are always bounded, per listener and worker" }
    }
}

/// Checks that nothing is asked for but a bound on connections.
pub(super) fn check(scope: &Scope<'_>, message: &OverloadManager) -> Decoded<()> {
    scope.check(message);
    scope.list("resource_monitors", &message.resource_monitors, monitor)?;
    Ok(())
}

fn monitor(scope: &Scope<'_>, message: &ResourceMonitor) -> Decoded<()> {
    scope.check(message);
    let ConfigType::TypedConfig(any) = scope.required("typed_config", &message.config_type)?;
    let scope = scope.field("typed_config");
    scope.check(&scope.unpack::<DownstreamConnectionsConfig>(any)?);
    Ok(())
}
