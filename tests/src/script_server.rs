//! TLS servers in other languages, which drive OpenSSL in ways of their own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::certs::Files;
use crate::process::Owned;
use crate::timed_server::Times;

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct ScriptServer {
    process: Owned,
    pub port: u16,
    times: Times,
}

impl ScriptServer {
    /// Python's `ssl` on `MemoryBIO`, as asyncio uses it. It measures itself. Where `swapped`, in two
    /// threads that send each other's output, and serve two clients in step.
    pub fn python(files: &Files, swapped: bool) -> Result<Self> {
        let last: &[_] = if swapped { &["swapped"] } else { &[] };
        Self::start_with(
            python(include_str!("programs/memory_server.py")),
            files,
            last,
        )
    }

    /// asyncio itself.
    pub fn asyncio(files: &Files) -> Result<Self> {
        Self::start(python(include_str!("programs/asyncio_server.py")), files)
    }

    /// Node, whose OpenSSL is driven by `SSL_read` alone.
    pub fn node(files: &Files) -> Result<Self> {
        let mut command = Command::new("node");
        command.args(["-e", include_str!("programs/server.js"), "--"]);
        Self::start(command, files)
    }

    /// A program that takes a certificate and its key, and prints its port.
    pub fn start(command: Command, files: &Files) -> Result<Self> {
        Self::start_with(command, files, &[])
    }

    fn start_with(mut command: Command, files: &Files, last: &[&str]) -> Result<Self> {
        let mut child = command
            .arg(&files.certificate)
            .arg(&files.key)
            .args(last)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("cannot run {command:?}; `cargo xtask setup --tests` installs it")
            })?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let process = Owned::new(child);
        let port = lines.next().context("the server ended")??.trim().parse()?;
        let times = Times::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&times);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((port, nanoseconds)) = line.split_once(' ')
                    && let (Ok(port), Ok(nanoseconds)) = (port.parse(), nanoseconds.parse())
                {
                    let mut times = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    times.insert(port, nanoseconds);
                }
            }
        });
        Ok(Self {
            process,
            port,
            times,
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// CPU time of the handshakes so far, nanoseconds, by the client's port; of a server that
    /// measures itself.
    pub fn times(&self) -> BTreeMap<u16, u64> {
        self.times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    command
}
