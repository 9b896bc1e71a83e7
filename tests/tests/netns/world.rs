//! Every part of the tutorial as a process of its own, each in its namespace and started as an operator would.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use sallyport::{
    demo::claim::{Caller, Claim, Credentials, Evidence, Team},
    lab::{
        client::{Call, Failure, Reply},
        cluster, manifests,
    },
};

use crate::{
    credentials, curl,
    network::{CONTROL, Network, Place},
    outside::{self, Outside},
    process::Process,
};

/// The user of everything that is part of the mesh; capture leaves its connections alone.
pub(crate) const PROXY_USER: u32 = 1337;
/// The user of applications.
pub(crate) const APPLICATION_USER: u32 = 1000;
/// The sidecars' explicit proxy, on their pods' loopback.
pub(crate) const EXPLICIT_PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 15080);
const CONTROL_PORT: u16 = 15012;

/// The mesh and what surrounds it. Processes end before their namespaces, and those before the files.
pub(crate) struct World {
    gateway: Process,
    team_x: Process,
    team_y: Process,
    control: Process,
    network: Network,
    outside: Outside,
}

impl World {
    /// Starts everything and waits until every proxy is served by control.
    pub(crate) fn build() -> Self {
        let network = Network::build();
        let outside = Outside::start(&network);
        let program = outside::program(&outside.path(""));
        let config = outside.path("config");
        fs::create_dir(&config).unwrap();
        credentials::create(&program, &outside.path("mesh"));
        for pod in [Place::TeamX, Place::TeamY] {
            network.must(pod, &format!("{} sidecar capture apply", program.display()));
        }
        let start = Start {
            network: &network,
            outside: &outside,
            program: &program,
        };
        let control = start.control(&config);
        let gateway_labels = "app=istio-egressgateway,istio=egressgateway";
        Self {
            gateway: start.proxy("gateway", Place::Gateway, &["gateway", "--labels", gateway_labels]),
            team_x: start.sidecar("team-x", Place::TeamX),
            team_y: start.sidecar("team-y", Place::TeamY),
            control,
            network,
            outside,
        }
    }

    /// Writes a chapter's files and waits until every proxy runs what follows from them.
    pub(crate) fn apply(&mut self, files: &[&str]) {
        let config = self.outside.path("config");
        for file in files {
            manifests::find(file).unwrap().write(&config).unwrap();
        }
        if files.is_empty() {
            return;
        }
        let objects = control::istio::load(&config).objects.len();
        let live = format!("objects={objects} proxies=3");
        self.control.await_line("acknowledgement by three proxies", |line| {
            line.contains("every proxy runs what is in force") && line.contains(&live)
        });
    }

    /// Makes a claim's calls and collects what they leave behind.
    pub(crate) fn observe(&mut self, claim: &Claim) -> Evidence {
        let host = claim.call.host().unwrap();
        if claim.impostor {
            self.outside.change_scene("impostor", host);
        }
        let replies = (0..claim.times).map(|_| self.call(claim)).collect();
        if claim.impostor {
            self.outside.change_scene("genuine", host);
        }
        let sidecar = match claim.caller {
            Caller::App(Team::X) => Some(&mut self.team_x),
            Caller::App(Team::Y) => Some(&mut self.team_y),
            Caller::Uncaptured(_) | Caller::Direct(_) => None,
        };
        let arrivals = if claim.arrives { claim.times } else { 0 };
        Evidence {
            replies,
            arrived: self.outside.sites.out.take_when(arrivals).len() as u64,
            sidecar: sidecar.map_or_else(Vec::new, |proxy| proxy.out.take_when(claim.sidecar.lines(claim.times))),
            gateway: self.gateway.out.take_when(claim.gateway.lines(claim.times)),
        }
    }

    /// Takes capture away again; returns what is left of it.
    pub(crate) fn release(&self) -> String {
        let program = self.outside.path("sallyport");
        let pods = [Place::TeamX, Place::TeamY];
        let rules = pods.map(|pod| {
            self.network
                .must(pod, &format!("{} sidecar capture remove", program.display()));
            self.network.must(pod, "iptables-save") + &self.network.must(pod, "ip6tables-save")
        });
        let rules = rules.concat();
        rules.lines().filter(|line| line.contains("SALLYPORT")).collect()
    }

