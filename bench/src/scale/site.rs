//! A directory of resources with many hosts: a ServiceEntry and a VirtualService for each.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Hosts in one file, as teams would keep them.
const PER_FILE: usize = 10;

/// Where everything is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The gateway listens here.
    pub(crate) gateway: u16,
    /// Every host is here.
    pub(crate) upstream: u16,
}

/// The name of a host.
pub(crate) fn host(number: usize) -> String {
    format!("host-{number}.test")
}

/// Writes the resources of `hosts` hosts.
pub(crate) fn write(directory: &Path, hosts: usize, ports: Ports) -> anyhow::Result<()> {
    put(&directory.join("gateway.yaml"), &gateway(ports.gateway))?;
    for file in 0..hosts.div_ceil(PER_FILE) {
        let numbers = file * PER_FILE..hosts.min((file + 1) * PER_FILE);
        let text: String = numbers.map(|number| of_host(number, 0, ports)).collect();
        put(&directory.join(format!("hosts-{file}.yaml")), &text)?;
    }
    Ok(())
}

/// Changes one host: its responses say `revision` in a header. The file is replaced, as an editor or `kubectl` would.
pub(crate) fn change(
    directory: &Path,
    number: usize,
    hosts: usize,
    revision: usize,
    ports: Ports,
) -> anyhow::Result<()> {
    let file = number / PER_FILE;
    let numbers = file * PER_FILE..hosts.min((file + 1) * PER_FILE);
    let revised = |other| if other == number { revision } else { 0 };
    let text: String = numbers.map(|other| of_host(other, revised(other), ports)).collect();
    put(&directory.join(format!("hosts-{file}.yaml")), &text)
}

fn put(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| file.display().to_string())
}

/// HTTP as it is, since nothing but configuration is looked at.
fn gateway(port: u16) -> String {
    format!(
        r#"apiVersion: v1
kind: Namespace
metadata: {{name: istio-egress}}
---
apiVersion: v1
kind: Service
metadata: {{name: gateway, namespace: istio-egress}}
spec:
  selector: {{app: gateway}}
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress, namespace: istio-egress}}
spec:
  selector: {{app: gateway}}
  servers: [{{hosts: ["*"], port: {{number: 80, name: http, protocol: HTTP}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: all, namespace: istio-egress}}
spec: {{rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]}}
"#
    )
}

fn of_host(number: usize, revision: usize, ports: Ports) -> String {
    let (host, upstream) = (host(number), ports.upstream);
    format!(
        r"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: host-{number}, namespace: istio-egress}}
spec:
  hosts: [{host}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {upstream}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: host-{number}, namespace: istio-egress}}
spec:
  hosts: [{host}]
  gateways: [egress]
  http:
  - headers: {{response: {{set: {{x-revision: '{revision}'}}}}}}
    route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]
"
    )
}
