//! The oldest Debian that packages are tried on, with systemd and a server, under `target/foreign`:
//! tests start it in namespaces of its own, over a copy-on-write layer.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::foreign;
use crate::shell;

const RELEASE: &str = "bullseye";
const PACKAGES: &str = "systemd,nginx-light,openssl";

/// Makes the root where there is none yet.
pub fn fetch() -> Result<()> {
    let root = shell::target().join("foreign/debian-root");
    if root.is_dir() {
        return Ok(());
    }
    eprintln!(
        "a root of Debian's {RELEASE} is missing: making it for tests to install packages in"
    );
    let partial = root.with_extension("partial");
    // What an interrupted attempt left.
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let mirror = foreign::mirror_or_default();
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--include={PACKAGES}")])
        .arg(format!("--keyring={}", foreign::KEYRING))
        .arg(RELEASE)
        .arg(&partial)
        .arg(&mirror)
        // It tells of every package.
        .stdout(std::process::Stdio::null());
    let line = format!("debootstrap --variant=minbase --include={PACKAGES} {RELEASE}");
    shell::run_as(&mut debootstrap, &line)
        .with_context(|| format!("see {}/debootstrap/debootstrap.log", partial.display()))?;
    fs::rename(partial, root)?;
    Ok(())
}
