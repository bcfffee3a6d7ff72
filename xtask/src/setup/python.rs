//! What tests run from the Python package index, in an environment under `target/`: the system's own
//! packages stay as they are.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::shell;

/// Debian keeps what makes environments apart from Python.
const PACKAGE: &str = "python3-venv";

/// Installs what `tests/requirements.txt` names, when that changed.
pub fn install() -> Result<()> {
    let wanted = fs::read_to_string(shell::root().join("tests/requirements.txt"))?;
    let environment = shell::target().join("python");
    let installed = environment.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("packages from the Python index are missing: installing them under target/");
    if environment.exists() {
        fs::remove_dir_all(&environment)?;
    }
    if create(&environment).is_err() {
        apt::install(&[PACKAGE])?;
        create(&environment)?;
    }
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(shell::root().join("tests/requirements.txt"));
    shell::run(&mut pip).context("tests cannot do without these packages")?;
    fs::write(installed, wanted)?;
    Ok(())
}

fn create(environment: &std::path::Path) -> Result<()> {
    // Not one of another origin that comes first in the path.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-m", "venv", "--clear"]).arg(environment);
    shell::run(&mut python)
}
