//! The tutorial's network made of network namespaces: pods, a router with the firewall, and the outside, joined by veth pairs.
//!
//! Everything it makes carries the process id in its name and is gone when it is dropped; nothing outside these namespaces is
//! touched, but for `/etc/netns/<namespace>`, where `ip netns exec` looks for a namespace's own `resolv.conf`.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;

use super::process;
use crate::lab::cluster;

/// A place of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The pod of team-x.
    TeamX,
    /// The pod of team-y.
    TeamY,
    /// The pod of the egress gateway.
    Gateway,
    /// Where the web sites are.
    Outside,
    /// What joins them all; also where the cluster's own services are.
    Router,
}

/// Where control listens, in the router's namespace.
pub(super) const CONTROL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 11));
/// Where the name server listens, in the router's namespace.
pub(super) const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 10));

/// The addresses outside that are reached over the outside's wire.
const SITES: [&str; 4] = ["93.184.216.34", "203.0.113.80", "199.36.153.8", "169.254.169.254"];

/// The tutorial's rules for connections between namespaces. Everything else is dropped, after the caller has been told, so that
/// nobody waits.
const FIREWALL: [&str; 7] = [
    "-P FORWARD DROP",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-A FORWARD -s 10.1.0.0/16 -d 10.1.0.0/16 -j ACCEPT",
    "-A FORWARD -s 10.1.4.0/24 -p tcp -m multiport --dports 80,443 -j ACCEPT",
    "-A FORWARD -s 10.1.0.0/16 -d 199.36.153.8/30 -p tcp -j ACCEPT",
    "-A FORWARD -s 10.1.0.0/16 -d 169.254.169.254/32 -p tcp -j ACCEPT",
    "-A FORWARD -j REJECT --reject-with icmp-admin-prohibited",
];

/// What the network and its users need, and what brings it.
const TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("iptables", "iptables"),
    ("setpriv", "util-linux"),
    ("timeout", "coreutils"),
    ("curl", "curl"),
];

/// `/etc/netns` comes with the first network and goes with the last; there may be several at the same time.
static ETC: Mutex<()> = Mutex::new(());

/// The network; taken down when dropped.
pub struct Network {
    prefix: String,
}

impl Place {
    const ALL: [Self; 5] = [Self::TeamX, Self::TeamY, Self::Gateway, Self::Outside, Self::Router];

    fn suffix(self) -> &'static str {
        match self {
            Self::TeamX => "x",
            Self::TeamY => "y",
            Self::Gateway => "g",
            Self::Outside => "o",
            Self::Router => "r",
        }
    }

    /// The address on the wire to the router; the router itself has none.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::TeamX => Some(cluster::TEAM_X),
            Self::TeamY => Some(cluster::TEAM_Y),
            Self::Gateway => Some(cluster::GATEWAY),
            Self::Outside => Some(IpAddr::from([192, 0, 2, 2])),
            Self::Router => None,
        }
    }
}

