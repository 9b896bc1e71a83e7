//! Arguments of Envoy 1.40, so that `sallyport gateway` can stand where `envoy` stood.
//!
//! Each of them is effective, or accepted with a [note](Args::notes) that says why it does nothing here, or refused with
//! what to do instead. What an operator could rely on for safety is never just accepted.

#[cfg(test)]
mod tests;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::bail;
use clap::ValueEnum;
use mesh::xds::bootstrap::Node;
use tracing_subscriber::filter::LevelFilter;

/// Arguments of Envoy.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Arguments of Envoy")]
#[group(skip)]
pub(super) struct Args {
    /// Bootstrap file, YAML or JSON; stands for --control, --labels, --address and --pod
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with_all = CONTROL)]
    pub(super) config_path: Option<PathBuf>,
    /// Bootstrap in place, merged over the file if there is one
    #[arg(long, value_name = "YAML", conflicts_with_all = CONTROL)]
    pub(super) config_yaml: Option<String>,
    /// Node id, in place of the bootstrap's
    #[arg(long, value_name = "ID", conflicts_with_all = CONTROL)]
    service_node: Option<String>,
    /// Node's cluster, in place of the bootstrap's
    #[arg(long, value_name = "NAME", conflicts_with_all = CONTROL)]
    service_cluster: Option<String>,
    /// Serve; or only check the bootstrap and what it names; or start, and end once configured
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(super) mode: Mode,
    /// Threads that serve connections, as --workers; 0 is 1
    #[arg(long, value_name = "NUMBER", conflicts_with = "workers")]
    concurrency: Option<usize>,
    /// How long open connections may finish after a signal to stop, in seconds, as --drain
    #[arg(long, value_name = "SECONDS", conflicts_with = "drain")]
    drain_time_s: Option<u32>,
    /// What is logged about ourselves: trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, value_name = "LEVEL", value_enum)]
    log_level: Option<Level>,
    /// Log about ourselves to this file in place of standard error
    #[arg(long, value_name = "FILE")]
    pub(super) log_path: Option<PathBuf>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "NAME:LEVEL,…", value_parser = component_levels)]
    component_log_level: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    log_format_escaped: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    log_stacktrace_single_entry: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    enable_fine_grain_logging: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    skip_deprecated_logs: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "MILLISECONDS")]
    file_flush_interval_msec: Option<u32>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "KIB")]
    file_flush_min_size_kb: Option<u32>,
    /// Does nothing here: unknown fields are always refused
    #[arg(hide_short_help = true, long)]
    allow_unknown_static_fields: bool,
    /// Does nothing here: unknown fields are always refused
    #[arg(hide_short_help = true, long)]
    allow_unknown_fields: bool,
    /// Always so here
    #[arg(hide_short_help = true, long)]
    reject_unknown_dynamic_fields: bool,
    /// Does nothing here: unknown fields are always refused
    #[arg(hide_short_help = true, long)]
    ignore_unknown_dynamic_fields: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "NAME")]
    service_zone: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "VERSION", value_parser = ["v4", "v6"])]
    local_address_ip_version: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "STRATEGY", value_parser = ["gradual", "immediate"])]
    drain_strategy: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "SECONDS")]
    parent_shutdown_time_s: Option<u32>,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    disable_hot_restart: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "NUMBER")]
    base_id: Option<u32>,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    use_dynamic_base_id: bool,
    /// Refused: there is no base id to be written
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    base_id_path: Option<PathBuf>,
    /// Only 0: there is no hot restart
    #[arg(hide_short_help = true, long, value_name = "NUMBER")]
    restart_epoch: Option<u32>,
    /// Say that there is no hot restart, and end
    #[arg(hide_short_help = true, long)]
    pub(super) hot_restart_version: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    skip_hot_restart_on_no_parent: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    skip_hot_restart_parent_stats: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    socket_path: Option<PathBuf>,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    cpuset_threads: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    enable_mutex_tracing: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long)]
    enable_core_dump: bool,
    /// Does nothing here
    #[arg(hide_short_help = true, long, value_name = "TAG:VALUE")]
    stats_tag: Vec<String>,
    /// Refused: nothing listens there
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    admin_address_path: Option<PathBuf>,
    /// Refused: extensions cannot be switched off
    #[arg(hide_short_help = true, long, value_name = "NAME,…")]
    disable_extensions: Option<String>,
}

/// What a bootstrap says too.
const CONTROL: [&str; 4] = ["control", "labels", "address", "pod"];

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Mode {
    /// Serve.
    #[default]
    Serve,
    /// Check and end.
    Validate,
    /// Start, and end once everything is configured.
    #[value(name = "init_only")]
    InitOnly,
}

/// Envoy's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Trace,
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
    Critical,
    Off,
}

/// An argument that does nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// As it is written.
    pub(super) argument: &'static str,
    /// Why.
    pub(super) why: &'static str,
}

const NO_HOT_RESTART: &str = "there is no hot restart: start the successor beside its predecessor, then stop that";
const NO_UNKNOWN: &str =
    "fields that are not known are refused in any case: what is not understood may be what protects";
const OWN_LOG: &str = "the log about ourselves has a fixed form; RUST_LOG says more about single modules";

impl Args {
    /// Whether there is a bootstrap to start from.
    pub(super) fn has_bootstrap(&self) -> bool {
        self.config_path.is_some() || self.config_yaml.is_some()
    }

