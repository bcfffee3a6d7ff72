//! `demo`: the agent watching an nginx of its own. The demo itself is a binary of `tests/`, where
//! servers and clients are driven.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, setup, shell};

pub fn command() -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the demo runs the agent, which needs root (see `cargo xtask run`), and this is not \
             root. Run it as root"
        );
    }
    setup::for_tests()?;
    build::release()?;
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "--package",
        "resumetry-tests",
        "--bin",
        "demo",
    ]))?;
    let mut demo = Command::new(shell::release_binary("demo"));
    shell::exec(demo.env("RESUMETRY_BIN", shell::release_binary("resumetry")))
}
