//! Whether the rules would capture the sidecar itself, whose connections would then go round in circles.

use std::{fs, io};

use super::Capture;

impl Capture {
    /// Whether the rules leave this process's own connections alone.
    ///
    /// # Errors
    /// The kernel does not say who we are.
    pub fn exempts_this_process(&self) -> io::Result<bool> {
        let status = fs::read_to_string("/proc/self/status")?;
        Ok(self.exempts(&status))
    }

    fn exempts(&self, status: &str) -> bool {
        owner(status, "Uid:") == Some(self.user) || owner(status, "Gid:") == Some(self.group)
    }
}

/// The last of the four ids of a line: the one that sockets belong to (proc(5)).
fn owner(status: &str, key: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix(key))?;
    ids.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecars_user_or_group_is_enough() {
        for (status, expected) in [
            ("Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n", false),
            ("Name:\tx\nUid:\t1337\t1337\t1337\t1337\nGid:\t0\t0\t0\t0\n", true),
            ("Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t1\t1\t1\t1337\n", true),
            ("Name:\tx\nUid:\t1337\t0\t0\t0\nGid:\t0\t0\t0\t0\n", false),
            ("", false),
        ] {
            assert_eq!(Capture::default().exempts(status), expected, "{status}");
        }
    }

    #[test]
    fn the_kernel_says_who_we_are() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ours = Capture {
            user: owner(&status, "Uid:").unwrap(),
            ..Capture::default()
        };
        assert!(ours.exempts_this_process().unwrap());
    }
}
