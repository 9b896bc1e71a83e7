//! The rules as text for `iptables-restore --noflush`, where a chain that is declared is emptied, and a table changes as a
//! whole or not at all.

use std::fmt::Write;

use super::{Capture, Family};

/// What our rules hang from.
pub(super) const JUMP: &str = "OUTPUT -p tcp -j SALLYPORT_OUTPUT";
const OUTPUT: &str = "SALLYPORT_OUTPUT";
const REDIRECT: &str = "SALLYPORT_REDIRECT";

/// A table of the packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Where connections are redirected.
    Nat,
    /// Where connections are refused.
    Filter,
}

impl Table {
    pub(super) const ALL: [Self; 2] = [Self::Nat, Self::Filter];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    fn chains(self) -> &'static [&'static str] {
        match self {
            Self::Nat => &[OUTPUT, REDIRECT],
            Self::Filter => &[OUTPUT],
        }
    }
}

impl Family {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn tool(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }
}

impl Capture {
    /// The rules of a family, for `iptables-restore --noflush` or `ip6tables-restore --noflush` on a machine without them.
    pub fn rules(&self, family: Family) -> String {
        self.table(family, true)
    }

    /// The same where the jump to our chain may be there already.
    pub(super) fn table(&self, family: Family, with_jump: bool) -> String {
        let table = self.table_of(family);
        let mut lines = Vec::new();
        if table == Table::Nat {
            lines.push(format!("-A {REDIRECT} -p tcp -j REDIRECT --to-ports {}", self.port));
        }
        // What stays on the machine, then what the sidecar sends.
        for exempt in [
            "-o lo".to_owned(),
            format!("-d {}", family.loopback()),
            format!("-m owner --uid-owner {}", self.user),
            format!("-m owner --gid-owner {}", self.group),
        ] {
            lines.push(format!("-A {OUTPUT} {exempt} -j RETURN"));
        }
        lines.push(match table {
            Table::Nat => format!("-A {OUTPUT} -j {REDIRECT}"),
            Table::Filter => format!("-A {OUTPUT} -p tcp -j REJECT --reject-with tcp-reset"),
        });
        if with_jump {
            // Ahead of everybody else's rules, which could lead past ours.
            lines.push(format!("-I {JUMP}"));
        }
        transaction(table, &lines)
    }

    /// Where the rules of a family go: the sidecar's own is redirected, the other one refused.
    pub(super) fn table_of(&self, family: Family) -> Table {
        match family == self.family {
            true => Table::Nat,
            false => Table::Filter,
        }
    }
}

/// Takes our chains out of a table, whether they are there or not.
pub(super) fn removal(table: Table, with_jump: bool) -> String {
    let jump = with_jump.then(|| format!("-D {JUMP}"));
    let chains = table.chains().iter().map(|chain| format!("-X {chain}"));
    transaction(table, &jump.into_iter().chain(chains).collect::<Vec<_>>())
}

fn transaction(table: Table, lines: &[String]) -> String {
    let mut text = format!("*{}\n", table.name());
    for chain in table.chains() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("COMMIT\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_sidecars_own_is_redirected() {
        let expected = "\
*nat
:SALLYPORT_OUTPUT - [0:0]
:SALLYPORT_REDIRECT - [0:0]
-A SALLYPORT_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A SALLYPORT_OUTPUT -o lo -j RETURN
-A SALLYPORT_OUTPUT -d 127.0.0.0/8 -j RETURN
-A SALLYPORT_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A SALLYPORT_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A SALLYPORT_OUTPUT -j SALLYPORT_REDIRECT
-I OUTPUT -p tcp -j SALLYPORT_OUTPUT
COMMIT
";
        assert_eq!(Capture::default().rules(Family::V4), expected);
    }

    #[test]
    fn the_family_without_a_listener_is_refused() {
        let expected = "\
*filter
:SALLYPORT_OUTPUT - [0:0]
-A SALLYPORT_OUTPUT -o lo -j RETURN
-A SALLYPORT_OUTPUT -d ::1/128 -j RETURN
-A SALLYPORT_OUTPUT -m owner --uid-owner 7 -j RETURN
-A SALLYPORT_OUTPUT -m owner --gid-owner 8 -j RETURN
-A SALLYPORT_OUTPUT -p tcp -j REJECT --reject-with tcp-reset
-I OUTPUT -p tcp -j SALLYPORT_OUTPUT
COMMIT
";
        let capture = Capture {
            user: 7,
            group: 8,
            ..Capture::default()
        };
        assert_eq!(capture.rules(Family::V6), expected);
    }

    #[test]
    fn a_sidecar_on_ipv6_captures_ipv6() {
        let capture = Capture {
            family: Family::V6,
            port: 15002,
            ..Capture::default()
        };
        let rules = capture.rules(Family::V6);
        assert!(
            rules.starts_with("*nat\n") && rules.contains("--to-ports 15002\n"),
            "{rules}"
        );
        assert!(capture.rules(Family::V4).starts_with("*filter\n"));
    }

    #[test]
    fn what_is_there_already_is_not_added_again() {
        let again = Capture::default().table(Family::V4, false);
        assert_eq!(
            again,
            Capture::default()
                .rules(Family::V4)
                .replace("-I OUTPUT -p tcp -j SALLYPORT_OUTPUT\n", "")
        );
    }

    #[test]
    fn removing_deletes_the_jump_before_its_chain() {
        let expected = "\
*nat
:SALLYPORT_OUTPUT - [0:0]
:SALLYPORT_REDIRECT - [0:0]
-D OUTPUT -p tcp -j SALLYPORT_OUTPUT
-X SALLYPORT_OUTPUT
-X SALLYPORT_REDIRECT
COMMIT
";
        assert_eq!(removal(Table::Nat, true), expected);
        assert!(!removal(Table::Filter, false).contains("-D"));
    }
}