    /// Ends the proxies in order; returns the log lines and requests that nobody has accounted for.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let lines = [
            self.team_x.stop(),
            self.team_y.stop(),
            self.gateway.stop(),
            self.outside.sites.out.take(),
        ];
        lines.concat()
    }

    /// What the processes have said about themselves.
    pub(crate) fn said(&self) -> String {
        let processes = [
            &self.outside.sites,
            &self.control,
            &self.gateway,
            &self.team_x,
            &self.team_y,
        ];
        processes.map(Process::said).concat()
    }

    fn call(&self, claim: &Claim) -> Result<Reply, Failure> {
        let place = |team| match team {
            Team::X => Place::TeamX,
            Team::Y => Place::TeamY,
        };
        let (user, place) = match claim.caller {
            Caller::App(team) => (APPLICATION_USER, place(team)),
            Caller::Uncaptured(team) => (PROXY_USER, place(team)),
            Caller::Direct(_) => (PROXY_USER, Place::TeamX),
        };
        let mut curl = self.outside.curl(&self.network, user, place);
        match claim.caller {
            Caller::Direct(credentials) => self.direct(&mut curl, credentials, &claim.call),
            Caller::App(_) | Caller::Uncaptured(_) => {
                curl.args(claim.call.arguments());
            }
        }
        curl::run(curl)
    }

    /// Straight to the gateway's mTLS port, around the sidecar.
    fn direct(&self, curl: &mut Command, credentials: Credentials, call: &Call) {
        let call = call.clone().connect_to(SocketAddr::new(cluster::GATEWAY, 8080));
        let mut arguments = call.arguments();
        let member = match credentials {
            Credentials::Plaintext => {
                curl.args(arguments);
                return;
            }
            Credentials::Nothing => None,
            Credentials::ForeignMesh => Some(credentials::STRANGER),
            Credentials::Member(Team::X) => Some("team-x"),
            Credentials::Member(Team::Y) => Some("team-y"),
        };
        if let Some(url) = arguments.last_mut() {
            *url = url.replacen("http://", "https://", 1);
        }
        // The gateway has a SPIFFE ID, which curl cannot check; whom the gateway admits is what matters here.
        curl.args(["--insecure", "--http1.1"]).args(arguments);
        if let Some(member) = member {
            let directory = self.outside.path("mesh").join(member);
            curl.arg("--cert").arg(directory.join("cert-chain.pem"));
            curl.arg("--key").arg(directory.join("key.pem"));
        }
    }
}

/// How the parts of the mesh are started.
struct Start<'a> {
    network: &'a Network,
    outside: &'a Outside,
    program: &'a Path,
}

impl Start<'_> {
    fn control(&self, config: &Path) -> Process {
        let mut command = self.network.command_as(PROXY_USER, Place::Router, self.program);
        command
            .args(["control", "--listen", &format!("{CONTROL}:{CONTROL_PORT}"), "--config"])
            .arg(config);
        command.arg("--identity").arg(self.outside.path("mesh/control"));
        let mut control = Process::start("control", command);
        control.await_line("readiness", |line| line.contains("serving"));
        control
    }

    fn sidecar(&self, name: &'static str, place: Place) -> Process {
        let port = EXPLICIT_PROXY.1.to_string();
        self.proxy(name, place, &["sidecar", "--labels", "app=test", "--proxy-port", &port])
    }

    fn proxy(&self, name: &'static str, place: Place, what: &[&str]) -> Process {
        let mut command = self.network.command_as(PROXY_USER, place, self.program);
        command.args(what).args(["--pod", name, "--drain", "5s"]);
        command.args(["--address", &place.address().unwrap().to_string()]);
        command.args(["--control", &format!("https://{CONTROL}:{CONTROL_PORT}")]);
        command.arg("--identity").arg(self.outside.path("mesh").join(name));
        command.arg("--system-roots").arg(self.outside.path("outside-root.pem"));
        let mut proxy = Process::start(name, command);
        proxy.await_line("its first configuration", |line| {
            line.contains("configured and serving")
        });
        proxy
    }
}
