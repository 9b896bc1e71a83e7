//! `sallyport sidecar capture`.

use std::{io::Write, process::ExitCode};

use ::sidecar::capture::{Capture, Family, PORT, USER};
use clap::{Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  # in the pod's network namespace, before the application starts
  sallyport sidecar capture apply

  # what that does
  sallyport sidecar capture print | iptables-restore --noflush
  sallyport sidecar capture print --family v6 | ip6tables-restore --noflush

  # the sidecar's own connections are left alone, so it runs as that user
  setpriv --reuid 1337 --regid 1337 --clear-groups sallyport sidecar …";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lead the outbound TCP connections of this network namespace to the sidecar; needs root
    Apply(Rules),
    /// Take the rules away; needs root
    Remove,
    /// Show the rules as iptables-restore reads them
    Print {
        #[command(flatten)]
        rules: Rules,
        /// The family whose rules to show
        #[arg(long, value_enum, default_value_t = Shown::V4)]
        family: Shown,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Rules {
    /// The sidecar's port for redirected connections
    #[arg(long, value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// User that the sidecar runs as
    #[arg(long, value_name = "UID", default_value_t = USER)]
    user: u32,
    /// Group that the sidecar runs as
    #[arg(long, value_name = "GID", default_value_t = USER)]
    group: u32,
    /// The pod's addresses are IPv6: redirect those and refuse IPv4, instead of the other way round
    #[arg(long)]
    ipv6: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shown {
    V4,
    V6,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Apply(rules) => rules.capture().apply()?,
        Action::Remove => Capture::remove()?,
        Action::Print { rules, family } => write!(out, "{}", rules.capture().rules(family.into()))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Rules {
    fn capture(self) -> Capture {
        Capture {
            port: self.port,
            user: self.user,
            group: self.group,
            family: if self.ipv6 { Family::V6 } else { Family::V4 },
        }
    }
}

impl From<Shown> for Family {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::V4 => Self::V4,
            Shown::V6 => Self::V6,
        }
    }
}
