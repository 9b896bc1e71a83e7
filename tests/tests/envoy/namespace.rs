//! A network of its own: what Envoy listens on are the ports that the resources name, which nobody else may have.
//!
//! The test program starts itself again inside a network namespace with nothing but loopback.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// Set inside.
const INSIDE: &str = "SALLYPORT_TEST_NAMESPACE";

/// Whether this program has the network to itself; does not return where it can be had and is not yet.
pub(crate) fn entered() -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(way) = ways().into_iter().find(|way| possible(way)) else {
        return false;
    };
    let program = env::current_exe().unwrap();
    let error = enter(&way, r#"exec "$@""#)
        .arg("sh")
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    panic!("unshare: {error}");
}

/// As root; and as anybody, where the kernel lets anybody.
fn ways() -> [Vec<&'static str>; 2] {
    [vec!["--net"], vec!["--user", "--map-root-user", "--net"]]
}

fn enter(way: &[&str], then: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(way)
        .args(["sh", "-c", &format!("ip link set lo up && {then}")]);
    command
}

fn possible(way: &[&str]) -> bool {
    let mut command = enter(way, "true");
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
