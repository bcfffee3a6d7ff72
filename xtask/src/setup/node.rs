//! What tests run from the npm registry, under `target/`: the schemas of Kubernetes operators, and what
//! drives the built-in page in a browser.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// What decides what is installed, and what is run there.
const FILES: [&str; 4] = [
    "package.json",
    "package-lock.json",
    "page.mjs",
    "validate.mjs",
];

/// Installs what `tests/node` names, when that changed.
pub fn install() -> Result<()> {
    let wanted = shell::root().join("tests/node");
    let installed = shell::target().join("node");
    let is_same = |name: &&str| {
        let read = |directory: &std::path::Path| fs::read(directory.join(name)).ok();
        read(&installed).is_some() && read(&installed) == read(&wanted)
    };
    if installed.join("installed").exists() && FILES.iter().all(is_same) {
        return Ok(());
    }
    eprintln!("packages from the npm registry are missing: installing them under target/");
    if installed.exists() {
        fs::remove_dir_all(&installed)?;
    }
    fs::create_dir_all(&installed)?;
    for name in FILES {
        fs::copy(wanted.join(name), installed.join(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    shell::run(npm.current_dir(&installed)).context("tests cannot do without these packages")?;
    Ok(fs::write(installed.join("installed"), "")?)
}
