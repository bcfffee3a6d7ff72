//! `build`: the agent.

use anyhow::Result;
use clap::Args;

use crate::setup;
use crate::shell;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Optimise: what users run and tests test
    #[arg(long)]
    release: bool,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    setup::for_build()?;
    if arguments.release {
        return release();
    }
    shell::run(&mut shell::cargo(&["build", "--package", "resumetry"]))
}

/// Builds `target/release/resumetry`; what the build needs must be installed.
pub fn release() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "--package",
        "resumetry",
    ]))
}
