//! `sallyport capture`.

use std::{io::Write, process::ExitCode};

use ::sidecar::capture::{Capture, Family, PORT, USER};

const EXAMPLES: &str = "\
Examples:
  # see what would be done
  sallyport capture --print

  # in a pod's network namespace, as root, before the application starts
  sallyport capture
  setpriv --reuid=1337 --regid=1337 --clear-groups sallyport sidecar …

  # undo it
  sallyport capture --remove";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Port of the sidecar for redirected connections
    #[arg(long, value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// User and group that the sidecar runs as: their connections are left alone
    #[arg(long, value_name = "ID", default_value_t = USER)]
    user: u32,
    /// Take the rules away again
    #[arg(long, conflicts_with = "print")]
    remove: bool,
    /// Only print the rules, as iptables-restore reads them
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let capture = Capture {
        port: args.port,
        user: args.user,
        group: args.user,
        family: Family::V4,
    };
    if args.print {
        write!(out, "{}", capture.rules(Family::V4))?;
    } else if args.remove {
        Capture::remove()?;
    } else {
        capture.apply()?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_can_be_read_before_they_are_applied() {
        let args = Args {
            port: 15001,
            user: 1337,
            remove: false,
            print: true,
        };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        let rules = String::from_utf8(out).unwrap();
        assert!(rules.contains("15001") && rules.contains("1337"), "{rules}");
    }
}
