//! Which host may connect where: an ordered list of rules, the first that covers a connection decides.
//!
//! Models what the tutorial sets up around the cluster (VPC firewall rules), as far as TCP connections leaving a host go. A
//! connection that no rule covers is refused. What the firewall stops looks to the dialler like an unreachable host, at once,
//! rather than as silence until its own timeout.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;

/// The rules, in order of priority.
#[derive(Debug, Default)]
pub struct Firewall {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as an operator knows it.
    pub name: &'static str,
    /// What happens to connections it covers.
    pub verdict: Verdict,
    /// The dialling hosts it covers.
    pub from: Vec<IpNet>,
    /// The destinations it covers.
    pub to: Vec<IpNet>,
    /// The destination ports it covers; empty means all.
    pub ports: Vec<u16>,
    hits: AtomicU64,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Lets the connection through.
    Allow,
    /// Stops it.
    Deny,
}

/// A connection that was stopped. Found inside the [`io::Error`] of a dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The rule that decided, `None` if no rule covered the connection.
    pub rule: Option<&'static str>,
    /// The dialling host.
    pub from: IpAddr,
    /// Where it wanted to go.
    pub to: SocketAddr,
}

impl Rule {
    /// A rule for all ports.
    pub fn new(name: &'static str, verdict: Verdict, from: Vec<IpNet>, to: Vec<IpNet>) -> Self {
        Self {
            name,
            verdict,
            from,
            to,
            ports: Vec::new(),
            hits: AtomicU64::new(0),
        }
    }

    /// Narrows the rule to some destination ports.
    pub fn on_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ports.into_iter().collect();
        self
    }

    fn covers(&self, from: IpAddr, to: SocketAddr) -> bool {
        let within = |nets: &[IpNet], ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
        within(&self.from, &from)
            && within(&self.to, &to.ip())
            && (self.ports.is_empty() || self.ports.contains(&to.port()))
    }
}

impl Firewall {
    /// A firewall from rules in order of priority.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Lets a connection through or says who stopped it.
    ///
    /// # Errors
    /// `HostUnreachable` with a [`Blocked`] inside.
    pub fn check(&self, from: IpAddr, to: SocketAddr) -> io::Result<()> {
        let rule = self.rules.iter().find(|rule| rule.covers(from, to));
        if let Some(rule) = rule {
            rule.hits.fetch_add(1, Ordering::Relaxed);
        }
        match rule.map(|rule| (rule.name, rule.verdict)) {
            Some((_, Verdict::Allow)) => Ok(()),
            other => {
                let rule = other.map(|(name, _)| name);
                Err(io::Error::new(
                    io::ErrorKind::HostUnreachable,
                    Blocked { rule, from, to },
                ))
            }
        }
    }

    /// How many connections a rule has decided so far; 0 for an unknown name.
    pub fn hits(&self, name: &str) -> u64 {
        let rule = self.rules.iter().find(|rule| rule.name == name);
        rule.map_or(0, |rule| rule.hits.load(Ordering::Relaxed))
    }
}

impl Blocked {
    /// Finds the firewall's verdict in the error of a dial.
    pub fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.rule.unwrap_or("no rule allows it");
        write!(f, "no route to host {}: stopped by the firewall ({rule})", self.to)
    }
}

impl Error for Blocked {}
