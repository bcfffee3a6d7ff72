//! `run`: from a fresh clone to a running agent.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{build, setup, shell};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Handed to `resumetry run`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    // Before a build of minutes, not after it.
    if !shell::is_root() {
        bail!(
            "running the agent needs root, or CAP_BPF (load programs), CAP_PERFMON (attach to \
             TLS libraries), CAP_NET_ADMIN (attach to the cgroup's sockets) and CAP_SYS_PTRACE \
             (find the libraries of other users' processes); this is not root. Building needs \
             none of that: `cargo xtask build --release && sudo {} run`",
            shell::release_binary("resumetry").display()
        );
    }
    setup::for_build()?;
    build::release()?;
    let listen = |name: &OsString| name.to_string_lossy().starts_with("--listen");
    if !arguments.arguments.iter().any(listen) && env::var_os("RESUMETRY_LISTEN").is_none() {
        eprintln!(
            "look at http://127.0.0.1:9650/metrics, or, in another terminal, at\n  {} trace",
            shell::release_binary("resumetry").display()
        );
    }
    let mut agent = Command::new(shell::release_binary("resumetry"));
    shell::exec(agent.arg("run").args(&arguments.arguments))
}
