//! What is put in the agent's place, to compare with.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use resumetry_tests::agent;
use resumetry_tests::process::Owned;
use resumetry_tests::wait;
use rustix::process::Signal;

/// Programs that do nothing at the hook of the wire tap, as long as it lives.
pub struct EmptyPair {
    _process: Owned,
}

impl EmptyPair {
    /// Starts `examples/empty_pair`, which lies beside the agent's binary.
    pub fn start(cgroup: &Path) -> Result<Self> {
        let binary = agent::binary().with_file_name("examples/empty_pair");
        let mut child = Command::new(&binary)
            .arg(cgroup)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!(
                    "cannot run {}; `cargo build --release --examples` builds it",
                    binary.display()
                )
            })?;
        let output = child.stdout.take().context("no standard output")?;
        let process = Owned::new(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("{} did not attach", binary.display());
        }
        Ok(Self { _process: process })
    }
}

/// The tool that people reach for: counts entries and returns of `SSL_do_handshake` by process.
pub struct Bpftrace {
    process: Owned,
    output: tempfile::NamedTempFile,
}

impl Bpftrace {
    pub fn start(library: &str) -> Result<Self> {
        let script = format!(
            "BEGIN {{ printf(\"attached\\n\"); }} \
             uprobe:{library}:SSL_do_handshake {{ @entries[pid] = count(); }} \
             uretprobe:{library}:SSL_do_handshake {{ @returns[pid] = count(); }}"
        );
        let output = tempfile::NamedTempFile::new()?;
        let child = Command::new("bpftrace")
            .args(["-e", &script])
            .stdin(Stdio::null())
            .stdout(File::create(output.path())?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run bpftrace; is it installed? (--no-bpftrace leaves it out)")?;
        let mut process = Owned::new(child);
        let path = output.path().to_owned();
        let mut text = String::new();
        let attached = wait::until(Duration::from_secs(30), || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.contains("Attaching") || !process.is_running()
        });
        if !attached || !process.is_running() {
            bail!("bpftrace did not attach: {text}");
        }
        // It says so before it does so; and its own line comes late when it is buffered.
        std::thread::sleep(Duration::from_secs(1));
        Ok(Self { process, output })
    }

    /// Ends the script; true when it saw `pid`.
    pub fn finish(mut self, pid: u32) -> Result<bool> {
        // On SIGINT it prints its maps.
        self.process.signal(Signal::INT)?;
        self.process
            .wait(Duration::from_secs(20))
            .context("bpftrace did not end")?;
        let text = fs::read_to_string(self.output.path())?;
        Ok([format!("@entries[{pid}]"), format!("@returns[{pid}]")]
            .iter()
            .all(|entry| text.contains(entry)))
    }
}
