//! The agent, run as its users run it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;

use crate::process::Owned;
use crate::wait;

/// The part of a handshake record that tests look at (see the record's documentation).
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub role: String,
    #[serde(default)]
    pub network: Network,
    pub client: Endpoint,
    pub server: Endpoint,
    #[serde(default)]
    pub process: Process,
    #[serde(default)]
    pub service: Named,
    #[serde(default)]
    pub container: Identified,
    pub k8s: Option<Kubernetes>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub tls: Tls,
    pub resumption: Resumption,
    pub early_data: EarlyData,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    pub cpu: Cpu,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Kubernetes {
    pub namespace: Named,
    pub pod: Named,
    pub container: Named,
}

impl From<Option<String>> for Named {
    fn from(name: Option<String>) -> Self {
        Self { name }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Named {
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Identified {
    pub id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Cpu {
    pub handshake_seconds: Option<f64>,
    pub primitives: Option<Primitives>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Primitives {
    pub sign_seconds: f64,
    pub key_generation_seconds: f64,
    pub key_agreement_seconds: f64,
    pub verify_seconds: f64,
    pub ticket_seconds: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Timing {
    pub handshake_seconds: Option<f64>,
    pub time_to_first_byte_seconds: Option<f64>,
    pub response_wait_seconds: Option<f64>,
    pub rtt_seconds: Option<f64>,
    #[serde(default)]
    pub sources: Sources,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Sources {
    pub handshake: Option<String>,
    pub time_to_first_byte: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Network {
    #[serde(default)]
    pub transport: String,
    pub peer: Option<Endpoint>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Process {
    pub pid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tls {
    pub established: bool,
    pub resumed: bool,
    pub failure: Option<String>,
    #[serde(default)]
    pub protocol: Protocol,
    pub cipher: Option<String>,
    #[serde(default)]
    pub client: TlsClient,
    pub hello_retry: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Protocol {
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct TlsClient {
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Resumption {
    pub offered: String,
    pub method: String,
    pub reject_reason: Option<String>,
    pub reject_source: Option<String>,
    pub wire_reject_reason: Option<String>,
    pub ticket: Ticket,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct EarlyData {
    pub offered: Option<bool>,
    pub sent: Option<bool>,
    pub accepted: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Ticket {
    pub key: Option<String>,
    pub weak_key: Option<bool>,
    pub age_seconds: Option<f64>,
    pub lifetime_seconds: Option<f64>,
}

impl Record {
    /// The TCP peer of the server, also behind PROXY protocol.
    pub fn peer(&self) -> SocketAddr {
        self.network.peer.unwrap_or(self.client).socket()
    }

    /// `result` of the metrics.
    pub fn result(&self) -> &'static str {
        match (self.tls.established, self.tls.resumed) {
            (false, _) => "failed",
            (true, true) => "resumed",
            (true, false) => "full",
        }
    }
}

impl Endpoint {
    pub fn socket(self) -> SocketAddr {
        // An IPv4 client of an IPv6 socket is the same client.
        SocketAddr::new(self.address.to_canonical(), self.port)
    }
}

/// The binary under test: `RESUMETRY_BIN`, else the one that is shipped.
pub fn binary() -> PathBuf {
    std::env::var_os("RESUMETRY_BIN").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../target/package/resumetry"
            ))
        },
        PathBuf::from,
    )
}

/// A command of the agent that runs until it is stopped.
#[derive(Debug)]
pub struct Agent {
    process: Owned,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
    ready: Receiver<()>,
}

impl Agent {
    /// Starts `resumetry ARGUMENTS` and waits for its line `ready`.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let agent = Self::spawn(arguments)?;
        agent.wait_ready(Duration::from_secs(60))?;
        Ok(agent)
    }

    /// Starts `resumetry ARGUMENTS` without waiting.
    pub fn spawn<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut command = Command::new(binary());
        command.args(arguments);
        Self::spawn_command(command)
    }

    /// Starts the agent by a command of the caller's, e.g. under `setpriv`.
    pub fn spawn_command(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("cannot run {command:?}; build it first: cargo xtask package --binary")
            })?;
        let (ready_sender, ready) = mpsc::channel();
        let stdout = collect(child.stdout.take().context("no stdout")?, |_| {});
        let stderr = collect(child.stderr.take().context("no stderr")?, move |line| {
            if line.starts_with("ready") {
                // Nobody may be waiting any more.
                let _ = ready_sender.send(());
            }
        });
        Ok(Self {
            process: Owned::new(child),
            stdout,
            stderr,
            ready,
        })
    }

    pub fn wait_ready(&self, timeout: Duration) -> Result<()> {
        if self.ready.recv_timeout(timeout).is_err() {
            bail!("the agent did not get ready; it said:\n{}", self.messages());
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// How it ended, when it did.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.process.wait(Duration::ZERO)
    }

    /// Waits until the agent ended (its exit code) or got ready (`None`).
    pub fn settle(&mut self, timeout: Duration) -> Result<Option<i32>> {
        let mut ready = false;
        let settled = wait::until(timeout, || {
            ready = ready || self.ready.try_recv().is_ok();
            ready || !self.process.is_running()
        });
        if !settled {
            bail!("neither ready nor ended; it said:\n{}", self.messages());
        }
        match (ready, self.status()) {
            (true, _) | (_, None) => Ok(None),
            (_, Some(status)) => {
                // The reading thread needs a moment for the last words.
                std::thread::sleep(Duration::from_millis(200));
                status.code().context("ended by a signal").map(Some)
            }
        }
    }

    /// Standard error so far.
    pub fn messages(&self) -> String {
        lock(&self.stderr).join("\n")
    }

    /// Lines of standard output so far.
    pub fn line_count(&self) -> usize {
        lock(&self.stdout).len()
    }

    /// Records so far (`trace --format json`).
    pub fn records(&self) -> Result<Vec<Record>> {
        lock(&self.stdout)
            .iter()
            .map(|line| serde_json::from_str(line).with_context(|| format!("bad record: {line}")))
            .collect()
    }

    /// Records by the ports of the client and the server, once all of `ends` are there or `timeout`
    /// is over.
    pub fn records_of<'a>(
        &self,
        ends: impl Iterator<Item = &'a (u16, u16)> + Clone,
        timeout: Duration,
    ) -> Result<BTreeMap<(u16, u16), Record>> {
        self.records_by_ends(ends, timeout, |_| true)
    }

    /// The same of one role, where both ends of a connection are on this host.
    pub fn records_in_role<'a>(
        &self,
        role: &str,
        ends: impl Iterator<Item = &'a (u16, u16)> + Clone,
        timeout: Duration,
    ) -> Result<BTreeMap<(u16, u16), Record>> {
        self.records_by_ends(ends, timeout, |record| record.role == role)
    }

    fn records_by_ends<'a>(
        &self,
        ends: impl Iterator<Item = &'a (u16, u16)> + Clone,
        timeout: Duration,
        counts: impl Fn(&Record) -> bool,
    ) -> Result<BTreeMap<(u16, u16), Record>> {
        let find = || -> Result<BTreeMap<_, _>> {
            let records = self.records()?.into_iter();
            Ok(records
                .filter(|record| counts(record))
                .map(|record| ((record.peer().port(), record.server.port), record))
                .collect())
        };
        wait::until(timeout, || {
            find().is_ok_and(|records| ends.clone().all(|ends| records.contains_key(ends)))
        });
        find()
    }

    /// Raw lines so far, to show as evidence.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.stdout).clone()
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks the agent to end, as Ctrl-C (`Signal::INT`) or a service manager (`Signal::TERM`) does.
    pub fn finish(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.process
            .wait(Duration::from_secs(20))
            .context("the agent did not end on a signal")
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.child().kill()?;
        self.process.child().wait()?;
        Ok(())
    }
}

/// Reads lines in a thread, which ends with the stream.
fn collect(
    stream: impl Read + Send + 'static,
    mut each: impl FnMut(&str) + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Who is told of a line finds it.
            lock(&sink).push(line.clone());
            each(&line);
        }
    });
    lines
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panicked reader leaves whole lines only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
