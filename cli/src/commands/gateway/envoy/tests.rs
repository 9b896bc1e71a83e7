//! Envoy's own list of arguments, and what becomes of each.

use clap::{CommandFactory, Parser};

use super::*;
use crate::commands::gateway;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    gateway: gateway::Args,
}

fn parse(line: &str) -> Result<Args, String> {
    let words = ["gateway"].into_iter().chain(line.split_whitespace());
    let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    Ok(parsed.gateway.envoy)
}

fn noted(line: &str) -> Vec<&'static str> {
    parse(line).unwrap().notes().iter().map(|note| note.argument).collect()
}

/// All of `envoy --help`, version 1.40, but for --version, --help and --ignore_rest.
const ALL: &[&str] = &[
    "stats-tag",
    "enable-core-dump",
    "socket-mode",
    "socket-path",
    "disable-extensions",
    "cpuset-threads",
    "enable-mutex-tracing",
    "disable-hot-restart",
    "mode",
    "parent-shutdown-time-s",
    "drain-strategy",
    "drain-time-s",
    "file-flush-min-size-kb",
    "file-flush-interval-msec",
    "service-zone",
    "service-node",
    "service-cluster",
    "hot-restart-version",
    "restart-epoch",
    "log-path",
    "enable-fine-grain-logging",
    "log-format-escaped",
    "log-format",
    "component-log-level",
    "log-level",
    "local-address-ip-version",
    "admin-address-path",
    "log-stacktrace-single-entry",
    "skip-deprecated-logs",
    "ignore-unknown-dynamic-fields",
    "reject-unknown-dynamic-fields",
    "allow-unknown-static-fields",
    "allow-unknown-fields",
    "config-yaml",
    "config-path",
    "concurrency",
    "base-id-path",
    "skip-hot-restart-parent-stats",
    "skip-hot-restart-on-no-parent",
    "use-dynamic-base-id",
    "base-id",
];

#[test]
fn every_argument_of_envoy_is_known_and_no_other_is_called_its() {
    let command = Line::command();
    let under_heading = |arg: &&clap::Arg| arg.get_help_heading() == Some("Arguments of Envoy");
    let ours: Vec<_> = command
        .get_arguments()
        .filter(under_heading)
        .filter_map(clap::Arg::get_long)
        .collect();
    for argument in ALL {
        assert!(ours.contains(argument), "--{argument}");
    }
    assert_eq!(ours.len(), ALL.len());
}

#[test]
fn what_istio_s_agent_passes_is_understood() {
    let line = "-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
        --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart \
        --allow-unknown-static-fields -l warning --component-log-level misc:error --concurrency 2 \
        --log-format %Y-%m-%dT%T.%fZ --skip-deprecated-logs --service-node n --service-cluster c";
    let args = parse(line).unwrap();
    assert!(args.refuse().is_ok() && args.has_bootstrap());
    assert_eq!(
        (args.workers().unwrap().get(), args.drain()),
        (2, Some(Duration::from_secs(45)))
    );
    assert_eq!(args.level(), LevelFilter::WARN);
    let mut node = Node {
        id: "file's".to_owned(),
        ..Node::default()
    };
    args.name(&mut node);
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("n", "c"));
    let expected = [
        "--allow-unknown-static-fields",
        "--component-log-level",
        "--log-format",
        "--file-flush-interval-msec",
        "--local-address-ip-version",
        "--drain-strategy",
    ];
    assert_eq!(noted(line), expected);
}

#[test]
fn what_is_so_anyway_needs_no_note() {
    let line = "-c x --disable-hot-restart --reject-unknown-dynamic-fields --skip-deprecated-logs --cpuset-threads \
        --restart-epoch 0";
    assert_eq!(noted(line), Vec::<&str>::new());
    assert_eq!(
        parse("-c x --concurrency 0").unwrap().workers(),
        Some(NonZeroUsize::MIN)
    );
}

#[test]
fn what_would_be_relied_on_in_vain_is_refused() {
    for (line, expect) in [
        ("--restart-epoch 1", "hot restart"),
        ("--base-id-path x", "base id"),
        ("--admin-address-path x", "admin"),
        (
            "--disable-extensions envoy.filters.http.router",
            "cannot be switched off",
        ),
    ] {
        let error = parse(line).unwrap().refuse().unwrap_err().to_string();
        assert!(
            error.starts_with(line.split(' ').next().unwrap()) && error.contains(expect),
            "{error}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "--mode nonsense",
        "-l nonsense",
        "--component-log-level misc",
        "--component-log-level misc:loud",
        "--drain-strategy slow",
        "--local-address-ip-version v5",
        "--concurrency x",
        "-c x --control http://127.0.0.1:1",
        "--config-yaml {} --labels a=b",
        "--concurrency 1 --workers 1",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}