impl Network {
    /// Why this machine cannot have the network, and what to do about it.
    pub fn missing() -> Option<String> {
        for (tool, package) in TOOLS {
            if Command::new(tool).arg("--version").output().is_err() {
                return Some(format!("{tool} is not installed: apt-get install {package}"));
            }
        }
        let probe = Self::new();
        if let Err(error) = probe.add(Place::Router) {
            return Some(format!(
                "network namespaces need root (sudo) and CAP_SYS_ADMIN: {error:#}"
            ));
        }
        let rules = [
            "-t nat -A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 1",
            "-A FORWARD -p tcp -m multiport --dports 1,2 -j REJECT --reject-with icmp-admin-prohibited",
            "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        ];
        let refused = rules
            .into_iter()
            .find_map(|rule| probe.run(Place::Router, &format!("iptables {rule}")).err());
        refused.map(|error| format!("the kernel lacks netfilter modules (nat, owner, conntrack, multiport): {error:#}"))
    }

    /// Builds the network.
    ///
    /// # Errors
    /// The machine cannot have it; [`Network::missing`] says why, and what to do about it.
    pub fn build() -> anyhow::Result<Self> {
        let network = Self::new();
        for place in Place::ALL {
            network.add(place)?;
        }
        for place in Place::ALL {
            network.join(place)?;
        }
        for address in [CONTROL, NAME_SERVER] {
            network.run(Place::Router, &format!("ip addr add {address}/32 dev lo"))?;
        }
        network.run(Place::Router, "sysctl -q -w net.ipv4.ip_forward=1")?;
        for rule in FIREWALL {
            network.run(Place::Router, &format!("iptables -w {rule}"))?;
        }
        Ok(network)
    }

    /// A command to be run in a namespace.
    pub fn command(&self, place: Place, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(place)]).arg(program);
        command
    }

    /// The same as another user, in the group of the same number.
    pub fn command_as(&self, user: u32, place: Place, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(place, "setpriv");
        command.args(identity(user)).arg(program);
        command
    }

    /// Runs a command, words between single spaces, to its end and returns what it writes.
    ///
    /// # Errors
    /// It fails, and says why.
    pub fn run(&self, place: Place, command: &str) -> anyhow::Result<String> {
        let mut words = command.split(' ');
        let mut command = self.command(place, words.next().unwrap_or_default());
        command.args(words);
        process::run(&command)
    }

    /// A name that no other network of this machine has.
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("sallyport-{}-{count}", std::process::id()),
        }
    }

    fn name(&self, place: Place) -> String {
        format!("{}-{}", self.prefix, place.suffix())
    }

    /// A namespace with its own name server, as `ip netns exec` knows to mount.
    fn add(&self, place: Place) -> anyhow::Result<()> {
        let name = self.name(place);
        let mut add = Command::new("ip");
        add.args(["netns", "add", &name]);
        process::run(&add)?;
        self.run(place, "ip link set lo up")?;
        let directory = etc(&name);
        let _alone = ETC.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(directory.join("resolv.conf"), format!("nameserver {NAME_SERVER}\n")))
            .with_context(|| directory.display().to_string())
    }

    /// Lays the wire to the router.
    fn join(&self, place: Place) -> anyhow::Result<()> {
        let Some(IpAddr::V4(address)) = place.address() else {
            return Ok(());
        };
        let [a, b, c, _] = address.octets();
        let (near, far, next) = ("eth0", format!("to-{}", place.suffix()), format!("{a}.{b}.{c}.1"));
        let other = self.name(Place::Router);
        self.run(
            place,
            &format!("ip link add {near} type veth peer name {far} netns {other}"),
        )?;
        self.run(place, &format!("ip addr add {address}/24 dev {near}"))?;
        self.run(place, &format!("ip link set {near} up"))?;
        self.run(Place::Router, &format!("ip addr add {next}/24 dev {far}"))?;
        self.run(Place::Router, &format!("ip link set {far} up"))?;
        self.run(place, &format!("ip route add default via {next}"))?;
        if place == Place::Outside {
            for site in SITES {
                self.run(place, &format!("ip addr add {site}/32 dev lo"))?;
                self.run(Place::Router, &format!("ip route add {site}/32 via {address}"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in Place::ALL.map(|place| self.name(place)) {
            if !etc(&name).exists() {
                continue;
            }
            let mut delete = Command::new("ip");
            delete.args(["netns", "del", &name]);
            if let Err(error) = process::run(&delete) {
                // Nobody may be there to hear it.
                let _ = writeln!(std::io::stderr(), "left behind: network namespace {name}: {error:#}");
            }
            let _ = fs::remove_dir_all(etc(&name));
        }
        let _alone = ETC.lock().unwrap_or_else(PoisonError::into_inner);
        // Succeeds only if it is empty.
        let _ = fs::remove_dir("/etc/netns");
    }
}

/// What tells setpriv whom to become.
pub(super) fn identity(user: u32) -> [String; 3] {
    [
        format!("--reuid={user}"),
        format!("--regid={user}"),
        "--clear-groups".to_owned(),
    ]
}

fn etc(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}
