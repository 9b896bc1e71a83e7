//! `sallyport bootstrap`: the file that an Envoy, or our gateway, starts from.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use ::certs::files::{CERT_CHAIN, KEY, ROOT_CERT};
use ::control::{
    applied::Applied, compile::compile, istio::load, mesh_config::MeshConfig, node::Node as Asking, world::World,
};
use anyhow::{Context as _, ensure};
use mesh::{
    bundle::Bundle,
    cluster::EndpointAddress,
    host::Host,
    id::SpiffeId,
    xds::{
        ads,
        bootstrap::Node,
        proxy::{Interception, Pod, Role},
        render::{ControlPlane, Files, Proxy, Secrets, fixed, following},
    },
};

use super::{
    mesh as mesh_args,
    proxy::{Server, label, member::socket, spiffe_id},
};

const EXAMPLES: &str = "\
The file is JSON, which is YAML as well, for `envoy -c` and for `sallyport gateway -c`. It names files and never holds a key.

Examples:
  # an Envoy as the tutorial's egress gateway, beside `sallyport control --plaintext` and an agent
  sallyport certs agent --identity egress --socket sds
  sallyport bootstrap --control http://127.0.0.1:15010 --sds unix:sds \\
      --node router~127.0.0.1~egress.istio-egress~istio-egress.svc.cluster.local \\
      --labels app=istio-egressgateway,istio=egressgateway

  # the same gateway with everything in the file: nobody is asked, nothing changes
  sallyport bootstrap --config examples/tutorial --identity egress \\
      --node router~127.0.0.1~egress.istio-egress~istio-egress.svc.cluster.local \\
      --labels app=istio-egressgateway,istio=egressgateway";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(skip)]
pub(super) struct Args {
    /// Who the proxy is: ROLE~IP~POD.NAMESPACE~NAMESPACE.svc.cluster.local, where ROLE is router or sidecar
    #[arg(long, value_name = "ID")]
    node: String,
    /// Labels of its pod, which selectors match
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Service account of its pod, which its certificate must carry [default: any]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service_account: String,
    /// A sidecar's explicit proxy: its loopback port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    proxy_port: Option<u16>,
    /// A sidecar does not serve redirected connections
    #[arg(long, requires = "proxy_port")]
    no_capture: bool,
    /// Write the whole configuration that follows from the resources in this directory
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "control",
        conflicts_with = "control"
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    mesh: mesh_args::Args,
    /// Follow a control plane instead: https://HOST:PORT (mutual TLS) or http://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = Server::parse)]
    control: Option<Server>,
    /// Who the control plane must be, as its certificate says
    #[arg(long, value_name = "SPIFFE ID", default_value = "spiffe://cluster.local/ns/istio-system/sa/istiod", value_parser = spiffe_id)]
    control_identity: SpiffeId,
    /// Follow by the state of the world, not by changes
    #[arg(long, requires = "control")]
    state_of_the_world: bool,
    /// Take certificates and roots from an agent that serves them over SDS: unix:PATH, the socket of `sallyport certs agent`
    #[arg(
        long,
        value_name = "unix:PATH",
        value_parser = socket,
        required_unless_present = "identity",
        conflicts_with = "identity"
    )]
    sds: Option<String>,
    /// Take them from cert-chain.pem, key.pem and root-cert.pem of this directory
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// PEM file with the roots that sites outside are verified against, with --identity
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    system_roots: PathBuf,
    /// Where Envoy's admin interface listens [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Name servers [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',')]
    dns: Vec<SocketAddr>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let node = args.node()?;
    let document = match (&args.config, &args.control) {
        (Some(config), _) => {
            let bundle = bundle(config, &args.mesh.read()?, &node)?;
            fixed(&args.proxy(node)?, &bundle)?
        }
        (None, Some(server)) => following(&args.proxy(node)?, &args.control_plane(server)?)?,
        (None, None) => anyhow::bail!("give --config or --control"),
    };
    writeln!(out, "{document:#}")?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The node with what the flags add to its id.
    fn node(&self) -> anyhow::Result<Node> {
        let described = asking(&Node {
            id: self.node.clone(),
            ..Node::default()
        })?;
        let pod = self.node.split('~').nth(2).unwrap_or_default();
        let address: IpAddr = *described.ips.first().context("--node has no address")?;
        let pod = Pod {
            name: pod.split('.').next().unwrap_or_default().to_owned(),
            namespace: described.namespace,
            service_account: self.service_account.clone(),
            labels: self.labels.iter().cloned().collect(),
            address,
        };
        let role = match described.role {
            ::control::node::Role::Gateway => Role::Gateway,
            ::control::node::Role::Sidecar => Role::Sidecar {
                interception: if self.no_capture {
                    Interception::None
                } else {
                    Interception::Redirect
                },
                http_proxy_port: self.proxy_port,
            },
        };
        Ok(Node {
            id: self.node.clone(),
            ..pod.node(role)
        })
    }

    fn proxy(&self, node: Node) -> anyhow::Result<Proxy> {
        let secrets = match (&self.sds, &self.identity) {
            (Some(socket), _) => Secrets::Agent(socket.trim_start_matches("unix:").into()),
            (None, Some(directory)) => Secrets::Files(Files {
                chain: directory.join(CERT_CHAIN),
                key: directory.join(KEY),
                roots: directory.join(ROOT_CERT),
                system_roots: self.system_roots.clone(),
            }),
            (None, None) => anyhow::bail!("give --sds or --identity"),
        };
        Ok(Proxy {
            node,
            admin: self.admin,
            resolvers: self.dns.clone(),
            secrets,
        })
    }

    fn control_plane(&self, server: &Server) -> anyhow::Result<ControlPlane> {
        Ok(ControlPlane {
            address: address(&server.address)?,
            identity: server.tls.then(|| self.control_identity.clone()),
            delta: !self.state_of_the_world,
        })
    }
}

