//! Child processes that end with the value that owns them.

use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A child that is asked to stop, then killed, when dropped. Only this child is touched.
#[derive(Debug)]
pub struct Owned(Child);

impl Owned {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Starts a server and waits until its ports answer.
    pub fn serving(mut command: Command, ports: &[u16]) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| {
                format!("cannot run {command:?}; `cargo xtask setup --tests` installs it")
            })?;
        let mut process = Self::new(child);
        for &port in ports {
            let answers = wait::until(Duration::from_secs(20), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok() || !process.is_running()
            });
            if !answers || !process.is_running() {
                bail!("{command:?} does not serve port {port}");
            }
        }
        Ok(process)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The process that it started first, while both are there.
    pub fn first_child(&self) -> Option<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.id());
        let children = std::fs::read_to_string(path).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            bail!("process {} is gone", self.id());
        }
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("process id out of range")?, signal)?;
        Ok(())
    }

    /// Waits for the end; `None` after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait::until(timeout, || {
            status = self.0.try_wait().ok().flatten();
            status.is_some()
        });
        status
    }

    /// SIGTERM, then SIGKILL where that does not help within `grace`.
    pub fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        if self.is_running() {
            // The process may end between the check and the signal: then there is nothing to do.
            let _ = self.signal(Signal::TERM);
        }
        self.wait(grace).or_else(|| {
            let _ = self.0.kill();
            self.0.wait().ok()
        })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}
