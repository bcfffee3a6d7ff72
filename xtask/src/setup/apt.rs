//! Debian's packages.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Runs the arguments while `policy-rc.d` forbids packages to start their services, so that
/// installing nginx for a test leaves ports 80 and 443 alone. A policy that is there already
/// stays in force. The trap removes ours also when the user interrupts.
const WITHOUT_SERVICES: &str = r#"
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] && exec "$@"
trap 'rm -f "$policy"' EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\n# Temporary, by "cargo xtask setup"; may be deleted.\nexit 101\n' >"$policy"
chmod 755 "$policy"
"$@"
"#;

/// Packages that bring a service, and its name.
const SERVICES: [(&str, &str); 7] = [
    ("nginx", "nginx"),
    ("lighttpd", "lighttpd"),
    ("hitch", "hitch"),
    ("stunnel4", "stunnel4"),
    ("haproxy", "haproxy"),
    ("dovecot-imapd", "dovecot"),
    ("postgresql-15", "postgresql"),
];

/// Options of every call: wait for another apt rather than fail, ask nothing, and end rather than
/// remove a package (rustc-web conflicts with Debian's rustc and rustup).
const OPTIONS: [&str; 5] = [
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "Dpkg::Use-Pty=0",
    "-q",
];

pub fn install(packages: &[&str]) -> Result<()> {
    let line = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if shell::find_program("apt-get").is_none() {
        bail!(
            "this is no Debian-like system (there is no apt-get): install the equivalents of \
             {} by its own means, then run this again. For the kernel half, `rustup toolchain \
             install nightly --component rust-src` and an LLVM 22 with headers do as well",
            packages.join(", ")
        );
    }
    if !shell::is_root() {
        bail!(
            "installing packages needs root, and this is not root. Run `sudo apt-get update && \
             sudo {line}`, then this command again"
        );
    }
    // Old package lists are often good enough, so this failing is not the end.
    if let Err(error) = apt_get(&["update"], &[]) {
        eprintln!("warning: {error:#}; trying with the package lists of last time");
    }
    let arguments = ["install", "--yes", "--no-remove", "--no-install-recommends"];
    apt_get(&arguments, packages).with_context(|| {
        format!(
            "cannot install packages. See apt's message above: no network or mirror (check \
             /etc/apt/sources.list), another apt holding the lock (wait for it), a conflict \
             with packages that are installed, or a release without one of them (Debian 12 has \
             all). By hand: `{line}`"
        )
    })?;
    disable_services(packages);
    Ok(())
}

/// Keeps services that came with the packages from starting at the next boot: the tests run
/// servers of their own.
fn disable_services(packages: &[&str]) {
    if shell::find_program("systemctl").is_none() {
        return;
    }
    for (package, service) in SERVICES {
        if packages.contains(&package) {
            let mut systemctl = Command::new("systemctl");
            if let Err(error) = shell::run(systemctl.args(["--quiet", "disable", service])) {
                eprintln!("warning: {service} may start at the next boot: {error:#}");
            }
        }
    }
}

fn apt_get(arguments: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = Command::new("sh");
    command
        .args(["-c", WITHOUT_SERVICES, "sh", "apt-get"])
        .args(OPTIONS)
        .args(arguments)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Or needrestart restarts unrelated services of this machine.
        .env("NEEDRESTART_SUSPEND", "1");
    let line = [&["apt-get"], arguments, packages].concat().join(" ");
    shell::run_as(&mut command, &line)
}
