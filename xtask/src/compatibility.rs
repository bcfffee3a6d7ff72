//! `compatibility`: the matrix of servers, and the page that tells of it.

use anyhow::Result;
use clap::Args;

use crate::{package, setup, shell, test};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Write docs/compatibility.md instead of comparing with it
    #[arg(long)]
    write: bool,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    setup::for_tests()?;
    package::binary()?;
    let mut command = test::end_to_end_tests(&["--test", "compatibility"]);
    command.arg("--nocapture");
    if arguments.write {
        command.env("RESUMETRY_WRITE", "1");
    }
    shell::run(&mut command)
}