/// `host:port`, where the host may be an address.
fn address(text: &str) -> anyhow::Result<EndpointAddress> {
    if let Ok(address) = text.parse() {
        return Ok(EndpointAddress::Socket(address));
    }
    let (host, port) = text.rsplit_once(':').context("--control has no port")?;
    let host = Host::parse(host).with_context(|| format!("--control: {host:?}"))?;
    Ok(EndpointAddress::Name(host, port.parse()?))
}

/// What control would serve. Whatever it would withhold is an error here: a file has no last good version.
fn bundle(config: &Path, mesh: &MeshConfig, node: &Node) -> anyhow::Result<Bundle> {
    ensure!(config.exists(), "{}: no such file or directory", config.display());
    let applied = Applied::default().advance(load(config), &mesh.root_namespace);
    let (bundle, notes) = compile(&World::new(&applied.objects), mesh, &asking(node)?);
    let mut wrong = applied
        .diagnostics
        .iter()
        .chain(&notes)
        .filter(|found| found.is_error());
    if let Some(wrong) = wrong.next() {
        anyhow::bail!("{wrong}; see sallyport analyze {}", config.display());
    }
    Ok(bundle)
}

fn asking(node: &Node) -> anyhow::Result<Asking> {
    let asking = Asking::parse(&ads::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        metadata: Some(ads::struct_of(&node.metadata)),
        ..ads::Node::default()
    });
    asking.context("--node")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    const ROUTER: &str = "router~10.1.4.12~egress.istio-egress~istio-egress.svc.cluster.local";

    fn written(flags: &[&str]) -> anyhow::Result<Value> {
        let command = Command::try_parse_from(["bootstrap", "--node"].iter().chain(flags))?;
        let mut out = Vec::new();
        run(&command.args, &mut out)?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    fn tutorial() -> String {
        format!("{}/../examples/tutorial", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn everything_is_in_the_file_of_the_proxy_that_selectors_choose() {
        let labels = [
            "--labels",
            "istio=egressgateway",
            "--identity",
            "/certs",
            "--config",
            &tutorial(),
        ];
        let document = written(&[&[ROUTER], labels.as_slice()].concat()).unwrap();
        let listeners = document["static_resources"]["listeners"].as_array().unwrap();
        assert_eq!(listeners.len(), 2, "{document:#}");
        let secrets = document["static_resources"]["secrets"].as_array().unwrap();
        assert!(
            secrets
                .iter()
                .any(|secret| secret["tls_certificate"]["private_key"]["filename"] == "/certs/key.pem")
        );
        assert_eq!(document["node"]["metadata"]["LABELS"]["istio"], "egressgateway");
        let unselected = written(&[ROUTER, "--identity", "/certs", "--config", &tutorial()]).unwrap();
        assert_eq!(unselected["static_resources"]["listeners"], serde_json::json!([]));
    }

    #[test]
    fn a_control_plane_is_followed_over_tls_only_if_its_url_says_so() {
        let agent = ["--sds", "unix:/run/sds", "--control"];
        let tls = written(&[&[ROUTER], agent.as_slice(), &["https://istiod.istio-system:15012"]].concat()).unwrap();
        let plain = written(&[&[ROUTER], agent.as_slice(), &["http://127.0.0.1:15010"]].concat()).unwrap();
        let socket = |document: &Value| {
            document["static_resources"]["clusters"][0]
                .get("transport_socket")
                .is_some()
        };
        assert!(socket(&tls) && !socket(&plain));
        assert_eq!(tls["dynamic_resources"]["ads_config"]["api_type"], "DELTA_GRPC");
        let agent = &plain["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
        assert_eq!(agent["endpoint"]["address"]["pipe"]["path"], "/run/sds");
    }

    #[test]
    fn what_control_would_withhold_is_not_written() {
        let broken = format!("{}/../examples/broken/bad-port.yaml", env!("CARGO_MANIFEST_DIR"));
        let error = written(&[ROUTER, "--identity", "/certs", "--config", &broken])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("bad-port.yaml") && error.contains("sallyport analyze"),
            "{error}"
        );
        let error = written(&["router~x", "--identity", "/certs", "--config", &tutorial()]).unwrap_err();
        assert!(format!("{error:#}").contains("--node: node id"), "{error:#}");
    }
}
