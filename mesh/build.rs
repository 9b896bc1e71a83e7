//! Takes from the envoy-types package the descriptors of the messages we speak, for canonical protobuf JSON.
//!
//! The package carries a descriptor set of all of Envoy but does not export it, so it is found through `cargo metadata`.
//! What is kept are the files below and what they import, without comments: a tenth of the whole.

use std::{collections::HashMap, env, error::Error, fs, path::PathBuf, process::Command};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Files whose messages we read or write; a test compares with the table of supported messages.
const ROOTS: &[&str] = &[
    "envoy/admin/v3/config_dump.proto",
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/bootstrap/internal_listener/v3/internal_listener.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let whole = FileDescriptorSet::decode(fs::read(descriptor_set()?)?.as_slice())?;
    let kept = closure(whole)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, kept.encode_to_vec())?;
    Ok(())
}

/// The descriptor set inside the one envoy-types package of this build.
fn descriptor_set() -> Result<PathBuf, Box<dyn Error>> {
    let metadata = metadata(&["--offline"]).or_else(|_| metadata(&[]))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    let found: Vec<_> = packages
        .iter()
        .filter(|package| package["name"] == "envoy-types")
        .collect();
    let [package] = found[..] else {
        return Err(format!("expected one envoy-types package, found {}", found.len()).into());
    };
    let manifest = package["manifest_path"]
        .as_str()
        .ok_or("a package without manifest_path")?;
    Ok(PathBuf::from(manifest)
        .with_file_name("src")
        .join("generated/types.bin"))
}

fn metadata(more: &[&str]) -> Result<serde_json::Value, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version=1",
            "--filter-platform",
            &env::var("TARGET")?,
        ])
        .args(more)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The roots and everything they import, imports first.
fn closure(whole: FileDescriptorSet) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut files: HashMap<String, FileDescriptorProto> = whole
        .file
        .into_iter()
        .map(|file| (file.name().to_owned(), file))
        .collect();
    let mut kept = FileDescriptorSet::default();
    for root in ROOTS {
        if !files.contains_key(*root) && !kept.file.iter().any(|file| file.name() == *root) {
            return Err(format!("envoy-types has no {root}").into());
        }
        keep(root, &mut files, &mut kept);
    }
    Ok(kept)
}

fn keep(name: &str, files: &mut HashMap<String, FileDescriptorProto>, kept: &mut FileDescriptorSet) {
    let Some(mut file) = files.remove(name) else { return };
    for import in &file.dependency {
        keep(import, files, kept);
    }
    file.source_code_info = None;
    kept.file.push(file);
}
