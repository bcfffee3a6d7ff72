//! Keeps a pair of programs that do nothing at the hook of the wire tap, until SIGTERM or Ctrl-C:
//! the reference against which the overhead benchmark holds the wire tap. Its argument is the
//! cgroup2 directory, the root where there is none.

use std::{os::fd::AsFd, path::PathBuf};

use anyhow::{Context, Result};
use resumetry::probe::{self, KernelHalf, LoadOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let cgroup = probe::open_cgroup(directory.as_deref())?;
    let mut half = KernelHalf::load(LoadOptions {
        ring_bytes: agent_common::limits::RING_BYTES,
        library_tap: false,
        responses: 0,
        task: None,
        established: None,
    })?;
    half.attach_empty_pair(cgroup.as_fd())?;
    println!("ready");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot wait for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
