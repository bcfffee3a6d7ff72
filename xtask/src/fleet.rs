//! `fleet`: three nodes, Prometheus and Alertmanager, and a story of keys. The story itself is a binary
//! of `tests/`, where servers and clients are driven.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{package, setup, shell};

#[derive(Args, Debug)]
pub struct Arguments {
    /// How much faster than real time: 60 makes minutes of hours
    #[arg(long, default_value_t = 60)]
    pace: u32,
    /// Draw what the boards show of it into docs/boards
    #[arg(long)]
    pictures: bool,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the fleet needs network namespaces and agents, which need root, and this is not root. \
             Run it as root"
        );
    }
    setup::for_tests()?;
    package::binary()?;
    shell::run(&mut shell::cargo(&[
        "build",
        "--workspace",
        "--bin",
        "fleet",
    ]))?;
    let mut fleet = Command::new(shell::target().join("debug/fleet"));
    fleet.args(["--pace", &arguments.pace.to_string()]);
    if arguments.pictures {
        fleet
            .arg("--pictures")
            .arg(shell::root().join("docs/boards"));
    }
    shell::exec(fleet.env("RESUMETRY_BIN", package::directory().join("resumetry")))
}
