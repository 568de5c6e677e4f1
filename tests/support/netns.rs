//! A network namespace for the test process, where pods have addresses: the apiserver refuses
//! loopback ones in EndpointSlices, so here all of 10.244.0.0/16 is local and can be listened on.
//!
//! It needs no root where unprivileged user namespaces are allowed.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Set in the environment of a process that is inside.
const INSIDE: &str = "POSTERN_TEST_NETWORK_NAMESPACE";

/// The sbin folders are missing from an ordinary user's PATH on Debian, and `ip` is there.
const SETUP: &str = r#"(
    PATH="$PATH:/usr/sbin:/sbin"
    ip link set lo up && ip route add local 10.244.0.0/16 dev lo
)"#;

/// As root a user namespace would only take rights away; anyone else needs one.
const NAMESPACES: [&str; 2] = ["-n", "-Urn"];

/// Moves the process into a network namespace of its own, unless it is in one already.
///
/// The first call does not return: it executes the test binary anew, with the same arguments,
/// inside the namespace. Hence every test calls this before anything that has effects, and
/// libtest's "running N tests" stands twice in the output. It is an `exec` and no child process,
/// so whoever runs the tests still signals, kills and waits for the right process.
pub fn enter() -> Result<()> {
    // libtest runs tests in threads, and all of them come here: the rest wait for the `exec`.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    if inside() {
        return Ok(());
    }
    let namespace = working_namespace()?;
    let binary = env::current_exe().context("finding the test binary")?;
    let failed = Command::new("unshare")
        .args([namespace, "sh", "-c"])
        .arg(format!(r#"{SETUP} && exec "$0" "$@""#))
        .arg(binary)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(failed).context("executing the tests inside a network namespace")
}

pub fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Tries each way on a namespace that is thrown away: after the `exec` there is nobody left to
/// explain a failure.
fn working_namespace() -> Result<&'static str> {
    let mut failures = String::new();
    for namespace in NAMESPACES {
        let output = Command::new("unshare")
            .args([namespace, "sh", "-c", SETUP])
            .stdin(Stdio::null())
            .output()
            .context("running unshare (Debian package util-linux)")?;
        if output.status.success() {
            return Ok(namespace);
        }
        failures += &format!("\nunshare {namespace}: ");
        failures += String::from_utf8_lossy(&output.stderr).trim_end();
    }
    bail!(
        "these tests need a network namespace, which could not be set up. They need `ip` (Debian \
         package iproute2), and root or unprivileged user namespaces.{failures}"
    )
}