    /// Puts the node's name from the command line in place of the bootstrap's.
    pub(super) fn name(&self, node: &mut Node) {
        if let Some(id) = &self.service_node {
            node.id.clone_from(id);
        }
        if let Some(cluster) = &self.service_cluster {
            node.cluster.clone_from(cluster);
        }
    }

    /// Threads that serve connections.
    pub(super) fn workers(&self) -> Option<NonZeroUsize> {
        self.concurrency
            .map(|number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN))
    }

    /// How long open connections may finish.
    pub(super) fn drain(&self) -> Option<Duration> {
        self.drain_time_s.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// What is logged about ourselves.
    pub(super) fn level(&self) -> LevelFilter {
        match self.log_level {
            Some(Level::Trace) => LevelFilter::TRACE,
            Some(Level::Debug) => LevelFilter::DEBUG,
            Some(Level::Info) | None => LevelFilter::INFO,
            Some(Level::Warning) => LevelFilter::WARN,
            Some(Level::Error | Level::Critical) => LevelFilter::ERROR,
            Some(Level::Off) => LevelFilter::OFF,
        }
    }

    /// Refuses what would be relied on in vain.
    ///
    /// # Errors
    /// Says what to do instead.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        if self.restart_epoch.is_some_and(|epoch| epoch > 0) {
            bail!("--restart-epoch: {NO_HOT_RESTART}; leave it out");
        }
        if self.base_id_path.is_some() {
            bail!("--base-id-path: {NO_HOT_RESTART}; no base id will be written, leave it out");
        }
        if self.admin_address_path.is_some() {
            bail!(
                "--admin-address-path: there is no admin interface, so its address will not be written; leave it out"
            );
        }
        if self.disable_extensions.is_some() {
            bail!(
                "--disable-extensions: extensions cannot be switched off; docs/xds-lite.md lists the few there are, all others \
                 are refused by name; leave it out"
            );
        }
        Ok(())
    }

    /// What was given and does nothing here, with the reason.
    pub(super) fn notes(&self) -> Vec<Note> {
        let hot_restart = [
            (self.parent_shutdown_time_s.is_some(), "--parent-shutdown-time-s"),
            (self.base_id.is_some(), "--base-id"),
            (self.use_dynamic_base_id, "--use-dynamic-base-id"),
            (self.skip_hot_restart_on_no_parent, "--skip-hot-restart-on-no-parent"),
            (self.skip_hot_restart_parent_stats, "--skip-hot-restart-parent-stats"),
            (self.socket_path.is_some(), "--socket-path"),
            (self.socket_mode.is_some(), "--socket-mode"),
        ];
        let unknown = [
            (self.allow_unknown_static_fields, "--allow-unknown-static-fields"),
            (self.allow_unknown_fields, "--allow-unknown-fields"),
            (self.ignore_unknown_dynamic_fields, "--ignore-unknown-dynamic-fields"),
        ];
        let log = [
            (self.component_log_level.is_some(), "--component-log-level"),
            (self.log_format.is_some(), "--log-format"),
            (self.log_format_escaped, "--log-format-escaped"),
            (self.log_stacktrace_single_entry, "--log-stacktrace-single-entry"),
            (self.enable_fine_grain_logging, "--enable-fine-grain-logging"),
        ];
        let because = |why| move |(given, argument): (bool, _)| given.then_some(Note { argument, why });
        hot_restart
            .into_iter()
            .filter_map(because(NO_HOT_RESTART))
            .chain(unknown.into_iter().filter_map(because(NO_UNKNOWN)))
            .chain(log.into_iter().filter_map(because(OWN_LOG)))
            .chain(self.single_notes())
            .collect()
    }

    /// Those with a reason of their own. `--disable-hot-restart`, `--reject-unknown-dynamic-fields`, `--skip-deprecated-logs`
    /// and `--cpuset-threads` ask for what is so anyway.
    fn single_notes(&self) -> impl Iterator<Item = Note> {
        [
            (
                self.file_flush_interval_msec.is_some(),
                "--file-flush-interval-msec",
                "access logs are flushed at a short interval of their own",
            ),
            (
                self.file_flush_min_size_kb.is_some(),
                "--file-flush-min-size-kb",
                "access logs are flushed at a short interval of their own",
            ),
            (
                self.service_zone.is_some(),
                "--service-zone",
                "balancing does not look at localities",
            ),
            (
                self.local_address_ip_version.is_some(),
                "--local-address-ip-version",
                "nothing is derived from an address of this machine: listeners and the node say theirs",
            ),
            (
                self.drain_strategy.is_some(),
                "--drain-strategy",
                "connections are asked to end at once and may finish until the drain time is over",
            ),
            (
                self.enable_mutex_tracing,
                "--enable-mutex-tracing",
                "workers share no locks to be traced",
            ),
            (
                self.enable_core_dump,
                "--enable-core-dump",
                "the system's limits decide: ulimit -c",
            ),
            (
                !self.stats_tag.is_empty(),
                "--stats-tag",
                "metrics have fixed labels: add others where they are collected",
            ),
        ]
        .into_iter()
        .filter_map(|(given, argument, why)| given.then_some(Note { argument, why }))
    }
}

/// Levels of Envoy's components, for their form.
fn component_levels(text: &str) -> Result<String, String> {
    let named = |pair: &str| {
        pair.split_once(':')
            .is_some_and(|(name, level)| !name.is_empty() && Level::from_str(level, false).is_ok())
    };
    match text.split(',').all(named) {
        true => Ok(text.to_owned()),
        false => Err("expected component:level, such as upstream:debug,config:trace".to_owned()),
    }
}
